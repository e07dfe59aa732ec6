"""Where a cell of a map lies in the photograph: cells <-> network input <-> original pixels.

Coordinates are pixel centers, (y, x): the first pixel's center is 0, and pixel i covers i - 1/2 to i + 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import erf, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]

Size = tuple[int, int]

Place = TypeVar("Place", float, NDArray[np.float64])  # one, or as many as there are

_LONGEST = 8  # how many shorter sides long a whole picture may be in the network's input

_NEAR = 1e-3  # pixels: a smaller extent makes no difference

_below = np.vectorize(lambda x: erf(x / sqrt(2)) / 2, otypes=[float])  # SciPy takes a third of a second to load

_FAR = 6.0  # reaches outside the input where a cell sees so little of it that it makes no difference how far


@dataclass(frozen=True)
class Frame:
    """How a photograph became a network input: resized, then cut out or padded.

    Attributes:
        photo: (H, W) of the upright photograph.
        resized: (H, W) after resizing.
        offset: (y, x) of the input's first pixel in the resized picture; negative where it was padded.
        input: (H, W) of the network's input.
    """

    photo: Size
    resized: Size
    offset: Size
    input: Size

    def to_photo(self, point: tuple[Place, Place]) -> tuple[Place, Place]:
        """Take a point of the network's input, or arrays of them, to the photograph, both (y, x) in pixels.

        Example:
            >>> Frame((100, 200), (50, 100), (0, 25), (50, 50)).to_photo((0, 0))
            (0.5, 50.5)
        """
        (y, x), (down, right), photo, resized = point, self.offset, self.photo, self.resized
        return (y + down + 0.5) * photo[0] / resized[0] - 0.5, (x + right + 0.5) * photo[1] / resized[1] - 0.5

    def to_input(self, point: Pair) -> Pair:
        """Take a point of the photograph to the network's input, both (y, x) in pixels.

        Example:
            >>> Frame((100, 200), (50, 100), (0, 25), (50, 50)).to_input((0.5, 50.5))
            (0.0, 0.0)
        """
        y, x = (
            (point[axis] + 0.5) * self.resized[axis] / self.photo[axis] - 0.5 - self.offset[axis] for axis in (0, 1)
        )
        return y, x

    @cached_property
    def seen(self) -> tuple[int, int, int, int]:
        """Box (x0, y0, x1, y1) of the photograph's pixels that the network saw, ends excluded."""
        top, left = self.to_photo((-0.5, -0.5))
        bottom, right = self.to_photo((self.input[0] - 0.5, self.input[1] - 0.5))
        (y0, y1), (x0, x1) = _inside(top, bottom, self.photo[0]), _inside(left, right, self.photo[1])
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map lie in the network's input: cell i looks about offset + stride * i.

    What a cell sees fades like a Gaussian (Luo et al. 2016), and holds no evidence outside the input. So the center of
    its evidence is the mean of a truncated normal distribution: further inwards at the border, the same elsewhere.

    Attributes:
        offset: (y, x) of the middle of what cell 0 sees, input pixels.
        stride: (y, x) from one cell to the next, input pixels.
        method: how they were found: "measured", "arithmetic" or "stretched".
        extent: (y, x) standard deviation of what a cell sees, input pixels; 0 where it is not known.
    """

    offset: Pair
    stride: Pair
    method: str
    extent: Pair = (0.0, 0.0)

    def centers(self, axis: int, cells: int, length: int) -> NDArray[np.float64]:
        """Say where rows (axis 0) or columns (axis 1) lie in an input of that length: (cells,) pixels, read-only.

        Example:
            >>> Grid((0, 0), (4, 4), "measured", extent=(6, 6)).centers(0, 16, 64).round(1)[:4].tolist()
            [4.5, 6.3, 9.0, 12.3]
        """
        return _centers(self.offset[axis], self.stride[axis], self.extent[axis], cells, length)


def stretched(cells: Size, input_size: Size) -> Grid:
    """Lay a map over the whole input, cell i at stride * (i + 1/2) - 1/2: what remains where nothing can be measured.

    Args:
        cells: (h, w) of the map.
        input_size: (H, W) of the network's input.

    Example:
        >>> stretched((7, 7), (224, 224)).offset
        (15.5, 15.5)
    """
    stride_y, stride_x = input_size[0] / cells[0], input_size[1] / cells[1]
    return Grid(((stride_y - 1) / 2, (stride_x - 1) / 2), (stride_y, stride_x), "stretched")


def fit_crop(photo: Size, resize: int, crop: Size) -> Frame:
    """Resize the shorter side, then cut out the center, as torchvision's evaluation presets do.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels.
        crop: (H, W) of the network's input; larger than the resized picture, it is padded.

    Example:
        >>> fit_crop((480, 640), 256, (224, 224))
        Frame(photo=(480, 640), resized=(256, 341), offset=(16, 58), input=(224, 224))
    """
    resized = _resized(photo, resize)
    top, left = (_centerd(resized[axis], crop[axis]) for axis in (0, 1))
    return Frame(photo, resized, (top, left), crop)


def fit_whole(photo: Size, resize: int) -> Frame:
    """Resize the shorter side and keep the whole picture, at the scale that `fit_crop` has.

    A picture more than 8 times as long as wide is made smaller still, so that its input stays of bounded size.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels.

    Example:
        >>> fit_whole((480, 640), 256).input
        (256, 341)
    """
    resized = _resized(photo, resize)
    if max(resized) > _LONGEST * resize:
        shrink = _LONGEST * resize / max(resized)
        resized = (max(1, round(resized[0] * shrink)), max(1, round(resized[1] * shrink)))
    return Frame(photo, resized, (0, 0), resized)


@lru_cache(maxsize=64)  # the same for all pictures of one input size
def _centers(offset: float, stride: float, extent: float, cells: int, length: int) -> NDArray[np.float64]:
    middles = offset + stride * np.arange(cells, dtype=float)
    centers = _inwards(middles, extent, length) if extent else middles
    centers.flags.writeable = False  # shared by all callers
    return centers


def _inwards(middles: NDArray[np.float64], extent: float, length: int) -> NDArray[np.float64]:
    """Mean of a normal distribution about each middle, of what of it lies inside an input of that many pixels."""
    first, last, extent = -0.5, length - 0.5, max(extent, _NEAR)
    middles = middles.clip(first - _FAR * extent, last + _FAR * extent)
    low, high = (first - middles) / extent, (last - middles) / extent
    density = (np.exp(-(low**2) / 2) - np.exp(-(high**2) / 2)) / np.sqrt(2 * np.pi)
    return np.asarray(middles + extent * density / (_below(high) - _below(low)), np.float64)


def _resized(photo: Size, resize: int) -> Size:
    height, width = photo
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _centerd(length: int, crop: int) -> int:
    """First pixel of a centerd crop, with torchvision's rounding; less than 0 where it has to pad."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)


def _inside(first: float, last: float, size: int) -> tuple[int, int]:
    """Pixels whose centers lie between two edges."""
    return max(0, int(np.ceil(first))), min(size, int(np.floor(last)) + 1)
