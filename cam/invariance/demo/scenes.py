"""Synthetic scenes: handwritten digits at random positions on cluttered canvases, with their boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError
from cam.maps.boxes import Box

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Area = tuple[float, float, float, float]
_ATTEMPTS = 1000  # layouts tried before the canvas counts as too small
_PARTS = {"train": slice(0, 1197), "validation": slice(1197, 1397), "test": slice(1397, 1797)}


@dataclass(frozen=True)
class Scene:
    """An image of D digits."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: Ints  # (D, 4): tight boxes around the ink, xyxy in pixels, ends excluded
    classes: Ints  # (D,), in the order of the boxes
    ink: NDArray[np.bool_]  # (H, W): True where a pixel is more digit than background


def uci_digits(part: str) -> tuple[Floats, Ints]:
    """Load one part of the UCI handwritten digits (Alpaydin and Kaynak 1998, CC BY 4.0) from scikit-learn.

    The parts `train` (1197), `validation` (200) and `test` (400) share no glyph. Returns glyphs (N, 8, 8), the amount
    of ink from 0 to 1, and classes (N,).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("scikit-learn, which has the digits, is missing", "Run pip install scikit-learn") from error
    glyphs, classes = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(classes))[_PARTS[part]]
    return (glyphs[chosen].reshape(-1, 8, 8) / 16).astype(np.float32), classes[chosen].astype(np.int64)


def compose(
    glyphs: Sequence[Floats] | Floats,
    classes: Sequence[int] | Ints,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    digit_size: tuple[float, float] = (16, 40),
    clutter: float = 1.0,
    area: Area | None = None,
) -> Scene:
    """Draw D glyphs (h, w) on a canvas of (H, W) pixels: random positions, heights, slants and contrasts, no overlap.

    The digits are `digit_size` pixels high (smallest and largest, before they are slanted) and lie in `area`, xyxy in
    pixels, by default the whole canvas. `clutter`, from 0, is the amount of gradients, clouds, shapes and noise.
    """
    left, top, right, bottom = area or (0, 0, size[1], size[0])
    area = max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
    canvas = _draw_background(size, clutter, rng)
    inks = [_draw_ink(np.asarray(glyph, np.float32), rng.uniform(*digit_size), rng) for glyph in glyphs]
    boxes = _lay_out([ink.shape for ink in inks], area, rng)
    opacity = np.zeros(size, np.float32)
    for ink, (x0, y0, x1, y1) in zip(inks, boxes, strict=True):
        opacity[y0:y1, x0:x1] = ink
        region = canvas[y0:y1, x0:x1]
        region += ink[..., None] * (_contrasting_color(region, rng) - region)
    canvas += 0.04 * clutter * rng.uniform() * rng.standard_normal(canvas.shape, np.float32)
    image = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(image, np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, np.int64), opacity > 0.5)


def _draw_ink(glyph: Floats, height: float, rng: np.random.Generator) -> Floats:
    """Rotate, slant and enlarge a glyph until its rows take `height` pixels: opacity, tightly cropped."""
    rows, columns = glyph.shape
    turn, slant, stretch = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), rng.uniform(0.85, 1.15)
    half = round(0.9 * height * max(1, columns / rows))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * (rows / height)
    v = y * math.cos(turn) - x * math.sin(turn)
    u = (y * math.sin(turn) + x * math.cos(turn)) / stretch + slant * v

    def weights(distance: Floats) -> Floats:
        """Gaussian interpolation between cells at distance 1; over all cells the weights add up to about 1."""
        return np.asarray(0.9 * np.exp(-2.5 * distance**2))

    row_weights = weights(v[..., None] + (rows - 1) / 2 - np.arange(rows, dtype=np.float32))
    column_weights = weights(u[..., None] + (columns - 1) / 2 - np.arange(columns, dtype=np.float32))
    amount = ((row_weights @ glyph) * column_weights).sum(-1)
    t = ((amount - 0.35) / (0.65 - 0.35)).clip(0, 1)
    ink: Floats = t * t * (3 - 2 * t)
    inked = np.argwhere(ink)
    (y0, x0), (y1, x1) = (inked.min(0), inked.max(0) + 1) if len(inked) else ((0, 0), (0, 0))
    return ink[y0:y1, x0:x1]


def _lay_out(shapes: list[tuple[int, ...]], area: Area, rng: np.random.Generator) -> list[Box]:
    """Choose random boxes of those shapes in the area, at least two pixels apart."""
    left, top = math.ceil(area[0]), math.ceil(area[1])
    spare = [(int(area[2]) - left - width, int(area[3]) - top - height) for height, width in shapes]
    attempts = _ATTEMPTS if all(min(room) >= 0 for room in spare) else 0

    def separate(a: Box, b: Box) -> bool:
        return a[0] >= b[2] + 2 or a[1] >= b[3] + 2 or b[0] >= a[2] + 2 or b[1] >= a[3] + 2

    for _ in range(attempts):
        corners = [(left + int(rng.integers(x + 1)), top + int(rng.integers(y + 1))) for x, y in spare]
        boxes = [(x, y, x + width, y + height) for (x, y), (height, width) in zip(corners, shapes, strict=True)]
        if all(separate(a, b) for a, b in combinations(boxes, 2)):
            return boxes
    raise UsageError(f"{len(shapes)} digits do not fit in {area} without overlap", "Choose fewer or smaller digits")


def _contrasting_color(region: Floats, rng: np.random.Generator) -> Floats:
    """Choose a color clearly lighter or darker than the mean of a region."""
    mean = region.mean((0, 1))
    sign = 1 if mean.mean() < rng.uniform(0.35, 0.65) else -1
    change = sign * rng.uniform(0.35, 0.9) * rng.uniform(0.6, 1, 3)
    return np.asarray((mean + change).clip(0, 1), np.float32)


def _random_color(rng: np.random.Generator) -> Floats:
    return (rng.uniform(0.05, 0.95) + rng.normal(0, 0.12, 3)).clip(0, 1).astype(np.float32)


def _draw_background(size: tuple[int, int], clutter: float, rng: np.random.Generator) -> Floats:
    """Draw a canvas without digits, (H, W, 3), 0 to 1: a gradient, clouds and shapes."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / min(size)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = math.cos(angle) * x + math.sin(angle) * y
    slope = clutter * rng.normal(0, 0.15, 3).astype(np.float32)
    canvas: Floats = _random_color(rng) + ramp[..., None] * slope
    clouds = np.zeros_like(y)
    for _ in range(3):
        clouds += rng.uniform(0, 0.06) * np.sin(rng.normal(0, 8) * y + rng.normal(0, 8) * x + rng.uniform(0, 6.3))
    canvas += clutter * clouds[..., None]
    for _ in range(rng.integers(round(12 * clutter) + 1)):
        opacity = rng.uniform(0.2, 0.8) * _draw_shape(y, x, rng)
        canvas += opacity[..., None] * (_random_color(rng) - canvas)
    return canvas


def _draw_shape(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Opacity, 0 to 1, of a line, an ellipse, a triangle or an arc; coordinates in units of the shorter side."""
    angle = rng.uniform(0, 2 * math.pi)
    dy, dx = y - rng.uniform(0, float(y[-1, -1])), x - rng.uniform(0, float(x[-1, -1]))
    u, v = math.cos(angle) * dx + math.sin(angle) * dy, math.cos(angle) * dy - math.sin(angle) * dx
    kind = ("line", "ellipse", "triangle", "arc")[rng.integers(4)]
    if kind == "line":  # bent, and thin if it is long
        length, thickness = ((0.05, 0.02), (0.4, 0.008), (0.8, 0.015))[rng.integers(3)]
        bent = v + rng.normal(0, 0.8) * u**2
        distance = np.maximum(abs(u) - length, abs(bent) - thickness)  # from the edge, negative inside
    elif kind == "ellipse":
        long, short = rng.uniform(0.03, 0.3), rng.uniform(0.03, 0.15)
        distance = (np.hypot(u / long, v / short) - 1) * min(long, short)
    elif kind == "triangle":
        sides = [math.cos(angle) * u + math.sin(angle) * v for angle in np.cumsum(rng.uniform(1.6, 2.6, 3)).tolist()]
        distance = np.maximum.reduce(sides) - rng.uniform(0.02, 0.1)
    else:  # less than half of a ring
        radius, thickness = rng.uniform(0.05, 0.4), rng.uniform(0.005, 0.02)
        ring = abs(np.hypot(u, v) - radius) - thickness
        distance = np.maximum(ring, radius * rng.uniform(0.1, 0.8) - u)
    edge = 0.01 if rng.uniform() < 0.7 else 0.1
    return np.asarray((0.5 - distance / edge).clip(0, 1))
