"""From the numbers of an image file to (H, W, 3) uint8: which are black and white, and which bands are the colors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cam.errors import ImageError, UsageError

_STRIP_SAMPLES = 2**18  # converted at once


@dataclass(frozen=True)
class ReadOptions:
    """How numbers become pixels where a file does not say it.

    Attributes:
        value_range: the values of black and white in files of more than 8 bits, or "minmax" for the smallest and the
            largest value of each image; None takes what the file says.
        bands: the bands to take as red, green and blue, or one as gray, or as many as the network takes, counted from
            1; None takes the file's colors.
    """

    value_range: tuple[float, float] | Literal["minmax"] | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        span, bands = self.value_range, self.bands
        if isinstance(span, str) or span is None:
            valid = span in (None, "minmax")
        else:
            valid = len(span) == 2 and -math.inf < span[0] < span[1] < math.inf
        if not valid:
            raise UsageError(f"--value-range must be LOW,HIGH or minmax, got {span}", "Give two rising numbers")
        if bands is not None and (not bands or min(bands) < 1):
            raise UsageError(f"--bands must be numbers of bands, counted from 1, got {bands}", "Such as 4,3,2")

    @property
    def channels(self) -> int:
        """The channels of the images: 3 unless other bands are chosen; one band becomes gray RGB."""
        return 3 if self.bands is None or len(self.bands) == 1 else len(self.bands)


AS_STORED = ReadOptions()


@dataclass(frozen=True, eq=False)
class Samples:
    """The numbers of an image file, and what it says of them."""

    values: NDArray[Any]  # (H, W, bands), as stored
    colors: int  # how many of the bands are colors: 1 for gray, 3 for RGB, 4 for CMYK; they come first
    alpha: str = ""  # if the next band is the opacity: "associated" (colors are multiplied with it) or "unassociated"
    white_is_zero: bool = False  # True if the smallest value is white
    known: tuple[float, float] | None = None  # the values of black and white, if the file says so


def to_rgb(samples: Samples, options: ReadOptions, name: str) -> NDArray[np.uint8]:
    """Make (H, W, channels) uint8 of samples, RGB by default; ImageError if it is not known what is black and white."""
    colors = samples.values[..., : samples.colors]
    alpha = samples.values[..., samples.colors] if samples.alpha else None
    if options.bands:
        colors, alpha = select_bands(samples.values, options.bands, name), None
    low, high = _black_and_white(colors, samples.known, options, name)
    image = np.empty((*colors.shape[:2], options.channels), np.uint8)
    rows = max(1, _STRIP_SAMPLES // colors[0].size)
    for top in range(0, len(image), rows):
        strip = slice(top, top + rows)
        pixels = _to_bytes(colors[strip], low, high)
        if samples.white_is_zero:
            pixels = 255 - pixels
        if samples.colors == 4 and not options.bands:  # cyan, magenta, yellow and black
            pixels = np.rint((255.0 - pixels[..., :3]) * (255.0 - pixels[..., 3:]) / 255).astype(np.uint8)
        if alpha is not None:
            opacity = alpha[strip, :, None] / _top(alpha.dtype)
            front = pixels if samples.alpha == "associated" else pixels * opacity
            pixels = np.rint(np.clip(front + 255 * (1 - opacity), 0, 255)).astype(np.uint8)
        image[strip] = pixels
    return image


def select_bands(values: NDArray[Any], bands: tuple[int, ...], name: str) -> NDArray[Any]:
    """Take bands, counted from 1, of (H, W, bands)."""
    if max(bands) > values.shape[2]:
        problem = f"{name} has {values.shape[2]} band{'s' * (values.shape[2] > 1)}, and --bands names {max(bands)}"
        raise ImageError(problem, "Name bands that it has")
    return values[..., [band - 1 for band in bands]]


def _black_and_white(
    colors: NDArray[Any], known: tuple[float, float] | None, options: ReadOptions, name: str
) -> tuple[float, float]:
    """Find the values of black and white."""
    if colors.dtype == np.uint8:
        return 0, 255
    if isinstance(options.value_range, tuple):
        return options.value_range
    finite = colors[np.isfinite(colors)] if colors.dtype.kind == "f" else colors
    lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if options.value_range == "minmax":
        if lowest < highest:
            return lowest, highest
        raise ImageError(f"{name} has the value {lowest:g} everywhere", "Give --value-range LOW,HIGH")
    if known and known[0] <= lowest and highest <= known[1] and known[0] < known[1]:
        return known
    top = _top(colors.dtype)  # in less than a quarter of the range they would be black, in a 16th flat
    if colors.dtype.kind == "u" and (highest == 0 or (highest >= top / 4 and not 0 < highest - lowest < top / 16)):
        return 0, top
    problem = f"{name} holds {colors.dtype} values from {lowest:g} to {highest:g}, whose black and white are not known"
    raise ImageError(problem, "Give --value-range LOW,HIGH, or --value-range minmax for each image's own")


def _top(dtype: np.dtype[Any]) -> float:
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale values to 0 to 255; values that are not a number are black."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16 and (low, high) == (0, 65535):  # the high byte, as decoders take of 16-bit color
        return (values >> 8).astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0), 0, 255)).astype(np.uint8)


def too_many_bands(name: str, bands: int) -> ImageError:
    """The error of a file with bands that are neither a color nor declared as opacity."""
    problem = f"{name} has {bands} bands, more than its colors"
    return ImageError(problem, "Choose the bands to show, such as --bands 1,2,3, or --bands 1 for gray")
