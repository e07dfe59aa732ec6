"""Where a cell of a map lies in the photograph: cells <-> network input <-> original pixels.

Coordinates are pixel centers, (y, x): the first pixel's center is 0, and pixel i covers i - 1/2 to i + 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]
Size = tuple[int, int]
Position = TypeVar("Position", float, NDArray[np.float64])
_MAX_ASPECT = 8  # longer images are shrunk more, so that their input stays of bounded size


@dataclass(frozen=True)
class Frame:
    """How a photograph became a network input: resized, then cropped or padded."""

    photo: Size  # (H, W) of the upright photograph
    resized: Size  # (H, W) after resizing
    offset: Size  # (y, x) of the input's first pixel in the resized image; negative if it was padded
    input: Size  # (H, W) of the network's input

    def to_photo(self, point: tuple[Position, Position]) -> tuple[Position, Position]:
        """Convert a point of the network's input, or arrays of points, to the photograph, both (y, x) in pixels.

        Example:
            >>> Frame((100, 200), (50, 100), (0, 25), (50, 50)).to_photo((0, 0))
            (0.5, 50.5)
        """
        (y, x), (down, right), photo, resized = point, self.offset, self.photo, self.resized
        return (y + down + 0.5) * photo[0] / resized[0] - 0.5, (x + right + 0.5) * photo[1] / resized[1] - 0.5

    @cached_property
    def seen(self) -> tuple[int, int, int, int]:
        """Box (x0, y0, x1, y1) of the photograph's pixels whose centers the network saw, ends excluded."""
        top, left = self.to_photo((-0.5, -0.5))
        bottom, right = self.to_photo((self.input[0] - 0.5, self.input[1] - 0.5))
        x1, y1 = min(self.photo[1], floor(right) + 1), min(self.photo[0], floor(bottom) + 1)
        return max(0, ceil(left)), max(0, ceil(top)), x1, y1


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map lie in the network's input: cell i sees pixels around offset + stride * i."""

    offset: Pair  # (y, x) of the center of cell 0, input pixels
    stride: Pair  # (y, x) from one cell to the next, input pixels
    method: str  # how they were found: "measured" or "stretched"

    def centers(self, axis: int, cells: int) -> NDArray[np.float64]:
        """Return the centers of rows (axis 0) or columns (axis 1): (cells,), input pixels.

        Example:
            >>> Grid((1.5, 1.5), (4, 4), "measured").centers(0, 3).tolist()
            [1.5, 5.5, 9.5]
        """
        return self.offset[axis] + self.stride[axis] * np.arange(cells, dtype=float)


def stretched(cells: Size, input_size: Size) -> Grid:
    """Lay a map over the whole input, cell i at stride * (i + 1/2) - 1/2: used if nothing can be measured.

    Args:
        cells: (h, w) of the map.
        input_size: (H, W) of the network's input.

    Example:
        >>> stretched((7, 7), (224, 224)).offset
        (15.5, 15.5)
    """
    stride_y, stride_x = input_size[0] / cells[0], input_size[1] / cells[1]
    return Grid(((stride_y - 1) / 2, (stride_x - 1) / 2), (stride_y, stride_x), "stretched")


def fit_crop(photo: Size, resize: int | Size, crop: Size) -> Frame:
    """Resize the shorter side, then crop the center, as torchvision's evaluation presets do.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels; or (H, W), whatever the photograph's aspect.
        crop: (H, W) of the network's input; if it is larger than the resized image, this is padded.

    Example:
        >>> fit_crop((480, 640), 256, (224, 224))
        Frame(photo=(480, 640), resized=(256, 341), offset=(16, 58), input=(224, 224))
    """
    resized = _resize(photo, resize) if isinstance(resize, int) else resize
    # With torchvision's rounding.
    top, left = (
        -((side - length) // 2) if side > length else round((length - side) / 2)
        for length, side in zip(resized, crop, strict=True)
    )
    return Frame(photo, resized, (top, left), crop)


def fit_whole(photo: Size, resize: int) -> Frame:
    """Resize the shorter side and keep the whole image, at the scale of `fit_crop`.

    An image that is more than 8 times as long as wide is shrunk more, so that its input stays of bounded size.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels.

    Example:
        >>> fit_whole((480, 640), 256).input
        (256, 341)
    """
    resized = _resize(photo, resize)
    if max(resized) > _MAX_ASPECT * resize:
        scale = _MAX_ASPECT * resize / max(resized)
        resized = (max(1, round(resized[0] * scale)), max(1, round(resized[1] * scale)))
    return Frame(photo, resized, (0, 0), resized)


def _resize(photo: Size, resize: int) -> Size:
    height, width = photo
    return (resize, int(resize * width / height)) if height <= width else (int(resize * height / width), resize)
