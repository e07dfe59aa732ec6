"""A legend below an image: what it shows, and what its colors mean."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import combining, normalize

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cam.drawing.colormaps import paint, to_color_indices
from cam.drawing.overlay import CONTOUR

MIN_WIDTH = 280  # pixels, of an image with a legend
PAPER, INK, PALE = 250, 24, 104  # grays
BAR_GRAY = 140  # under the colors of the bar


def make_legend(
    size: tuple[int, int],
    *,
    title: str,
    details: str,
    vmax: float,
    colormap: str = "signed",
    opacity: float = 0.85,
    notes: Sequence[str] = (),
    note_rows: int = 0,
    unit: str = "evidence (logit)",
    ends: tuple[str, str] = ("", ""),
    signed: bool = True,
    contours: bool = False,
) -> NDArray[np.uint8]:
    """Make the legend that belongs below an image of (H, W) pixels: title, details and notes, and a color bar.

    Texts that are too long are shortened, empty ones left out; there is room for `note_rows` notes or more. The color
    bar runs from -vmax to vmax if signed, else from 0; above it is the unit, or what its ends stand for. Its colors are
    those on gray, with a line where `draw` has contours. The legend is (h, max(W, 280), 3) uint8 RGB.
    """
    letter = letter_size(size)
    right = max(size[1], MIN_WIDTH) - letter
    side_by_side = right - letter >= 32 * letter
    bar_left = right - 15 * letter if side_by_side else letter
    text_width = (bar_left - 2 * letter if side_by_side else right) - letter

    rows = [(line, 1.35 * letter, INK, 1.8) for line in _wrap(clean(title), 1.35 * letter, text_width)]
    rows += [(clean(details), letter, INK, 1.45)]
    rows += [(clean(note), 0.85 * letter, PALE, 1.25) for note in notes]
    rows = [row for row in rows if row[0]]
    rows += [("", 0.85 * letter, PALE, 1.25)] * (note_rows - sum(bool(clean(note)) for note in notes))
    text_bottom = round(letter * (1 + sum(step for *_, step in rows)))
    bar = _bar(right - bar_left, letter, vmax, colormap, opacity, unit, ends, signed, contours)
    bar_top = letter if side_by_side else text_bottom + letter // 3
    strip = np.full((max(text_bottom, bar_top + bar.shape[0]) + letter // 2, right + letter), PAPER, np.uint8)
    y = float(letter)
    for text, font_size, ink, step in rows:
        room = text_width if y < bar_top + bar.shape[0] else right - letter  # below the bar there is more
        write_text(strip, (letter, round(y)), shorten(text, font_size, room), font_size, ink)
        y += step * letter

    legend = np.asarray(cv2.cvtColor(strip, cv2.COLOR_GRAY2RGB), np.uint8)
    legend[bar_top : bar_top + bar.shape[0], bar_left:right] = bar
    return legend


def letter_size(size: tuple[int, int]) -> int:
    """Height in pixels of the letters below an image (H, W); of a few sizes, so that a run draws each letter once."""
    height, width = size
    level = round(math.log(min(max(13, min(width, 2 * height) / 46), 150) / 13, 1.25))
    return round(13 * 1.25**level)


@lru_cache(maxsize=8)  # the images of a run share it
def _bar(
    width: int,
    letter: int,
    vmax: float,
    colormap: str,
    opacity: float,
    unit: str,
    ends: tuple[str, str],
    signed: bool,
    contours: bool,
) -> NDArray[np.uint8]:
    """Draw the color bar with a text above and round numbers below, every other one if short: (H, W, 3) uint8 RGB."""
    font_size = 0.85 * letter
    top, bottom = round(1.3 * letter), round(2.05 * letter)
    gray = np.full((round(3.4 * letter), width), PAPER, np.uint8)
    low, high = (shorten(clean(end), font_size, width // 2 - letter // 2) for end in ends)
    write_text(gray, (0, 0), low or shorten(unit, font_size, width), font_size, PALE)
    write_text(gray, (width - text_length(high, font_size), 0), high, font_size, PALE)
    ticks = _ticks(vmax, signed)
    if sum(text_length(number, font_size) + letter for _, number in ticks) > width:
        ticks = ticks[len(ticks) // 2 % 2 :: 2]  # with the zero in the middle
    stroke = max(1, letter // 13)
    for share, number in ticks:
        x = round(share * (width - stroke))
        gray[bottom : bottom + letter // 4 + 1, x : x + stroke] = PALE
        length = text_length(number, font_size)
        x = min(max(x + (stroke - length) // 2, 0), width - length)
        write_text(gray, (x, bottom + letter // 3), number, font_size, INK)
    bar = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
    bar[top:bottom] = _colors((bottom - top, width), colormap, opacity, vmax > 0, signed)
    if contours and vmax > 0:
        for share in ((1 - CONTOUR) / 2, (1 + CONTOUR) / 2) if signed else (CONTOUR,):
            x = round(share * (width - 1))
            bar[top:bottom, x - stroke : x + 2 * stroke] = INK
            bar[top:bottom, x : x + stroke] = 255
    bar.flags.writeable = False  # shared by all callers
    return bar


@lru_cache(maxsize=8)
def _colors(size: tuple[int, int], colormap: str, opacity: float, has_scale: bool, signed: bool) -> NDArray[np.uint8]:
    """Paint the colors of a bar (H, W) on gray: (H, W, 3)."""
    indices = to_color_indices(np.linspace(-1 if signed else 0, 1, size[1]), float(has_scale))[None].repeat(size[0], 0)
    return paint(indices, np.full(size, BAR_GRAY, np.uint8), colormap, opacity)


def _ticks(vmax: float, signed: bool) -> list[tuple[float, str]]:
    """Choose round numbers of a color scale and their positions on it, from 0 to 1."""
    if vmax <= 0:
        return [(0.5 if signed else 0.0, "0")]
    power = 10.0 ** math.floor(math.log10(vmax / 2))
    step = next(size * power for size in (5, 2, 1) if size * power <= vmax / 2)
    count = math.floor(vmax / step * (1 + 1e-9))
    numbers = [step * number for number in range(-count if signed else 0, count + 1)]
    return [((number / vmax + 1) / 2 if signed else number / vmax, _number(number, signed)) for number in numbers]


def _number(value: float, signed: bool) -> str:
    rounded = float(f"{value:.4g}")
    return "0" if not value else f"{rounded:+g}" if signed else f"{rounded:g}"


def write_text(gray: NDArray[np.uint8], corner: tuple[int, int], text: str, size: float, ink: int) -> None:
    """Write letters of a size in pixels side by side, from the corner (x, y) at their top left."""
    if text:
        line = np.concatenate([_letter(letter, size, ink) for letter in text], 1)
        room = gray[corner[1] :, corner[0] :][: line.shape[0], : line.shape[1]]
        room[:] = line[: room.shape[0], : room.shape[1]]


@lru_cache(maxsize=4096)  # Pillow takes a millisecond to draw the texts of one image
def _letter(letter: str, size: float, ink: int) -> NDArray[np.uint8]:
    """Draw a letter on paper as high as a line and as wide as the letter."""
    font = _font(size)
    width = math.ceil(font.getlength(letter)) + 1 if letter == " " else round(font.getlength(letter))
    paper = Image.new("L", (width, math.ceil(1.3 * size)), PAPER)
    ImageDraw.Draw(paper).text((0, 0), letter, ink, font)
    return np.asarray(paper)


_font = lru_cache(maxsize=64)(ImageFont.load_default)


@lru_cache(maxsize=1024)
def text_length(text: str, size: float) -> int:
    """Width in pixels of letters of a size in pixels."""
    return sum(_letter(letter, size, INK).shape[1] for letter in text)


def clean(text: str) -> str:
    """Return one line without control characters and without accents, which the font lacks."""
    if text.isascii() and text.isprintable() and len(text) <= 1000:
        return text.strip()
    text = normalize("NFKD", text[:1000].encode("utf-8", "replace").decode())[:1000]
    characters = (" " if c.isspace() else c for c in text if c.isspace() or (c.isprintable() and not combining(c)))
    return "".join(characters).strip()


def _wrap(text: str, size: float, width: int) -> list[str]:
    """Break a text that is too long at a space, once; the second line may still be too long."""
    if text_length(text, size) <= width:
        return [text]
    fitting = bisect_right(range(len(text)), width, key=lambda n: text_length(text[:n], size))
    space = text.rfind(" ", 0, fitting)
    return [text[:space], text[space + 1 :]] if space > 0 else [text]


def shorten(text: str, size: float, width: int) -> str:
    """Cut a text that is wider than so many pixels, and end it with an ellipsis."""
    if text_length(text, size) <= width:
        return text
    fitting = bisect_right(range(len(text)), width, key=lambda n: text_length(text[:n].rstrip() + "…", size))
    return text[: max(fitting - 1, 0)].rstrip() + "…"
