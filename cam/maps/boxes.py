"""Boxes around heat."""

from __future__ import annotations

import math
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.maps.geometry import Frame, Grid, Pair
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
    components = component_boxes(heat >= share * maximum)
    placed = (_on_photo(frame, (y0 - 0.5, x0 - 0.5), (y1 - 0.5, x1 - 0.5)) for x0, y0, x1, y1 in components)
    boxes = [box for box in placed if box]
    cell = math.prod(step * frame.photo[axis] / frame.resized[axis] for axis, step in enumerate(grid.stride))
    return boxes[:1] + [box for box in boxes[1:] if (box[2] - box[0]) * (box[3] - box[1]) >= cell]


def half_boxes(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> list[tuple[Box, float]]:
    """Find where half of the positive evidence comes from: the fewest cells that together carry it.

    Args:
        cam: (h, w), any unit.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        A box (x0, y0, x1, y1) in pixels of the photograph, ends excluded, around each group of these cells that touch
        at sides or corners, and the share of the positive evidence in the group, the largest first; none without
        positive evidence. A cell is as large as the distance to the next one.

    Example:
        >>> frame = Frame((8, 24), (4, 12), (0, 0), (4, 12))
        >>> half_boxes(np.array([[3.0, -9.0, 2.0]]), Grid((1.5, 1.5), (4, 4), "stretched"), frame)
        [((0, 0, 8, 8), 0.6)]
    """
    positive = cam.astype(np.float64).clip(0)
    total, order = positive.sum(), (-positive).argsort(axis=None, kind="stable")
    if not total > 0:
        return []
    count = int(np.searchsorted(positive.flat[order].cumsum(), total / 2)) + 1
    chosen = np.zeros(cam.shape, np.uint8)
    chosen.flat[order[:count]] = 1
    _, groups, stats, _ = cv2.connectedComponentsWithStats(chosen)
    boxes = []
    for group, (x, y, width, height, _) in enumerate(stats[1:].tolist(), 1):
        top, left = grid.offset[0] + grid.stride[0] * (y - 0.5), grid.offset[1] + grid.stride[1] * (x - 0.5)
        bottom, right = top + grid.stride[0] * height, left + grid.stride[1] * width
        if box := _on_photo(frame, (top, left), (bottom, right)):
            boxes.append((box, float(positive[groups == group].sum() / total)))
    return sorted(boxes, key=lambda item: -item[1])


def _on_photo(frame: Frame, start: Pair, end: Pair) -> Box | None:
    """The pixels of the photograph between two points (y, x) of the input; None in the padding of a small image."""
    first_x, first_y, last_x, last_y = frame.seen
    (top, left), (bottom, right) = frame.to_photo(start), frame.to_photo(end)
    x0, y0 = max(first_x, floor(left + 0.5 + _ROUNDING)), max(first_y, floor(top + 0.5 + _ROUNDING))
    x1, y1 = min(last_x, ceil(right + 0.5 - _ROUNDING)), min(last_y, ceil(bottom + 0.5 - _ROUNDING))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
