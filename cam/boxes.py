"""Boxes around heat: what stands out of a map, as rectangles in a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cam.geometry import Frame, Grid, place

Box = tuple[int, int, int, int]


def component_boxes(mask: NDArray[np.bool_]) -> list[Box]:
    """Draw a box around each connected component of a mask, corners counting as connected.

    Args:
        mask: (H, W) bool.

    Returns:
        Boxes (x0, y0, x1, y1) in pixels, ends excluded, that of the component with most pixels first.

    Example:
        >>> component_boxes(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], bool))
        [(2, 1, 4, 2), (0, 0, 1, 1)]
    """
    numbered, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    found = ndimage.find_objects(numbered)
    boxes = [(int(x.start), int(y.start), int(x.stop), int(y.stop)) for y, x in found]
    return [boxes[index] for index in np.argsort(-sizes, kind="stable")]


def boxes_of(cam: NDArray[np.floating], grid: Grid, frame: Frame, share: float = 0.2) -> list[Box]:
    """Draw boxes around the heat above a share of its maximum (Zhou et al. 2016, section 3.2).

    The heat is cut at the resolution of the network's input, so that edges are true to one of its pixels.

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
    view = Frame(frame.resized, frame.resized, frame.offset, frame.input)
    heat = place(cam, grid, view)
    peak = np.nanmax(heat)
    if not peak > 0:
        return []
    scale_y, scale_x = (frame.photo[axis] / frame.resized[axis] for axis in (0, 1))
    return [
        (
            int(x0 * scale_x),
            int(y0 * scale_y),
            min(frame.photo[1], int(np.ceil(x1 * scale_x))),
            min(frame.photo[0], int(np.ceil(y1 * scale_y))),
        )
        for x0, y0, x1, y1 in component_boxes(heat >= share * peak)
    ]
