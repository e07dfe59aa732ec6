"""Heat over a photograph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup, paint, to_steps
from cam.errors import UsageError
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import interpolation_weights

Box = tuple[int, int, int, int]

_STRIP = 256_000  # pixels that are drawn at once: what is made of them on the way stays near, and calls are few

_FADED = np.uint8(48)  # added to half of the gray

_LIGHT = 45  # by how much the lines are lighter that hatch what was not seen


def overlay(
    image: NDArray[np.uint8],
    heat: NDArray[np.float32],
    *,
    vmax: float,
    opacity: float = 0.5,
    colormap: str = "signed",
    signed: bool = True,
) -> NDArray[np.uint8]:
    """Blend colored heat over a photograph: (1 - opacity) * photograph + opacity * color.

    Where the heat is NaN the network never saw the photograph: it is shown there gray and hatched,
    with no heat, and a thin line runs around the part that was seen.

    Args:
        image: (H, W, 3) uint8 RGB photograph.
        heat: (H, W) evidence, NaN where unseen.
        vmax: evidence of the outermost colors, in the same unit, as in `colorize`.
        opacity: of the heat, 0 (photograph only) to 1 (heat only).
        colormap: as in `colormaps.lookup`.
        signed: whether the color scale runs from -vmax, else from 0.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: sizes differ, opacity lies outside [0, 1], or as in `colorize`.

    Example:
        >>> gray = np.full((1, 1, 3), 100, np.uint8)
        >>> overlay(gray, np.full((1, 1), 3, np.float32), vmax=3, opacity=0.4)  # 0.6 * 100 + 0.4 * color
        array([[[162, 151,  60]]], dtype=uint8)
    """
    _check(opacity, colormap)
    if image.shape != (*heat.shape, 3):
        found = f"the heat of shape {heat.shape} is not the size of the image of shape {image.shape}"
        raise UsageError(found, "Give heat of shape (H, W) for an image of shape (H, W, 3)")
    canvas, (height, width) = np.empty(image.shape, np.uint8), heat.shape
    for rows in _strips(0, height, width):
        _blend(canvas[rows], image[rows], to_steps(heat[rows], vmax, colormap, signed), colormap, opacity)
    unseen = np.isnan(heat)
    if unseen.any():
        stroke, hatched = _stroke(canvas), np.empty_like(canvas)
        lines = _lines(height, width, stroke)
        for rows in _strips(0, height, width):
            _fade(hatched[rows], image[rows], lines[rows])
        canvas[unseen] = hatched[unseen]
        reach = np.ones((2 * stroke + 1, 2 * stroke + 1), np.uint8)
        canvas[unseen & (cv2.dilate(np.uint8(1) - unseen, reach) > 0)] = 255
    return canvas


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
    """Draw what `overlay` makes of the heat that `place` makes of a map, with no heat in between.

    Args:
        canvas: (H, W, 3) uint8, what is drawn on.
        image: (H, W, 3) uint8 RGB photograph, of the frame's `photo` size.
        cam: (h, w) map.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.
        vmax: as in `overlay`.
        opacity: as in `overlay`.
        colormap: as in `overlay`.
        signed: as in `overlay`.
        blended: (h, w, 3) uint8 RGB, the seen part with its heat, where it has been made already.

    Raises:
        UsageError: as in `overlay`.

    Example:
        >>> canvas, frame = np.zeros((4, 8, 3), np.uint8), Frame((4, 8), (4, 8), (0, 0), (4, 8))
        >>> draw(canvas, canvas.copy(), np.array([[0, 4]]), Grid((1.5, 1.5), (4, 4), "stretched"), frame, vmax=4)
        >>> canvas[0, :, 0].tolist()
        [0, 0, 29, 76, 106, 125, 128, 128]
    """
    _check(opacity, colormap)
    (x0, y0, x1, y1), (height, width), stroke = frame.seen, frame.photo, _stroke(canvas)
    lines, seen = _lines(height, width, stroke), slice(x0, x1)
    if blended is None:
        down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
        cells = to_steps(cam, vmax, colormap, signed) @ across[seen].T
    for rows in chain(_strips(0, y0, width), _strips(y0, y1, width), _strips(y1, height, width)):
        inside = y0 <= rows.start < y1
        for columns in (slice(0, x0), slice(x1, width)) if inside else (slice(0, width),):
            _fade(canvas[rows, columns], image[rows, columns], lines[rows, columns])
        if inside and blended is None:
            steps = _product(down[rows], cells)
            _blend(canvas[rows, seen], image[rows, seen], steps, colormap, opacity)
    if blended is not None:
        canvas[y0:y1, seen] = blended
    if x0 < x1 and y0 < y1:
        line = max(0, x0 - stroke), max(0, y0 - stroke), min(width, x1 + stroke), min(height, y1 + stroke)
        for part in _around(frame.seen, line):
            canvas[part] = 255


def draw_boxes(canvas: NDArray[np.uint8], boxes: Sequence[Box]) -> None:
    """Draw boxes on a picture, white with a dark rim, so that they show on any ground.

    Args:
        canvas: (H, W, 3) uint8 RGB, what is drawn on.
        boxes: (x0, y0, x1, y1) in pixels, ends excluded.

    Example:
        >>> canvas = np.zeros((9, 9, 3), np.uint8)
        >>> draw_boxes(canvas, [(2, 2, 7, 7)])
        >>> canvas[2, 2]
        array([255, 255, 255], dtype=uint8)
    """
    stroke = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 250))
    for color, width in ((0, 3 * stroke), (255, stroke)):
        for x0, y0, x1, y1 in boxes:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), (color, color, color), width)


def _check(opacity: float, colormap: str) -> None:
    """See to it that they are known, even where nothing was seen."""
    if not 0 <= opacity <= 1:
        raise UsageError(f"{opacity!r} is not an opacity", "Give a number from 0 to 1")
    lookup(colormap)


def _blend(
    canvas: NDArray[np.uint8], image: NDArray[np.uint8], steps: NDArray[np.float32], colormap: str, opacity: float
) -> None:
    if steps.size:
        cv2.addWeighted(image, 1 - opacity, paint(steps, colormap), opacity, 0, dst=canvas)


def _product(down: NDArray[np.float32], across: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix product, without the cells that lie too far away to have a share in any of the rows."""
    used = np.flatnonzero(down.any(0))
    cells = slice(used[0], used[-1] + 1)
    return down[:, cells] @ across[cells]


def _fade(canvas: NDArray[np.uint8], image: NDArray[np.uint8], lines: NDArray[np.uint8]) -> None:
    """Show what was not seen in faded gray, hatched."""
    if image.size:
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        gray >>= 1
        gray += lines
        cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB, dst=canvas)


@lru_cache(maxsize=8)  # pictures of one size have them in common
def _lines(height: int, width: int, stroke: int) -> NDArray[np.uint8]:
    """What hatching adds to half of the gray: (H, W), a view of one number for each y + x."""
    diagonals = _FADED + (np.arange(height + width) % (12 * stroke) < stroke) * np.uint8(_LIGHT)
    return np.lib.stride_tricks.sliding_window_view(diagonals, width)[:height]  # which is read-only


def _strips(top: int, bottom: int, width: int) -> Iterator[slice]:
    """Rows of a picture, some at a time."""
    step = max(1, _STRIP // max(1, width))
    return (slice(row, min(row + step, bottom)) for row in range(top, bottom, step))


def _around(box: Box, outer: Box) -> list[tuple[slice, slice]]:
    """What lies in the outer box around the inner one: (rows, columns) above, below, left and right of it."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box, outer
    above, below = (slice(top, y0), slice(left, right)), (slice(y1, bottom), slice(left, right))
    return [above, below, (slice(y0, y1), slice(left, x0)), (slice(y0, y1), slice(x1, right))]


def _stroke(canvas: NDArray[np.uint8]) -> int:
    """How wide lines are, in pixels."""
    return max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 300))
