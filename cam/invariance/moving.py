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
from cam.geometry import Size
from cam.images import resize
from cam.invariance.cutout import Cutout, hxw

Fill: TypeAlias = Literal["mean", "blur", "reflect"] | tuple[int, int, int]

MAX_CANVAS = 2**24  # pixels: any network holds many times as much of each
MAX_PLACES = 4096
_BLUR = 0.1  # deviation, shares of the canvas's shorter side: colours stay, no object does


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
    """Paint the canvas that an object is moved over; for "reflect", which moves along, it is the mean colour.

    Args:
        fill: "mean", "blur" (the picture itself, stretched over the canvas and blurred), "reflect" or RGB.
        canvas: (H, W), pixels.
        image: (H, W, 3) uint8 RGB, the picture.
        mean: of the model's preprocessing, values in [0, 1], red, green and blue or one grey.

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
    colour = np.rint(255 * np.array(mean)) if isinstance(fill, str) else np.array(fill)
    return np.full((*canvas, 3), colour.clip(0, 255), np.uint8)


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
            >>> Scenes.over(np.zeros((8, 12, 3), np.uint8), white, 3).centres[0, 2].tolist()
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
    def centres(self) -> NDArray[np.float64]:
        """(R, C, 2): (y, x) of the object's centre at each place, pixels of the canvas."""
        y, x = self.thing.centre
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
