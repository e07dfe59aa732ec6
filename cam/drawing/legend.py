"""A strip below a picture that says what its colors mean."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain, repeat
from typing import NamedTuple, cast
from unicodedata import combining, normalize

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cam.drawing.colormaps import colorize

_MIN_WIDTH = 280

_PAPER, _INK, _PALE = 250, 24, 104  # grays

_LARGE = 40  # pixels: pieces of such letters would fill the memory, and photographs that have them take longer anyway

_PIECES = re.compile("[0-9]|[^0-9]+")  # what lies between numbers, which are always new

_SMALLEST, _STEP = 13, 1.25  # letters in pixels, and from one size to the next: those once drawn serve many pictures


def with_legend(
    size: tuple[int, int],
    *,
    title: str,
    details: str,
    vmax: float,
    colormap: str = "signed",
    notes: Sequence[str] = (),
    unit: str = "evidence (logit)",
    signed: bool = True,
) -> NDArray[np.uint8]:
    """Make room for a picture with a legend below it: what it shows, and a color bar with numbers.

    Args:
        size: (H, W) of the picture.
        title: the label of the class; any text, shortened where it is too long.
        details: such as "probability 97.3 %   logit 21.4".
        vmax: evidence of the outermost colors, as in `colorize`.
        colormap: as in `colormaps.lookup`.
        notes: more lines, such as what the hatching means; empty ones are left out.
        unit: what the numbers of the color bar are.
        signed: whether the color bar runs from -vmax, else from 0.

    Returns:
        (H + legend, max(W, 280), 3) uint8 RGB; the H x W pixels at the top left are anything, until they are drawn.

    Raises:
        UsageError: as in `colorize`.

    Example:
        >>> with_legend((32, 32), title="cat", details="logit 8.1", vmax=9.5).shape[1]
        280
    """
    height, width = size
    wanted = min(max(_SMALLEST, min(width, 2 * height) / 46), 150)
    letter = round(_SMALLEST * _STEP ** round(math.log(wanted / _SMALLEST, _STEP)))
    gray, (left, top), bar_width = _text(max(width, _MIN_WIDTH), letter, (title, details, *notes))
    bar = _bar(bar_width, letter, vmax, colormap, unit, signed)
    canvas = np.empty((height + gray.shape[0], gray.shape[1], 3), np.uint8)
    canvas[:height, width:] = _PAPER
    cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB, dst=canvas[height:])
    canvas[height + top : height + top + bar.shape[0], left : left + bar_width] = bar
    return canvas


def _text(width: int, size: int, texts: Sequence[str]) -> tuple[NDArray[np.uint8], tuple[int, int], int]:
    """The strip in gray, with room for the color bar, side by side where there is any; the bar's corner and width.

    `size` is that of the letters in pixels.
    """
    inner = width - 2 * size
    beside = inner >= 32 * size
    bar_width = 15 * size if beside else inner
    text_width = inner - bar_width - 2 * size if beside else inner
    title, *others = map(_clean, texts)
    styles = chain([(1.0, _INK, 1.45)], repeat((0.85, _PALE, 1.25)))
    lines = [(line, 1.35, _INK, 1.8) for line in _wrap(title, 1.35 * size, text_width)]
    lines += [(text, *style) for text, style in zip(others, styles, strict=False) if text]
    text_height = round(sum(line[3] for line in lines) * size)
    bar_top = size if beside else size + text_height + size // 3

    strip = np.full((max(size + text_height + size // 2, bar_top + _bar_height(size)), width), _PAPER, np.uint8)
    y = float(size)
    for text, scale, ink, step in lines:
        _write(strip, (size, round(y)), _shorten(text, scale * size, text_width), scale * size, ink)
        y += step * size
    return strip, (width - size - bar_width, bar_top), bar_width


@lru_cache(maxsize=8)  # one scale for many pictures of one size is what there is most often
def _bar(width: int, size: int, vmax: float, colormap: str, unit: str, signed: bool) -> NDArray[np.uint8]:
    """The color bar with its numbers, and the margin below it."""
    low, letter = -1.0 if signed else 0.0, 0.85 * size
    colors = colorize(np.linspace(low * vmax, vmax, width)[None], vmax, colormap, signed)
    first, last = round(1.3 * size), round(1.3 * size) + round(0.75 * size)
    gray = np.full((_bar_height(size), width), _PAPER, np.uint8)
    _write(gray, (0, 0), _shorten(unit, letter, width), letter, _PALE)
    shares = [float(share) for share in np.linspace(low, 1, 5)] if vmax > 0 else [0.0]
    end = float(f"{vmax:.3g}")  # as it is written, so that the half of it is written as that
    if sum(_length(_number(share * end, signed, digits=4), letter) + size for share in shares) > width:
        shares = shares[::2]
    stroke = max(1, size // 13)
    for share in shares:
        x = round((share - low) / (1 - low) * (width - stroke))
        gray[last : last + size // 4 + 1, x : x + stroke] = _PALE
        number = _number(share * end, signed, digits=4)
        before = {low: 0.0, 1.0: 1.0}.get(share, 0.5)  # the outer numbers end with the bar
        x = round(x + (stroke if share == 1 else 0) - before * _length(number, letter))
        _write(gray, (x, last + size // 3), number, letter, _INK)
    bar = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
    bar[first:last] = colors
    bar.flags.writeable = False  # shared by all callers
    return bar


def _bar_height(size: int) -> int:
    return round(3.4 * size) + size // 2


def _write(gray: NDArray[np.uint8], corner: tuple[int, int], text: str, size: float, ink: int) -> None:
    """Write on paper from the corner (x, y) at the top left."""
    x, y = corner[0], corner[1] + _font(size).getmetrics()[0]
    for piece in _PIECES.findall(text) if size < _LARGE else text:
        drawn = _piece(piece, size, ink) if len(piece) > 1 else _letter(piece, size, ink)
        _put(gray, drawn, x, y)
        x += drawn.advance


class _Drawn(NamedTuple):
    """Something on paper, where its pixels begin, right of the pen and below the line, and how far the pen moves on."""

    pixels: NDArray[np.uint8]
    left: int
    top: int
    advance: int


def _put(gray: NDArray[np.uint8], drawn: _Drawn, x: int, y: int) -> None:
    """Put it where the pen is."""
    room = gray[max(0, y + drawn.top) :, max(0, x + drawn.left) :][: drawn.pixels.shape[0], : drawn.pixels.shape[1]]
    np.minimum(room, drawn.pixels[: room.shape[0], : room.shape[1]], out=room)


def _length(text: str, size: float) -> int:
    return sum(_letter(letter, size, _INK).advance for letter in text)


@lru_cache(maxsize=256)  # most of them are in every legend
def _piece(piece: str, size: float, ink: int) -> _Drawn:
    letters = [_letter(letter, size, ink) for letter in piece]
    *pens, end = accumulate((letter.advance for letter in letters), initial=0)
    lefts = [pen + letter.left for pen, letter in zip(pens, letters, strict=True)]
    left, top = min(lefts), min(letter.top for letter in letters)
    right = max(x + letter.pixels.shape[1] for x, letter in zip(lefts, letters, strict=True))
    bottom = max(letter.top + letter.pixels.shape[0] for letter in letters)
    paper = np.full((bottom - top, right - left), _PAPER, np.uint8)
    for pen, letter in zip(pens, letters, strict=True):
        _put(paper, letter, pen - left, -top)
    return _Drawn(paper, left, top, end)


@lru_cache(maxsize=4096)
def _letter(letter: str, size: float, ink: int) -> _Drawn:
    """A letter; whole pixels leave no room between words of small ones, so that a space is a little wider."""
    font = _font(size)
    left, top, right, bottom = map(int, font.getbbox(letter, anchor="ls"))
    paper = Image.new("L", (max(1, right - left), max(1, bottom - top)), _PAPER)
    ImageDraw.Draw(paper).text((-left, -top), letter, ink, font, "ls")
    advance = font.getlength(letter)
    return _Drawn(np.asarray(paper), left, top, math.ceil(advance) + 1 if letter == " " else round(advance))


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # what it is wherever a size can be had
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)  # whole pixels, with libraqm or without


def _clean(text: str) -> str:
    """One line without control characters or accents, which the font lacks; the rest it lacks is a box."""
    if text.isascii() and text.isprintable():
        return text[:1000].strip()
    text = normalize("NFKD", text[:1000].encode("utf-8", "replace").decode())
    kept = (" " if c.isspace() else c for c in text if c.isspace() or (c.isprintable() and not combining(c)))
    return "".join(kept).strip()


def _wrap(text: str, size: float, width: float) -> list[str]:
    """Two lines where a text is too long for one, broken at a space; the second may have to be shortened."""
    if _length(text, size) <= width:
        return [text] if text else []
    breaks = [index for index, letter in enumerate(text) if letter == " " and _length(text[:index], size) <= width]
    return [text[: breaks[-1]], text[breaks[-1] + 1 :]] if breaks else [text]


def _shorten(text: str, size: float, width: float) -> str:
    if _length(text, size) <= width:
        return text
    lengths = range(len(text))
    fitting = bisect_right(lengths, width, key=lambda n: _length(text[:n].rstrip() + "…", size))
    return text[: max(fitting - 1, 0)].rstrip() + "…"


def _number(value: float, signed: bool, digits: int = 3) -> str:
    """As many significant digits."""
    rounded = float(f"{value:.{digits}g}")
    return "0" if not value else f"{rounded:+g}" if signed else f"{rounded:g}"
