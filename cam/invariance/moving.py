"""An object cut out of an image, and pasted onto a canvas at a grid of positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cam.errors import UsageError
from cam.images.io import resize
from cam.maps.boxes import Box
from cam.maps.geometry import Pair, Size

Fill: TypeAlias = Literal["mean", "blur", "reflect"] | tuple[int, int, int]
MAX_CANVAS = 2**24  # pixels; the feature maps of a network take many times as much memory
MAX_POSITIONS = 4096
_BLUR = 0.1  # standard deviation as a share of the shorter side: keeps colors, removes objects


@dataclass(frozen=True)
class Cutout:
    """An object cut out of an image."""

    pixels: NDArray[np.uint8]  # (h, w, 3) RGB
    alpha: NDArray[np.uint8]  # (h, w), 255 where the object is

    @classmethod
    def opaque(cls, pixels: NDArray[np.uint8]) -> Cutout:
        """Take a whole rectangle (h, w, 3) as the object."""
        return cls(pixels, np.full(pixels.shape[:2], 255, np.uint8))

    @property
    def size(self) -> Size:
        """(h, w) of the rectangle, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def center(self) -> Pair:
        """Centroid (y, x) of the alpha, pixels from the center of the first pixel."""
        mass = self.alpha.astype(np.float64)
        y, x = (float(mass.sum(1 - axis) @ np.arange(mass.shape[axis]) / mass.sum()) for axis in (0, 1))
        return y, x


def cut_object(
    image: NDArray[np.uint8],
    box: Box | None = None,
    mask: NDArray[np.uint8] | None = None,
    scale: float = 1.0,
    interpolation: str = "bilinear",
) -> Cutout:
    """Cut a box, or the bounding box of a mask (H, W), out of an image (H, W, 3), and resize it by `scale`."""
    height, width = image.shape[:2]
    if mask is not None:
        if mask.shape != (height, width):
            problem = f"--mask must be {width}x{height} pixels (WxH) like the image, got {format_size(mask.shape)}"
            raise UsageError(problem, "Give a mask of that size")
        if mask.any():
            rows, columns = (np.flatnonzero(mask.any(1 - axis)) for axis in (0, 1))
            box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    x0, y0, x1, y1 = box or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        problem = f"--box {x0},{y0},{x1},{y1} does not lie in the image of {width}x{height} pixels (WxH)"
        raise UsageError(problem, f"Give x0,y0,x1,y1 with 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}")
    size = max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))
    pixels = resize(image[y0:y1, x0:x1], size, interpolation)
    if mask is None:
        return Cutout.opaque(pixels)
    alpha = resize(mask[y0:y1, x0:x1, None].repeat(3, 2), size, interpolation)[..., 0]
    if alpha.max() < 128:
        raise UsageError("--mask has no bright pixel at the scale of the network's input", "Mark more of the object")
    return Cutout(pixels, alpha)


def paint_background(fill: Fill, canvas: Size, image: NDArray[np.uint8], mean: tuple[float, ...]) -> NDArray[np.uint8]:
    """Paint an empty canvas (H, W, 3): `mean` (one gray or RGB, in [0, 1]), the blurred image, or a color.

    For "reflect" it has the mean color: `Placements.render` covers it with mirror images of the object.
    """
    if canvas[0] * canvas[1] > MAX_CANVAS:
        raise UsageError(f"--canvas must have at most {MAX_CANVAS} pixels, got {format_size(canvas)}", "Try 448")
    if fill == "blur":
        sigma = _BLUR * min(canvas)
        stretched = resize(image, canvas).astype(np.float32)
        blurred = ndimage.gaussian_filter(stretched, (sigma, sigma, 0), mode="nearest")
        return np.asarray(np.rint(blurred).clip(0, 255), np.uint8)
    color = np.rint(255 * np.array(mean)) if isinstance(fill, str) else np.array(fill)
    return np.full((*canvas, 3), color.clip(0, 255), np.uint8)


@dataclass(frozen=True)
class Placements:
    """One object at R x C positions on one canvas."""

    cutout: Cutout
    background: NDArray[np.uint8]  # (H, W, 3) RGB, the canvas without the object
    fill: Fill  # how the background was painted
    ys: tuple[int, ...]  # of the object's first pixel, for each of the R rows
    xs: tuple[int, ...]  # of the object's first pixel, for each of the C columns

    @classmethod
    def spread(cls, cutout: Cutout, background: NDArray[np.uint8], steps: int, fill: Fill = "mean") -> Placements:
        """Spread up to `steps` positions along each axis evenly over the canvas; the object always fits whole."""
        canvas = background.shape[0], background.shape[1]
        rooms = [canvas[axis] - cutout.size[axis] for axis in (0, 1)]
        if min(rooms) < 0 or max(rooms) == 0:
            size = format_size(cutout.size)
            problem = f"--canvas must be larger than the object of {size} pixels (WxH), got {format_size(canvas)}"
            raise UsageError(problem, "Give a larger canvas, or a smaller object")
        count = math.prod(min(steps, room + 1) for room in rooms)
        if count > MAX_POSITIONS:
            problem = f"--steps {steps} gives {count} positions, more than {MAX_POSITIONS}"
            raise UsageError(problem, f"Give --steps {math.isqrt(MAX_POSITIONS)} or fewer")
        ys, xs = (tuple(np.linspace(0, room, min(steps, room + 1)).astype(int).tolist()) for room in rooms)
        return cls(cutout, background, fill, ys, xs)

    @property
    def canvas(self) -> Size:
        """(H, W), pixels."""
        return self.background.shape[0], self.background.shape[1]

    @property
    def shape(self) -> Size:
        """(R, C)."""
        return len(self.ys), len(self.xs)

    @property
    def centers(self) -> NDArray[np.float64]:
        """(R, C, 2): (y, x) of the object's center at each position, pixels of the canvas."""
        y, x = self.cutout.center
        return np.stack(np.meshgrid(np.array(self.ys) + y, np.array(self.xs) + x, indexing="ij"), -1)

    def render(self, y: int, x: int) -> NDArray[np.uint8]:
        """Paste the object on the canvas (H, W, 3) with its first pixel at (y, x)."""
        pixels, (height, width) = self.cutout.pixels, self.cutout.size
        if self.fill == "reflect":
            below, right = self.canvas[0] - y - height, self.canvas[1] - x - width
            return np.pad(pixels, ((y, below), (x, right), (0, 0)), mode="symmetric")
        image = self.background.copy()
        region = image[y : y + height, x : x + width]
        opacity = self.cutout.alpha[..., None] / np.float32(255)
        region[:] = np.rint(opacity * pixels + (1 - opacity) * region)
        return image


def format_size(size: tuple[int, ...]) -> str:
    """Write a size (H, W) as `--canvas` takes it: 640x448, the width first."""
    return f"{size[1]}x{size[0]}"
