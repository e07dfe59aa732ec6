"""Boxes around heat: what stands out of a map, as rectangles in a picture."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.maps.geometry import Frame, Grid
from cam.maps.projection import project

Box = tuple[int, int, int, int]

_ROUNDING = 1e-6  # pixels: an edge between two of them belongs to neither


def component_boxes(mask: NDArray[np.bool_]) -> list[Box]:
    """Draw a box around each connected component of a mask, corners counting as connected.

    Args:
        mask: (H, W) bool.

    Returns:
        Boxes (x0, y0, x1, y1) in pixels, ends excluded, that of the component with most pixels first; of equal ones
        the topmost, then the leftmost. None in a mask without pixels.

    Example:
        >>> component_boxes(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], bool))
        [(2, 1, 4, 2), (0, 0, 1, 1)]
    """
    if not mask.size:  # OpenCV would crash
        return []
    pixels, quickest = mask.astype(np.uint8), cv2.CCL_BBDT  # OpenCV's own choice takes half as long again
    _, _, found, _ = cv2.connectedComponentsWithStatsWithAlgorithm(pixels, 8, cv2.CV_32S, quickest)
    ranked = sorted(found[1:].tolist(), key=lambda stats: (-stats[4], stats[1], stats[0]))  # the first is what is left
    return [(x, y, x + width, y + height) for x, y, width, height, _ in ranked]


def boxes_of(cam: NDArray[np.floating], grid: Grid, frame: Frame, share: float = 0.2) -> list[Box]:
    """Draw boxes around the heat above a share of its maximum (Zhou et al. 2016, section 3.2).

    The heat is looked at with the pixels of the network's input, so that edges are true to one of those.

    Args:
        cam: (h, w), any unit.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.
        share: of the maximum, above 0 and below 1.

    Returns:
        Boxes (x0, y0, x1, y1) in pixels of the photograph, ends excluded, that of the largest component first;
        none where there is no positive evidence.

    Example:
        >>> frame = Frame((8, 16), (4, 8), (0, 0), (4, 8))
        >>> boxes_of(np.array([[0.0, 4.0]]), Grid((1.5, 1.5), (4, 4), "stretched"), frame, share=0.5)
        [(8, 0, 16, 8)]
    """
    heat = project(cam, grid, Frame(frame.input, frame.input, (0, 0), frame.input))
    peak = heat.max()
    if not peak > 0:
        return []
    boxes = (_on_photo(box, frame) for box in component_boxes(heat >= share * peak))
    return [box for box in boxes if box[0] < box[2] and box[1] < box[3]]  # none in the padding of a small picture


def _on_photo(box: Box, frame: Frame) -> Box:
    """The pixels of the photograph that a box of the input touches, as far as they were seen."""
    x0, y0, x1, y1 = box
    top, left = frame.to_photo((y0 - 0.5, x0 - 0.5))
    bottom, right = frame.to_photo((y1 - 0.5, x1 - 0.5))
    first_x, first_y, last_x, last_y = frame.seen
    return (
        max(first_x, math.floor(left + 0.5 + _ROUNDING)),
        max(first_y, math.floor(top + 0.5 + _ROUNDING)),
        min(last_x, math.ceil(right + 0.5 - _ROUNDING)),
        min(last_y, math.ceil(bottom + 0.5 - _ROUNDING)),
    )
