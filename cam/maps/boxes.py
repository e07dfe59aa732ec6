"""Boxes around heat."""

from __future__ import annotations

import math
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.maps.geometry import Frame, Grid
from cam.maps.projection import project

Box = tuple[int, int, int, int]
_ROUNDING = 1e-6  # pixels: edges this near to the edge of a pixel do not touch the next one


def component_boxes(mask: NDArray[np.bool_]) -> list[Box]:
    """Find a box around each connected component of a mask; pixels connect at corners, too.

    Args:
        mask: (H, W) bool.

    Returns:
        Boxes (x0, y0, x1, y1) in pixels, ends excluded, the component with most pixels first; of equal ones the
        topmost, then the leftmost.

    Example:
        >>> component_boxes(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], bool))
        [(2, 1, 4, 2), (0, 0, 1, 1)]
    """
    if not mask.size:  # OpenCV would crash
        return []
    pixels, fastest = mask.astype(np.uint8), cv2.CCL_BBDT
    _, _, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(pixels, 8, cv2.CV_32S, fastest)
    components = sorted(stats[1:].tolist(), key=lambda row: (-row[4], row[1], row[0]))  # the first is the background
    return [(x, y, x + width, y + height) for x, y, width, height, _ in components]


def boxes_of(cam: NDArray[np.floating], grid: Grid, frame: Frame, share: float = 0.2) -> list[Box]:
    """Find boxes around the heat above a share of its maximum (Zhou et al. 2016, section 3.2).

    The heat is computed at the pixels of the network's input, so edges are exact to one of those.

    Args:
        cam: (h, w), any unit.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.
        share: of the maximum, above 0 and below 1.

    Returns:
        Boxes (x0, y0, x1, y1) in pixels of the photograph, ends excluded, the largest component first, the others only
        if they are as large as a cell; none without positive evidence.

    Example:
        >>> frame = Frame((8, 16), (4, 8), (0, 0), (4, 8))
        >>> boxes_of(np.array([[0.0, 4.0]]), Grid((1.5, 1.5), (4, 4), "stretched"), frame, share=0.5)
        [(8, 0, 16, 8)]
    """
    heat = project(cam, grid, Frame(frame.input, frame.input, (0, 0), frame.input))
    maximum = heat.max()
    if not maximum > 0:
        return []
    first_x, first_y, last_x, last_y = frame.seen
    boxes = []
    for x0, y0, x1, y1 in component_boxes(heat >= share * maximum):
        top, left = frame.to_photo((y0 - 0.5, x0 - 0.5))
        bottom, right = frame.to_photo((y1 - 0.5, x1 - 0.5))
        x0, y0 = max(first_x, floor(left + 0.5 + _ROUNDING)), max(first_y, floor(top + 0.5 + _ROUNDING))
        x1, y1 = min(last_x, ceil(right + 0.5 - _ROUNDING)), min(last_y, ceil(bottom + 0.5 - _ROUNDING))
        if x0 < x1 and y0 < y1:  # not in the padding of a small image
            boxes.append((x0, y0, x1, y1))
    cell = math.prod(step * frame.photo[axis] / frame.resized[axis] for axis, step in enumerate(grid.stride))
    return boxes[:1] + [box for box in boxes[1:] if (box[2] - box[0]) * (box[3] - box[1]) >= cell]
