"""An object cut out of a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cam.boxes import Box
from cam.errors import UsageError
from cam.geometry import Pair, Size
from cam.images import resize


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
            >>> Cutout.whole(np.zeros((4, 6, 3), np.uint8)).centre
            (1.5, 2.5)
        """
        return cls(pixels, np.full(pixels.shape[:2], 255, np.uint8))

    @property
    def size(self) -> Size:
        """(h, w) of its rectangle, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def centre(self) -> Pair:
        """Centroid (y, x) of the alpha, pixels from the centre of the rectangle's first."""
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
