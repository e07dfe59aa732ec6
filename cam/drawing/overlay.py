"""Heat over a photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import paint, to_color_indices
from cam.errors import UsageError
from cam.maps.boxes import Box
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import interpolation_weights

_STRIP = 256_000  # pixels that are blended at once, so that they stay in the cache
_DARK, _LIGHT = np.uint8(48), np.uint8(93)  # added to half the gray of what was not seen, and to its hatching


def draw(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    cam: NDArray[np.floating],
    grid: Grid,
    frame: Frame,
    *,
    vmax: float,
    opacity: float = 0.5,
    colormap: str = "signed",
    signed: bool = True,
    blended: NDArray[np.uint8] | None = None,
) -> None:
    """Blend colored heat over a photograph on a canvas: (1 - opacity) * photograph + opacity * color.

    The heat is that of `project`, but not all of it is computed at once. What the network did not see is gray and
    hatched, with a white line around what it saw. Canvas and image have the size `frame.photo`; `vmax`, `colormap` and
    `signed` are as in `colorize`. `blended` is the seen part of the photograph with its heat,
    (h, w, 3) uint8 RGB, if it has been computed before.
    """
    (x0, y0, x1, y1), (height, width), stroke = frame.seen, frame.photo, _stroke(canvas)
    lines = _lines(height, width, stroke)
    for part in _around(frame.seen, (0, 0, width, height)):
        _hatch(canvas[part], image[part], lines[part])
    if x0 < x1 and y0 < y1:
        outer = max(0, x0 - stroke), max(0, y0 - stroke), min(width, x1 + stroke), min(height, y1 + stroke)
        for part in _around(frame.seen, outer):
            canvas[part] = 255
    if blended is not None:
        canvas[y0:y1, x0:x1] = blended
        return

    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    cells = to_color_indices(cam, vmax, colormap, signed) @ across[x0:x1].T
    rows_at_once = max(1, _STRIP // max(1, width))
    for top in range(y0, y1, rows_at_once):
        rows = slice(top, min(top + rows_at_once, y1))
        used = np.flatnonzero(down[rows].any(0))  # the other cells are too far away
        near = slice(used[0], used[-1] + 1)
        _blend(canvas[rows, x0:x1], image[rows, x0:x1], down[rows, near] @ cells[near], colormap, opacity)


def draw_boxes(canvas: NDArray[np.uint8], boxes: Sequence[Box]) -> None:
    """Draw boxes (x0, y0, x1, y1), ends excluded, on an image (H, W, 3): white with a dark rim, visible anywhere."""
    stroke = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 250))
    for color, width in ((0, 3 * stroke), (255, stroke)):
        for x0, y0, x1, y1 in boxes:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), (color, color, color), width)


def _blend(
    canvas: NDArray[np.uint8], image: NDArray[np.uint8], indices: NDArray[np.float32], colormap: str, opacity: float
) -> None:
    if not 0 <= opacity <= 1:
        raise UsageError(f"--opacity must be between 0 and 1, got {opacity!r}", "The default is 0.5")
    if indices.size:
        cv2.addWeighted(image, 1 - opacity, paint(indices, colormap), opacity, 0, dst=canvas)


def _hatch(canvas: NDArray[np.uint8], image: NDArray[np.uint8], lines: NDArray[np.uint8]) -> None:
    """Draw what was not seen in faded gray."""
    if image.size:
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        gray >>= 1
        gray += lines
        cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB, dst=canvas)


def _lines(height: int, width: int, stroke: int) -> NDArray[np.uint8]:
    """Diagonal lines, (H, W), one every 12 strokes: a view of one number for each y + x."""
    diagonals = np.where(np.arange(height + width) % (12 * stroke) < stroke, _LIGHT, _DARK)
    return np.lib.stride_tricks.sliding_window_view(diagonals, width)[:height]


def _around(box: Box, outer: Box) -> list[tuple[slice, slice]]:
    """Split the outer box without the inner one in (rows, columns): above, below, left and right of the inner one."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box, outer
    above, below = (slice(top, y0), slice(left, right)), (slice(y1, bottom), slice(left, right))
    return [above, below, (slice(y0, y1), slice(left, x0)), (slice(y0, y1), slice(x1, right))]


def _stroke(canvas: NDArray[np.uint8]) -> int:
    """Width of lines in pixels."""
    return max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 300))
