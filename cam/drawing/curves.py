"""A plot of values over time, in the letters of the legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.legend import INK, PALE, PAPER, clean, shorten, text_length, write_text
from cam.drawing.planes import GRAY, Planes, to_planes

_COLORS = (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)  # Okabe and Ito
_GRID = 225
_SUBPIXELS = 16


class Plot:
    """Curves over one axis of time: `picture` is the whole plot, (H, W, 3) uint8 RGB.

    Args:
        size: height and width in pixels.
        letter: height of its letters in pixels.
        seconds: times (N,), rising.
        curves: the values (N,) by their names, which are written if there are several.
        unit: of the values.
    """

    def __init__(
        self,
        size: tuple[int, int],
        letter: int,
        seconds: Sequence[float],
        curves: Mapping[str, Sequence[float]],
        unit: str,
    ) -> None:
        (height, width), font_size = size, 0.85 * letter
        values = np.concatenate([np.asarray(curve, float) for curve in curves.values()])
        low, high = float(values.min()), float(values.max())
        rows = _round_numbers(low, high, max(2, (height - 4 * letter) // (2 * letter)))
        low, high = min(low, rows[0]), max(high, rows[-1])
        left = letter + max(text_length(f"{row:g}", font_size) for row in rows) + letter // 2
        right, self._top, self._bottom = width - letter, round(2.2 * letter), height - 2 * letter
        self._seconds = seconds[0], max(seconds[-1] - seconds[0], 1e-9)
        self._columns = left, max(right - left, 1)
        self._stroke = max(1, letter // 13)

        gray = np.full(size, PAPER, np.uint8)
        for row in rows:
            y = round(self._bottom - (row - low) / (high - low) * (self._bottom - self._top))
            gray[y : y + self._stroke, left:right] = _GRID
            text = f"{row:g}"
            write_text(gray, (left - letter // 2 - text_length(text, font_size), y - letter // 2), text, font_size, INK)
        for second in _round_numbers(seconds[0], seconds[-1], max(2, width // (6 * letter))):
            if seconds[0] <= second <= seconds[-1]:
                x, text = self._x(second), f"{second:g} s"
                gray[self._bottom : self._bottom + letter // 4 + 1, x : x + self._stroke] = PALE
                x = min(max(x - text_length(text, font_size) // 2, 0), width - text_length(text, font_size))
                write_text(gray, (x, self._bottom + letter // 3), text, font_size, INK)
        write_text(gray, (letter, letter // 3), unit, font_size, PALE)
        self.picture = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
        x = 2 * letter + text_length(unit, font_size)
        for number, (name, curve) in enumerate(curves.items()):
            color = _COLORS[number % len(_COLORS)]
            ys = self._bottom - (np.asarray(curve, float) - low) / (high - low) * (self._bottom - self._top)
            xs = left + (np.asarray(seconds) - seconds[0]) / self._seconds[1] * self._columns[1]
            points = np.rint(_SUBPIXELS * np.stack([xs, ys], 1)).astype(np.int32)
            cv2.polylines(
                self.picture, [points], False, color, 2 * self._stroke, cv2.LINE_AA, int(math.log2(_SUBPIXELS))
            )
            if len(curves) > 1 and x < right - 3 * letter:
                x += self._write_name(name, x, letter, color, right)

    def _write_name(self, name: str, x: int, letter: int, color: tuple[int, int, int], right: int) -> int:
        """Write the name of a curve in the top row, behind a piece of its line; return how wide that is."""
        text = shorten(clean(name), 0.85 * letter, right - x - 2 * letter)
        self.picture[round(0.9 * letter) :, x : x + letter][: 2 * self._stroke] = color
        row = np.full((2 * letter, right - x), PAPER, np.uint8)
        write_text(row, (0, letter // 3), text, 0.85 * letter, INK)
        written = row[:, : text_length(text, 0.85 * letter)]
        at = x + 3 * letter // 2
        self.picture[: 2 * letter, at : at + written.shape[1]] = written[..., None]
        return 3 * letter + int(written.shape[1])

    def at(self, second: float) -> NDArray[np.uint8]:
        """A copy of the plot with a line at a time."""
        picture, (left, right) = self.picture.copy(), self._line(second)
        picture[self._top : self._bottom, left:right] = INK
        return picture

    def planes_at(self, second: float) -> Planes:
        """The same as luma and chroma, sooner."""
        y, *chroma = (plane.copy() for plane in (self._planes.y, *self._planes.chroma))
        left, right = self._line(second)
        y[self._top : self._bottom, left:right] = INK
        for plane in chroma:
            plane[self._top // 2 : (self._bottom + 1) // 2, left // 2 : (right + 1) // 2] = GRAY
        return Planes(y, *chroma)

    @cached_property
    def _planes(self) -> Planes:
        return to_planes(self.picture)

    def _line(self, second: float) -> tuple[int, int]:
        """The columns of the line at a time."""
        x = self._x(second)
        return max(0, x - self._stroke), x + 2 * self._stroke

    def _x(self, second: float) -> int:
        start, length = self._seconds
        return self._columns[0] + round((second - start) / length * self._columns[1])


def _round_numbers(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers around a range: the first is at or below `low`, the last at or above `high`."""
    span = max(high - low, 1e-6 * max(1.0, abs(low)))
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= span / count)
    first, last = math.floor(low / step * (1 - 1e-12)), math.ceil(high / step)
    return [float(f"{step * number:.10g}") for number in range(first, max(last, first + 1) + 1)]
