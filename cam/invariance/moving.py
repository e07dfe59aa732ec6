"""An object over all places of a canvas: what stays the same but for where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cam.errors import UsageError
from cam.images.io import resize
from cam.maps.boxes import Box
from cam.maps.geometry import Pair, Size

Fill: TypeAlias = Literal["mean", "blur", "reflect"] | tuple[int, int, int]

MAX_CANVAS = 2**24  # pixels: any network holds many times as much of each

MAX_PLACES = 4096

_BLUR = 0.1  # deviation, shares of the canvas's shorter side: colors stay, no object does


def positions(canvas: Size, thing: Size, steps: int) -> list[tuple[int, int]]:
    """Spread places evenly over all those where an object fits whole, row by row.

    Args:
        canvas: (H, W), pixels.
        thing: (h, w) of the object, pixels.
        steps: places along each axis; fewer where there is less room, and in the middle if it is one.

    Returns:
        (y, x) of the object's first pixel.

    Raises:
        UsageError: there is no such place, or there are more than `MAX_PLACES`.

    Example:
        >>> positions((8, 12), (4, 4), 3)
        [(0, 0), (0, 4), (0, 8), (2, 0), (2, 4), (2, 8), (4, 0), (4, 4), (4, 8)]
    """
    if steps < 1:
        raise UsageError(f"{steps} places along each axis are none", "Give 1 step or more")
    rooms = [canvas[axis] - thing[axis] for axis in (0, 1)]
    if min(rooms) < 0:
        found = f"A canvas of {hxw(canvas)} pixels (HxW) does not hold the object of {hxw(thing)}"
        raise UsageError(found, f"Give one of {hxw(thing)} pixels or more, or a smaller object")
    counts = [min(steps, room + 1) for room in rooms]
    if counts[0] * counts[1] > MAX_PLACES:
        found = f"{steps} steps along each axis make {counts[0] * counts[1]} places, more than {MAX_PLACES}"
        raise UsageError(found, f"Give {math.isqrt(MAX_PLACES)} steps or fewer")
    ys, xs = (
        [int(at) for at in (np.linspace(0, room, count) if steps > 1 else [room / 2])]
        for room, count in zip(rooms, counts, strict=True)
    )
    return [(y, x) for y in ys for x in xs]


def background(fill: Fill, canvas: Size, image: NDArray[np.uint8], mean: tuple[float, ...]) -> NDArray[np.uint8]:
    """Paint the canvas that an object is moved over; for "reflect", which moves along, it is the mean color.

    Args:
        fill: "mean", "blur" (the picture itself, stretched over the canvas and blurred), "reflect" or RGB.
        canvas: (H, W), pixels.
        image: (H, W, 3) uint8 RGB, the picture.
        mean: of the model's preprocessing, values in [0, 1], red, green and blue or one gray.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the canvas is too large.

    Example:
        >>> background("mean", (2, 2), np.zeros((1, 1, 3), np.uint8), (0.2, 0.4, 0.6))[0, 0]
        array([ 51, 102, 153], dtype=uint8)
    """
    if canvas[0] * canvas[1] > MAX_CANVAS:
        raise UsageError(f"A canvas of {hxw(canvas)} pixels (HxW) is too large", f"Give {MAX_CANVAS} or fewer")
    if fill == "blur":
        deviation = _BLUR * min(canvas)
        stretched = resize(image, canvas).astype(np.float32)
        blurred = ndimage.gaussian_filter(stretched, (deviation, deviation, 0), mode="nearest")
        return np.asarray(np.rint(blurred).clip(0, 255), np.uint8)
    color = np.rint(255 * np.array(mean)) if isinstance(fill, str) else np.array(fill)
    return np.full((*canvas, 3), color.clip(0, 255), np.uint8)


def moved(
    ground: NDArray[np.uint8], thing: Cutout, place: tuple[int, int], *, reflect: bool = False
) -> NDArray[np.uint8]:
    """Put an object on a canvas.

    Args:
        ground: (H, W, 3) uint8 RGB.
        thing: the object.
        place: (y, x) of its first pixel.
        reflect: whether its rectangle, mirrored at its edges again and again, fills the canvas instead.

    Returns:
        (H, W, 3) uint8 RGB.

    Example:
        >>> white = Cutout.whole(np.full((1, 2, 3), 255, np.uint8))
        >>> moved(np.zeros((2, 4, 3), np.uint8), white, (1, 0))[..., 0].tolist()
        [[0, 0, 0, 0], [255, 255, 0, 0]]
    """
    (top, left), (height, width) = place, thing.size
    if reflect:
        below, right = ground.shape[0] - top - height, ground.shape[1] - left - width
        return np.pad(thing.pixels, ((top, below), (left, right), (0, 0)), mode="symmetric")
    scene = ground.copy()
    under = scene[top : top + height, left : left + width]
    share = thing.alpha[..., None] / np.float32(255)
    under[:] = np.rint(share * thing.pixels + (1 - share) * under)
    return scene


@dataclass(frozen=True)
class Scenes:
    """One object at R x C places of one canvas.

    Attributes:
        thing: the object.
        ground: (H, W, 3) uint8 RGB, the canvas without it.
        fill: what the ground is made of.
        ys: of the object's first pixel, in each of the R rows.
        xs: likewise, in each of the C columns.
    """

    thing: Cutout
    ground: NDArray[np.uint8] = field(repr=False)
    fill: Fill
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    @classmethod
    def over(cls, ground: NDArray[np.uint8], thing: Cutout, steps: int, fill: Fill = "mean") -> Scenes:
        """Move an object over a canvas (H, W, 3), to the places of `positions`.

        Raises:
            UsageError: as `positions`, or there is one place only.

        Example:
            >>> white = Cutout.whole(np.full((4, 4, 3), 255, np.uint8))
            >>> Scenes.over(np.zeros((8, 12, 3), np.uint8), white, 3).centers[0, 2].tolist()
            [1.5, 9.5]
        """
        places = positions((ground.shape[0], ground.shape[1]), thing.size, steps)
        if len(places) == 1:
            found = (
                f"One place measures nothing, and with {steps} step{'s' * (steps > 1)} along each axis the object of "
                f"{hxw(thing.size)} pixels (HxW) has no more on a canvas of {hxw((ground.shape[0], ground.shape[1]))}"
            )
            raise UsageError(found, "Give 2 steps or more, and a canvas larger than the object")
        ys, xs = (tuple(sorted(set(along))) for along in zip(*places, strict=True))
        return cls(thing, ground, fill, ys, xs)

    @property
    def canvas(self) -> Size:
        """(H, W), pixels."""
        return self.ground.shape[0], self.ground.shape[1]

    @property
    def shape(self) -> Size:
        """(R, C)."""
        return len(self.ys), len(self.xs)

    @property
    def centers(self) -> NDArray[np.float64]:
        """(R, C, 2): (y, x) of the object's center at each place, pixels of the canvas."""
        y, x = self.thing.center
        return np.stack(np.meshgrid(np.array(self.ys) + y, np.array(self.xs) + x, indexing="ij"), -1)

    @property
    def middle(self) -> tuple[int, int]:
        """(y, x) of the object's first pixel where it stands in the middle."""
        (place,) = positions(self.canvas, self.thing.size, 1)
        return place

    def at(self, place: tuple[int, int]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB with the object's first pixel at (y, x)."""
        return moved(self.ground, self.thing, place, reflect=self.fill == "reflect")

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Paint the scenes, row by row."""
        return (self.at((y, x)) for y in self.ys for x in self.xs)


@dataclass(frozen=True)
class Cutout:
    """An object cut out of a picture.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        alpha: (h, w) uint8, 255 where the object is.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    alpha: NDArray[np.uint8] = field(repr=False)

    @classmethod
    def whole(cls, pixels: NDArray[np.uint8]) -> Cutout:
        """Take a picture (h, w, 3) as it is.

        Example:
            >>> Cutout.whole(np.zeros((4, 6, 3), np.uint8)).center
            (1.5, 2.5)
        """
        return cls(pixels, np.full(pixels.shape[:2], 255, np.uint8))

    @property
    def size(self) -> Size:
        """(h, w) of its rectangle, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def center(self) -> Pair:
        """Centroid (y, x) of the alpha, pixels from the center of the rectangle's first."""
        mass = self.alpha.astype(np.float64)
        y, x = (float(mass.sum(1 - axis) @ np.arange(mass.shape[axis]) / mass.sum()) for axis in (0, 1))
        return y, x


def cut_box(image: NDArray[np.uint8], box: Box, scale: float = 1.0, interpolation: str = "bilinear") -> Cutout:
    """Cut a box out of a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (x0, y0, x1, y1) in its pixels, ends excluded.
        scale: of the result.
        interpolation: as in `images.resize`.

    Raises:
        UsageError: the box does not lie in the picture.

    Example:
        >>> cut_box(np.zeros((40, 60, 3), np.uint8), (10, 10, 30, 20), 0.5).size
        (5, 10)
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise UsageError(
            f"The box {x0},{y0},{x1},{y1} does not lie in the picture of {width}x{height} pixels (WxH)",
            f"Give x0,y0,x1,y1 with 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}",
        )
    return Cutout.whole(_scaled(image[y0:y1, x0:x1], scale, interpolation))


def cut_mask(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], scale: float = 1.0, interpolation: str = "bilinear"
) -> Cutout:
    """Cut what a mask shows out of a picture, in the smallest rectangle that holds it.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, from 0 (not the object) to 255.
        scale: of the result.
        interpolation: as in `images.resize`.

    Raises:
        UsageError: the mask has another size, or shows nothing, or nothing at that scale.

    Example:
        >>> mask = np.zeros((40, 60), np.uint8)
        >>> mask[10:20, 10:30] = 255
        >>> cut_mask(np.zeros((40, 60, 3), np.uint8), mask).size
        (10, 20)
    """
    size = image.shape[0], image.shape[1]
    if mask.shape != size:
        found = f"The mask has {hxw((mask.shape[0], mask.shape[1]))} pixels (HxW), and the picture {hxw(size)}"
        raise UsageError(found, "Give a mask of the picture's own size")
    if mask.max() < 128:
        raise UsageError("The mask is empty: all of it is black, or nearly so", "Paint the object white")
    rows, columns = (np.flatnonzero(mask.any(1 - axis)) for axis in (0, 1))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    pixels = cut_box(image, box, scale, interpolation).pixels
    alpha = cut_box(np.repeat(mask[..., None], 3, 2), box, scale, interpolation).pixels[..., 0]
    if not alpha.any():
        raise UsageError("Nothing of the mask is left at the scale the model looks at", "Paint a larger object white")
    return Cutout(pixels, alpha)


def hxw(size: Size) -> str:
    """Write a size as `--canvas` takes it.

    Example:
        >>> print(hxw((448, 640)))
        448x640
    """
    return f"{size[0]}x{size[1]}"


def _scaled(part: NDArray[np.uint8], scale: float, interpolation: str) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * scale)) for side in part.shape[:2])
    return (
        part
        if part.shape[:2] == (height, width)
        else resize(np.ascontiguousarray(part), (height, width), interpolation)
    )
