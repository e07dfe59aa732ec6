"""Scenes with a known answer: handwritten digits at random places on cluttered canvases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError

Floats = NDArray[np.float32]

Ints = NDArray[np.int64]

Box = tuple[int, int, int, int]

ATTEMPTS = 1000
"""Layouts tried before the canvas counts as too small."""


@dataclass(frozen=True)
class Scene:
    """A picture and what it shows.

    Attributes:
        image: RGB, (H, W, 3) uint8.
        boxes: tight boxes around the ink of each digit, (D, 4), xyxy in pixels, the far edges exclusive.
        classes: the class of each digit, (D,), in the order of the boxes.
        ink: which pixels are more digit than ground, (H, W) bool.
    """

    image: NDArray[np.uint8]
    boxes: Ints
    classes: Ints
    ink: NDArray[np.bool_]


def uci_digits(part: str) -> tuple[Floats, Ints]:
    """Handwritten digits of the UCI repository (Alpaydin and Kaynak 1998, CC BY 4.0), from scikit-learn.

    The 1797 glyphs are dealt once and for all into parts that share none, so that scenes from one part show
    nothing that was learned from another.

    Args:
        part: `train` (1197 glyphs), `validation` (200) or `test` (400).

    Returns:
        Glyphs, (N, 8, 8), the amount of ink from 0 to 1, and their classes, (N,).

    Raises:
        UsageError: there is no such part, or scikit-learn is not installed.

    Example:
        >>> glyphs, classes = uci_digits("test")
        >>> glyphs.shape, int(classes.max())
        ((400, 8, 8), 9)
    """
    bounds = {"train": slice(0, 1197), "validation": slice(1197, 1397), "test": slice(1397, 1797)}
    if part not in bounds:
        raise UsageError(f"there is no part {part!r} of the digits", f"Choose one of {', '.join(bounds)}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("the digits come with scikit-learn, which is not installed", "Install it") from error
    glyphs, classes = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(classes))[bounds[part]]
    return (glyphs[chosen].reshape(-1, 8, 8) / 16).astype(np.float32), classes[chosen].astype(np.int64)


def compose(
    glyphs: Sequence[Floats] | Floats,
    classes: Sequence[int] | Ints,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    digit_size: tuple[float, float] = (16, 40),
    clutter: float = 1.0,
    area: tuple[float, float, float, float] | None = None,
) -> Scene:
    """Place digits on a canvas, each at a random place, height, slant and contrast, none over another.

    Args:
        glyphs: the digits to place, D arrays of (h, w), the amount of ink from 0 to 1.
        classes: their classes, D integers.
        size: of the canvas, (H, W) in pixels.
        rng: the only source of chance: the same state gives the same scene.
        digit_size: smallest and largest height of a digit in pixels, before it is slanted.
        clutter: how much there is of gradients, clouds, strokes, blobs, splinters, arcs and noise: 0 is none.
        area: the part of the canvas where digits may lie, xyxy in pixels; all of it by default.

    Returns:
        The scene.

    Raises:
        UsageError: the digits do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scene = compose([np.ones((8, 8))], [7], (64, 96), rng, digit_size=(20, 20), area=(48, 0, 96, 64))
        >>> scene.image.shape, bool(scene.boxes[0, 0] >= 48), scene.classes.tolist()
        ((64, 96, 3), True, [7])
    """
    left, top, right, bottom = area or (0, 0, size[1], size[0])
    area = max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
    canvas = _background(size, clutter, rng)
    inks = [_ink(np.asarray(glyph, np.float32), rng.uniform(*digit_size), rng) for glyph in glyphs]
    boxes = _layout([ink.shape for ink in inks], area, rng)
    if boxes is None:
        found = f"{len(inks)} digits {digit_size!r} pixels high do not fit in {area!r} side by side"
        raise UsageError(found, "Choose smaller or fewer digits, or a larger canvas or area")
    opacity = np.zeros(size, np.float32)
    for ink, (x0, y0, x1, y1) in zip(inks, boxes, strict=True):
        opacity[y0:y1, x0:x1] = ink
        patch = canvas[y0:y1, x0:x1]
        patch += ink[..., None] * (_ink_color(patch, rng) - patch)
    canvas += 0.04 * clutter * rng.uniform() * rng.standard_normal(canvas.shape, np.float32)
    image = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(image, np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, np.int64), opacity > 0.5)


def _ink(glyph: Floats, size: float, rng: np.random.Generator) -> Floats:
    """The glyph turned, slanted and enlarged until its rows take `size` pixels: opacity, tightly cropped."""
    rows, columns = glyph.shape
    turn, slant, stretch = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), rng.uniform(0.85, 1.15)
    half = round(0.9 * size * max(1, columns / rows))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * (rows / size)
    v = y * math.cos(turn) - x * math.sin(turn)
    u = (y * math.sin(turn) + x * math.cos(turn)) / stretch + slant * v
    near_rows = _bell(v[..., None] + (rows - 1) / 2 - np.arange(rows, dtype=np.float32))
    near_columns = _bell(u[..., None] + (columns - 1) / 2 - np.arange(columns, dtype=np.float32))
    ink = _smoothstep(((near_rows @ glyph) * near_columns).sum(-1), 0.35, 0.65)
    inked_rows, inked_columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    return ink[_span(inked_rows), _span(inked_columns)]


def _span(indices: NDArray[np.intp]) -> slice:
    return slice(indices[0], indices[-1] + 1) if len(indices) else slice(0, 0)


def _bell(distance: Floats) -> Floats:
    """Weights of a smooth interpolation between cells one apart; over all cells they add up to about 1."""
    weights: Floats = 0.9 * np.exp(-2.5 * distance**2)
    return weights


def _smoothstep(value: Floats, low: float, high: float) -> Floats:
    t = ((value - low) / (high - low)).clip(0, 1)
    result: Floats = t * t * (3 - 2 * t)
    return result


def _layout(
    shapes: list[tuple[int, ...]], area: tuple[float, float, float, float], rng: np.random.Generator
) -> list[Box] | None:
    """Random boxes of those shapes in the area, two pixels or more apart; None if no such layout was found."""
    left, top = math.ceil(area[0]), math.ceil(area[1])
    spare = [(int(area[2]) - left - width, int(area[3]) - top - height) for height, width in shapes]
    if any(min(room) < 0 for room in spare):
        return None
    for _ in range(ATTEMPTS):
        corners = [(left + int(rng.integers(x + 1)), top + int(rng.integers(y + 1))) for x, y in spare]
        boxes = [(x, y, x + width, y + height) for (x, y), (height, width) in zip(corners, shapes, strict=True)]
        if all(_apart(a, b) for a, b in combinations(boxes, 2)):
            return boxes
    return None


def _apart(a: Box, b: Box) -> bool:
    return a[0] >= b[2] + 2 or a[1] >= b[3] + 2 or b[0] >= a[2] + 2 or b[1] >= a[3] + 2


def _ink_color(patch: Floats, rng: np.random.Generator) -> Floats:
    """A color clearly lighter or darker than the mean of the patch that it will be painted on."""
    ground = patch.mean((0, 1))
    sign = 1 if ground.mean() < rng.uniform(0.35, 0.65) else -1
    change = sign * rng.uniform(0.35, 0.9) * rng.uniform(0.6, 1, 3)
    color: Floats = (ground + change).clip(0, 1).astype(np.float32)
    return color


def _background(size: tuple[int, int], clutter: float, rng: np.random.Generator) -> Floats:
    """A canvas without digits, (H, W, 3), 0 to 1: a gradient, clouds, and shapes that are no digits."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / min(size)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = math.cos(angle) * x + math.sin(angle) * y
    slope = clutter * rng.normal(0, 0.15, 3).astype(np.float32)
    canvas: Floats = _color(rng) + ramp[..., None] * slope + clutter * _cloud(y, x, rng)[..., None]
    for _ in range(rng.integers(round(12 * clutter) + 1)):
        opacity = rng.uniform(0.2, 0.8) * _shape(y, x, rng)
        canvas += opacity[..., None] * (_color(rng) - canvas)
    return canvas


def _color(rng: np.random.Generator) -> Floats:
    return (rng.uniform(0.05, 0.95) + rng.normal(0, 0.12, 3)).clip(0, 1).astype(np.float32)


def _cloud(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Light and shade that change slowly: a few plane waves of random direction."""
    cloud = np.zeros_like(y)
    for _ in range(3):
        cloud += rng.uniform(0, 0.06) * np.sin(rng.normal(0, 8) * y + rng.normal(0, 8) * x + rng.uniform(0, 6.3))
    return cloud


def _shape(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """The opacity, 0 to 1, of one stroke, blob, splinter or arc; its coordinates in shorter sides."""
    angle = rng.uniform(0, 2 * math.pi)
    dy, dx = y - rng.uniform(0, float(y[-1, -1])), x - rng.uniform(0, float(x[-1, -1]))
    u, v = math.cos(angle) * dx + math.sin(angle) * dy, math.cos(angle) * dy - math.sin(angle) * dx
    distance = SHAPES[rng.integers(len(SHAPES))](u, v, rng)
    edge = 0.01 if rng.uniform() < 0.7 else 0.1
    return (0.5 - distance / edge).clip(0, 1)


def _stroke(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """A bent line, thin if it is long."""
    length, thickness = ((0.05, 0.02), (0.4, 0.008), (0.8, 0.015))[rng.integers(3)]
    bent = v + rng.normal(0, 0.8) * u**2
    stroke: Floats = np.maximum(abs(u) - length, abs(bent) - thickness)
    return stroke


def _blob(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """An ellipse."""
    long, short = rng.uniform(0.03, 0.3), rng.uniform(0.03, 0.15)
    blob: Floats = (np.hypot(u / long, v / short) - 1) * min(long, short)
    return blob


def _splinter(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """A filled triangle."""
    sides = [math.cos(angle) * u + math.sin(angle) * v for angle in np.cumsum(rng.uniform(1.6, 2.6, 3)).tolist()]
    splinter: Floats = np.maximum.reduce(sides) - rng.uniform(0.02, 0.1)
    return splinter


def _arc(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Less than half of a ring."""
    radius, thickness = rng.uniform(0.05, 0.4), rng.uniform(0.005, 0.02)
    ring = abs(np.hypot(u, v) - radius) - thickness
    arc: Floats = np.maximum(ring, radius * rng.uniform(0.1, 0.8) - u)
    return arc


SHAPES = (_stroke, _blob, _splinter, _arc)
"""What clutters a canvas: each gives the distance from the edge of a shape, negative inside."""
