"""A strip below a picture that says what its colours mean."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import cast
from unicodedata import combining, normalize

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cam.colormaps import colorize

_MIN_WIDTH = 280
_PAPER, _INK, _PALE = (250, 250, 250), (24, 24, 24), (104, 104, 104)


def with_legend(
    picture: NDArray[np.uint8],
    *,
    title: str,
    details: str,
    limit: float,
    colormap: str = "signed",
    notes: Sequence[str] = (),
    unit: str = "evidence (logit)",
    signed: bool = True,
) -> NDArray[np.uint8]:
    """Put a legend below a picture: what it shows, and a colour bar with numbers.

    Args:
        picture: (H, W, 3) uint8 RGB overlay.
        title: the label of the class; any text, shortened where it is too long.
        details: such as "probability 97.3 %   logit 21.4".
        limit: evidence of the outermost colours, as in `colorize`.
        colormap: as in `colormaps.lookup`.
        notes: more lines, such as what the hatching means; empty ones are left out.
        unit: what the numbers of the colour bar are.
        signed: whether the colour bar runs from -limit, else from 0.

    Returns:
        (H + legend, max(W, 280), 3) uint8 RGB, the picture unchanged at the top left.

    Raises:
        UsageError: as in `colorize`.

    Example:
        >>> picture = np.zeros((32, 32, 3), np.uint8)
        >>> with_legend(picture, title="cat", details="logit 8.1", limit=9.5).shape[1]
        280
    """
    height, width = picture.shape[:2]
    size = round(min(max(13, min(width, 2 * height) / 38), 150))
    bar = partial(_draw_bar, size=size, limit=limit, colormap=colormap, unit=unit, signed=signed)
    strip = _strip(max(width, _MIN_WIDTH), size, (title, details, *notes), bar)
    canvas = np.empty((height + strip.shape[0], strip.shape[1], 3), np.uint8)
    canvas[:height] = _PAPER
    canvas[:height, :width] = picture
    canvas[height:] = strip
    return canvas


def _strip(width: int, size: int, texts: Sequence[str], draw_bar: Callable[..., None]) -> NDArray[np.uint8]:
    """Text and colour bar, side by side where there is room; `size` is that of the letters in pixels."""
    inner = width - 2 * size
    beside = inner >= 32 * size
    bar_width = 15 * size if beside else inner
    text_width = inner - bar_width - 2 * size if beside else inner
    title, *others = map(_clean, texts)
    styles = chain([(1.0, _INK, 1.45)], repeat((0.85, _PALE, 1.25)))
    lines = [(line, 1.35, _INK, 1.8) for line in _wrap(title, _font(1.35 * size), text_width)]
    lines += [(text, *style) for text, style in zip(others, styles, strict=False) if text]
    text_height = round(sum(line[3] for line in lines) * size)
    bar_top = size if beside else size + text_height + size // 3
    bar_height = round(3.4 * size)

    strip = Image.new("RGB", (width, max(size + text_height, bar_top + bar_height) + size // 2), _PAPER)
    draw = ImageDraw.Draw(strip)
    y = float(size)
    for text, scale, ink, step in lines:
        font = _font(scale * size)
        draw.text((size, y), _shorten(text, font, text_width), ink, font)
        y += step * size
    draw_bar(strip, (width - size - bar_width, bar_top), bar_width)
    return np.array(strip)


def _draw_bar(
    strip: Image.Image,
    corner: tuple[int, int],
    width: int,
    *,
    size: int,
    limit: float,
    colormap: str,
    unit: str,
    signed: bool,
) -> None:
    draw, font = ImageDraw.Draw(strip), _font(0.85 * size)
    left, top = corner
    draw.text((left, top), _shorten(unit, font, width), _PALE, font)
    low = -1.0 if signed else 0.0
    values = np.linspace(low * limit, limit, width)[None]
    bar = colorize(values, limit, colormap, signed).repeat(round(0.75 * size), 0)
    top += round(1.3 * size)
    strip.paste(Image.fromarray(bar), (left, top))
    top += bar.shape[0]
    shares = [float(share) for share in np.linspace(low, 1, 5)] if limit > 0 else [0.0]
    if sum(font.getlength(_number(share * limit, signed)) + size for share in shares) > width:
        shares = shares[::2]
    stroke = max(1, size // 13)
    for share in shares:
        x = left + round((share - low) / (1 - low) * (width - stroke))
        draw.rectangle((x, top, x + stroke - 1, top + size // 4), _PALE)
        anchor = {low: "la", 1.0: "ra"}.get(share, "ma")  # the outer numbers end with the bar
        place = x + (stroke if share == 1 else 0)
        draw.text((place, top + size // 3), _number(share * limit, signed), _INK, font, anchor)


def _font(size: float) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # what it is wherever a size can be had


def _clean(text: str) -> str:
    """One line without control characters or accents, which the font lacks; the rest it lacks is a box."""
    text = normalize("NFKD", text[:1000].encode("utf-8", "replace").decode())
    kept = (" " if c.isspace() else c for c in text if c.isspace() or (c.isprintable() and not combining(c)))
    return "".join(kept).strip()


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Two lines where a text is too long for one, broken at a space; the second may have to be shortened."""
    if font.getlength(text) <= width:
        return [text] if text else []
    breaks = [index for index, letter in enumerate(text) if letter == " " and font.getlength(text[:index]) <= width]
    return [text[: breaks[-1]], text[breaks[-1] + 1 :]] if breaks else [text]


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    lengths = range(len(text))
    fitting = bisect_right(lengths, width, key=lambda n: font.getlength(text[:n].rstrip() + "…"))
    return text[: max(fitting - 1, 0)].rstrip() + "…"


def _number(value: float, signed: bool) -> str:
    """Three significant digits."""
    digits = float(f"{value:.3g}")
    return "0" if not value else f"{digits:+g}" if signed else f"{digits:g}"
