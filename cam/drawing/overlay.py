"""Heat over a photograph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import contourpy
import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import has_negative, paint, to_color_indices
from cam.errors import UsageError
from cam.maps.boxes import Box
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import interpolation_weights

Photo = Literal["gray", "color"]
_STRIP = 256_000  # pixels that are painted at once, so that they stay in the cache
_BLACK, _WHITE = 0.12, 0.88  # of the gray photograph, so that colors are seen on both
_PALE, _PALE_CONTRAST = 0.66, 0.3  # what was not seen
_CONTOUR = 0.5  # of the end of the scale
_CONTOUR_POINTS = 48  # along each side, between which a line is straight


def draw(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    cam: NDArray[np.floating],
    grid: Grid,
    frame: Frame,
    *,
    vmax: float,
    opacity: float = 0.85,
    colormap: str = "signed",
    photo: Photo = "gray",
    contours: bool = True,
    painted: NDArray[np.uint8] | None = None,
) -> None:
    """Paint heat over a photograph on a canvas; the heat is that of `project`.

    Where there is no evidence, the photograph shows; more evidence is more opaque, up to `opacity` at the end `vmax`
    of the scale. A thin line runs around half of the scale. What the network did not see is pale, outside a thin frame.

    Args:
        canvas: (H, W, 3) uint8 RGB, of the size `frame.photo`.
        image: the photograph, of the same size.
        cam: (h, w), any unit.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.
        vmax: value at the end of the color scale.
        opacity: of the most evidence, from 0 to 1.
        colormap: a name that `lookup` knows.
        photo: "gray" or "color", under the heat.
        contours: True to draw the line.
        painted: the seen part of the photograph with its heat, (h, w, 3) uint8 RGB, if it has been computed before.
    """
    check_style(opacity, photo)
    (x0, y0, x1, y1), (height, width) = frame.seen, frame.photo
    for part in _around(frame.seen, (0, 0, width, height)):
        if image[part].size:
            canvas[part] = cv2.cvtColor(_gray(image[part], _PALE, _PALE + _PALE_CONTRAST), cv2.COLOR_GRAY2RGB)
    if painted is not None:
        canvas[y0:y1, x0:x1] = painted
    elif x0 < x1 and y0 < y1:
        for rows, indices in _strips(cam, grid, frame, vmax):
            canvas[rows, x0:x1] = paint(indices, under_heat(image[rows, x0:x1], photo), colormap, opacity)
    if contours and vmax > 0:
        _draw_contours(canvas, cam, grid, frame, vmax, (-_CONTOUR, _CONTOUR) if has_negative(colormap) else (_CONTOUR,))
    if frame.seen != (0, 0, width, height) and x0 < x1 and y0 < y1:
        stroke = _stroke(canvas)
        for part in _around(frame.seen, (max(0, x0 - stroke), max(0, y0 - stroke), x1 + stroke, y1 + stroke)):
            canvas[part] = 64


def under_heat(image: NDArray[np.uint8], photo: Photo) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) as it lies under heat: gray (H, W), without black and white, or in color, unchanged."""
    return _gray(image, _BLACK, _WHITE) if photo == "gray" else image


def draw_boxes(canvas: NDArray[np.uint8], boxes: Sequence[Box]) -> None:
    """Draw boxes (x0, y0, x1, y1), ends excluded, on an image (H, W, 3): white with a dark rim, visible anywhere."""
    stroke = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 250))
    for color, width in ((0, 3 * stroke), (255, stroke)):
        for x0, y0, x1, y1 in boxes:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), (color, color, color), width)


def check_style(opacity: float, photo: str) -> None:
    """Raise a UsageError if an option of `draw` is wrong."""
    if not 0 <= opacity <= 1:
        raise UsageError(f"--opacity must be between 0 and 1, got {opacity!r}", "The default is 0.85")
    if photo not in ("gray", "color"):
        raise UsageError(f"--photo must be gray or color, got {photo!r}", "The default is gray")


def _strips(
    cam: NDArray[np.floating], grid: Grid, frame: Frame, vmax: float
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Interpolate the seen part a few rows at a time, so that not all of it is in memory: rows and color indices."""
    x0, y0, x1, y1 = frame.seen
    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    cells = to_color_indices(cam, vmax) @ across[x0:x1].T
    rows_at_once = max(1, _STRIP // max(1, frame.photo[1]))
    for top in range(y0, y1, rows_at_once):
        rows = slice(top, min(top + rows_at_once, y1))
        used = np.flatnonzero(down[rows].any(0))  # the other cells are too far away
        near = slice(used[0], used[-1] + 1)
        yield rows, down[rows, near] @ cells[near]


def _draw_contours(
    canvas: NDArray[np.uint8],
    cam: NDArray[np.floating],
    grid: Grid,
    frame: Frame,
    vmax: float,
    levels: Sequence[float],
) -> None:
    """Draw thin lines, dark and light, where the heat is at some levels, shares of the end of the scale."""
    x0, y0, x1, y1 = frame.seen
    if x1 - x0 < 2 or y1 - y0 < 2 or np.abs(cam).max() < _CONTOUR * vmax:
        return
    ys, xs = (
        np.linspace(start, end - 1, min(end - start, _CONTOUR_POINTS)).round().astype(int)
        for start, end in ((y0, y1), (x0, x1))
    )
    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    heat = down[ys] @ (cam / vmax).astype(np.float32) @ across[xs].T
    generator = contourpy.contour_generator(xs, ys, heat)
    lines = [np.rint(16 * np.asarray(line)).astype(np.int32) for level in levels for line in generator.lines(level)]
    stroke = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 600))
    for gray, width in ((24, stroke + 2), (255, stroke)):
        cv2.polylines(canvas, lines, False, (gray, gray, gray), width, cv2.LINE_AA, 4)


def _gray(image: NDArray[np.uint8], black: float, white: float) -> NDArray[np.uint8]:
    """Turn RGB (H, W, 3) to gray (H, W), with other ends than 0 and 1."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.convertScaleAbs(gray, alpha=white - black, beta=255 * black), np.uint8)


def _around(box: Box, outer: Box) -> list[tuple[slice, slice]]:
    """Split the outer box without the inner one in (rows, columns): above, below, left and right of the inner one."""
    (x0, y0, x1, y1), (left, top, right, bottom) = box, outer
    above, below = (slice(top, y0), slice(left, right)), (slice(y1, bottom), slice(left, right))
    return [above, below, (slice(y0, y1), slice(left, x0)), (slice(y0, y1), slice(x1, right))]


def _stroke(canvas: NDArray[np.uint8]) -> int:
    """Width of lines in pixels."""
    return max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 400))
