"""Heat over a photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import contourpy
import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import has_negative, paint, to_color_indices
from cam.errors import UsageError
from cam.maps.boxes import Box
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import interpolation_weights, matmul

Photo = Literal["gray", "color"]
STRIP = 256_000  # pixels that are painted at once, so that they stay in the cache
BLACK, WHITE = 0.12, 0.88  # of the gray photograph, so that colors are seen on both
_PALE, _PALE_CONTRAST = 0.66, 0.3  # what was not seen
CONTOUR = 0.5  # of the end of the scale
_CONTOUR_POINTS = 48  # along each side, between which a line is straight
SUBPIXELS = 16  # of lines


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
    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    cells = matmul(to_color_indices(cam, vmax), across[x0:x1].T)
    is_whole = frame.seen == (0, 0, width, height)
    rows_at_once = max(1, STRIP // max(1, width))
    for top in range(0, height, rows_at_once):
        bottom = min(top + rows_at_once, height)
        gray = np.asarray(cv2.cvtColor(image[top:bottom], cv2.COLOR_RGB2GRAY), np.uint8)
        if not is_whole:
            cv2.cvtColor(pale(gray), cv2.COLOR_GRAY2RGB, dst=canvas[top:bottom])
        rows = slice(max(top, y0), min(bottom, y1))
        if painted is None and rows.start < rows.stop and x0 < x1:
            used = np.flatnonzero(down[[rows.start, rows.stop - 1]].any(0))  # cells outside of these are too far away
            near = slice(used[0], used[-1] + 1)
            base = image[rows, x0:x1]
            if photo == "gray":
                base = _limit(gray[rows.start - top : rows.stop - top, x0:x1], BLACK, WHITE)
            paint(matmul(down[rows, near], cells[near]), base, colormap, opacity, canvas[rows, x0:x1])
    if painted is not None:
        canvas[y0:y1, x0:x1] = painted
    if contours:
        draw_lines(canvas, contour_lines(cam, grid, frame, down, across, vmax, colormap))
    if not is_whole and x0 < x1 and y0 < y1:
        draw_frame(canvas, frame.seen)


def under_heat(image: NDArray[np.uint8], photo: Photo) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) as it lies under heat: gray (H, W), without black and white, or in color, unchanged."""
    if photo == "color":
        return image
    return _limit(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), BLACK, WHITE)


def draw_boxes(canvas: NDArray[np.uint8], boxes: Sequence[Box]) -> None:
    """Draw boxes (x0, y0, x1, y1), ends excluded, on an image (H, W, 3): white with a dark rim, visible anywhere."""
    thin = stroke(canvas, 250)
    for color, width in ((0, 3 * thin), (255, thin)):
        for x0, y0, x1, y1 in boxes:
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), (color, color, color), width)


def check_style(opacity: float, photo: str) -> None:
    """Raise a UsageError if an option of `draw` is wrong."""
    if not 0 <= opacity <= 1:
        raise UsageError(f"--opacity must be between 0 and 1, got {opacity!r}", "The default is 0.85")
    if photo not in ("gray", "color"):
        raise UsageError(f"--photo must be gray or color, got {photo!r}", "The default is gray")


def _spread_points(start: int, end: int) -> NDArray[np.int64]:
    """Pixels from start to end - 1, of which a contour takes notice."""
    count = min(end - start, _CONTOUR_POINTS)
    return start + np.arange(count) * (end - 1 - start) // (count - 1)


def contour_lines(
    cam: NDArray[np.floating],
    grid: Grid,
    frame: Frame,
    down: NDArray[np.float32],
    across: NDArray[np.float32],
    vmax: float,
    colormap: str,
) -> list[NDArray[np.int32]]:
    """Find lines, points (x, y) in sixteenths of a pixel, where the heat is half of the scale.

    The half of the hottest cell is as wide as a cell: lines around less than that are specks, left out.
    """
    (x0, y0, x1, y1), lines = frame.seen, []
    if not (vmax > 0 and x1 - x0 > 1 and y1 - y0 > 1):
        return []
    ys, xs = _spread_points(y0, y1), _spread_points(x0, x1)
    share = matmul(down[ys], cam / vmax, across[xs].T)
    least = [0.8 * SUBPIXELS * frame.photo[axis] / frame.resized[axis] * grid.stride[axis] for axis in (0, 1)]
    for level in (CONTOUR, -CONTOUR) if has_negative(colormap) else (CONTOUR,):
        if share.min() < level < share.max():
            # `contourpy.contour_generator` takes longer to check its arguments than to find the lines.
            generator = contourpy.SerialContourGenerator(
                np.outer(np.ones(len(ys)), xs),
                np.outer(ys, np.ones(len(xs))),
                share.astype(np.float64),
                np.zeros(share.shape, bool),
                corner_mask=False,
                line_type=contourpy.LineType.Separate,
                fill_type=contourpy.FillType.OuterCode,
                quad_as_tri=False,
                z_interp=contourpy.ZInterp.Linear,
            )
            for line in generator.lines(level):
                points = np.rint(SUBPIXELS * np.asarray(line)).astype(np.int32)
                *_, width, height = cv2.boundingRect(points)
                if height > least[0] or width > least[1]:
                    is_closed = bool((points[0] == points[-1]).all())
                    fewer = cv2.approxPolyDP(points, 0.4 * SUBPIXELS, is_closed)  # drawn sooner
                    lines.append(np.concatenate((fewer, fewer[:1])) if is_closed else fewer)
    return lines


def draw_lines(canvas: NDArray[np.uint8], lines: Sequence[NDArray[np.int32]]) -> None:
    """Draw the lines of `contour_lines`, dark and light, on an image (H, W) or (H, W, 3)."""
    thin = stroke(canvas, 600)
    for gray, width in ((24, thin + 2), (255, thin)):
        cv2.polylines(canvas, lines, False, (gray, gray, gray), width, cv2.LINE_AA, int(math.log2(SUBPIXELS)))


def pale(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray photograph (H, W) as it looks where the network did not see it."""
    return _limit(gray, _PALE, _PALE + _PALE_CONTRAST)


def _limit(gray: NDArray[np.uint8], black: float, white: float) -> NDArray[np.uint8]:
    """Give a gray image (H, W) other ends than 0 and 1."""
    return np.asarray(cv2.convertScaleAbs(gray, alpha=white - black, beta=255 * black), np.uint8)


def draw_frame(canvas: NDArray[np.uint8], box: Box) -> None:
    """Draw a thin dark frame around a box."""
    (x0, y0, x1, y1), thin = box, stroke(canvas, 400)
    top, left, bottom, right = max(0, y0 - thin), max(0, x0 - thin), y1 + thin, x1 + thin
    canvas[top:y0, left:right] = canvas[y1:bottom, left:right] = 64
    canvas[y0:y1, left:x0] = canvas[y0:y1, x1:right] = 64


def stroke(canvas: NDArray[np.uint8], part: int) -> int:
    """Width of lines in pixels: one `part`th of a canvas's side."""
    return max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / part))
