"""Read, resize and write images as (H, W, 3) uint8 RGB arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cam.errors import OutputError, UsageError
from cam.files import write_whole
from cam.images.content import read_content
from cam.images.decode import decode_image, from_pillow
from cam.images.samples import ReadOptions

MAX_PIXELS = 100_000_000
ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
_LONGEST_SIDE = {".jpg": 65500, ".png": 1_000_000, ".webp": 16383}  # of libjpeg, libpng and the WebP format


def read_image(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    value_range: tuple[float, float] | Literal["minmax"] | None = None,
    bands: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """Read an image file as a person sees it: upright, its first frame, transparency over white.

    Args:
        path: a JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000, AVIF or (with pillow-heif) HEIC file, whatever
            its suffix.
        max_pixels: largest height times width that is decoded; checked on the header.
        value_range: the values of black and white in a file of more than 8 bits, or "minmax" for its smallest and its
            largest value; by default what the file says.
        bands: numbers, from 1, of the bands to take as red, green and blue, or of one to take as gray, or of as many as
            a network takes; by default the file's colors.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, N) for N bands, two or more.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, too large or not an image; nothing says which
            values are black and white, or it has more bands than colors.
        UsageError: `value_range` or `bands` is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_image(Path(folder, "a.png"), np.full((2, 3, 3), 7, np.uint8))
        ...     read_image(Path(folder, "a.png"))[0, 0]
        array([7, 7, 7], dtype=uint8)
    """
    options = ReadOptions(value_range, bands)
    return decode_image(read_content(Path(path)), str(path), max_pixels, options=options)[0]


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB to a .jpg, .png or .webp file, whole or not at all, and make its folders.

    Raises:
        UsageError: another suffix.
        OutputError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_image(Path(folder, "a.png"), np.zeros((4, 6, 3), np.uint8))
        ...     read_image(Path(folder, "a.png")).shape
        (4, 6, 3)
    """
    write_whole(path, encode(image, path.suffix))


def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: str = "bilinear",
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """Resize (H, W, C) uint8 to (*size, C) with antialiasing, bit for bit as torchvision resizes a Pillow image.

    `interpolation` is a name in `PIL.Image.Resampling`; `box` is the part to resize, (x0, y0, x1, y1) in pixels, which
    may be fractions; the whole image by default.
    """
    methods = {method.name.lower(): method for method in Image.Resampling}
    if interpolation not in methods:
        raise UsageError(
            f"interpolation must be one of {', '.join(methods)}, got {interpolation!r}", "The default is bilinear"
        )
    to, method = (size[1], size[0]), methods[interpolation]
    if image.shape[2] == 3:
        return np.array(Image.fromarray(image).resize(to, method, box))
    bands = (Image.fromarray(band).resize(to, method, box) for band in np.moveaxis(image, 2, 0))
    return np.stack([np.asarray(band) for band in bands], 2)


def to_image(photo: object, channels: int = 3) -> NDArray[np.uint8]:
    """Make an (H, W, channels) uint8 image of what people hold one in.

    Args:
        photo: a file, its content as bytes, a Pillow image, or an array: (H, W, channels) or, gray, (H, W), uint8 or
            float in [0, 1].
        channels: that the image must have; a gray array gets three.

    Raises:
        ImageError: it cannot be read.
        UsageError: it is something else.

    Example:
        >>> to_image(np.ones((2, 4))).shape
        (2, 4, 3)
    """
    if isinstance(photo, (str, Path)):
        return read_image(photo)
    if isinstance(photo, bytes):
        return decode_image(photo, "bytes", MAX_PIXELS)[0]
    if isinstance(photo, Image.Image):
        return from_pillow(photo)
    if isinstance(photo, np.ndarray):
        photo = _to_bytes(np.repeat(photo[..., None], 3, 2) if photo.ndim == 2 and channels == 3 else photo)
    return check_image(photo, channels)


def _to_bytes(image: NDArray[Any]) -> NDArray[Any]:
    """Turn floats in [0, 1] into uint8."""
    if not np.issubdtype(image.dtype, np.floating) or not image.size:
        return image
    if not (image.min() >= 0 and image.max() <= 1):  # also if one is NaN
        problem = f"The image must have floats in [0, 1], got {image.min():.4g} to {image.max():.4g}"
        raise UsageError(problem, "Divide it by the value of white, or give uint8")
    return np.asarray(np.rint(image * 255), np.uint8)


def check_image(image: object, channels: int = 3) -> NDArray[np.uint8]:
    """Return the array; UsageError if it is not an (H, W, channels) uint8 image."""
    remedy = f"Give a file, a Pillow image, or an (H, W, {channels}) uint8 {'RGB ' * (channels == 3)}array"
    if not isinstance(image, np.ndarray):
        raise UsageError(f"The image must be a file or an array, got {type(image).__name__}", remedy)
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or image.size == 0:
        raise UsageError(f"The image must be (H, W, {channels}) uint8, got {image.shape} {image.dtype}", remedy)
    return image


def show_image(image: NDArray[np.uint8], title: str) -> None:
    """Open (H, W, 3) uint8 RGB in the viewer of the system."""
    Image.fromarray(image).show(title)


def shrink(image: NDArray[np.uint8], max_side: int | None) -> NDArray[np.uint8]:
    """Shrink (H, W, 3) uint8 by means over areas to at most `max_side` pixels a side; never enlarge."""
    if max_side is None or max_side >= max(image.shape[:2]):
        return image
    if max_side < 1:
        raise UsageError(f"max_side must be 1 or more, got {max_side}", "Give a number of pixels")
    scale = max_side / max(image.shape[:2])
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    while max(image.shape[:2]) >= 2 * max_side:  # means of two by two are quick, those of other areas are not
        half = (image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def encode(image: NDArray[np.uint8], suffix: str, quality: int = 92) -> bytes:
    """Encode (H, W, 3) uint8 RGB as the content of a .jpg, .png or .webp file; quality 1 to 100, not for PNG."""
    _check_side(image, suffix)
    if suffix == ".jpg":
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420"))
    flags = [cv2.IMWRITE_WEBP_QUALITY, quality] if suffix == ".webp" else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return data.tobytes()


def encode_planes(y: NDArray[np.uint8], cb: NDArray[np.uint8], cr: NDArray[np.uint8], quality: int = 92) -> bytes:
    """Encode luma (H, W) and chroma ((H + 1) // 2, (W + 1) // 2), uint8, full range, as the content of a .jpg file."""
    _check_side(y, ".jpg")
    if y.shape[0] % 2 or y.shape[1] % 2:  # simplejpeg 1.9 reads a row and a pixel beyond the end of odd sides
        y = np.asarray(cv2.copyMakeBorder(y, 0, 2, 0, 0, cv2.BORDER_REPLICATE), np.uint8)[: y.shape[0]]
    return bytes(simplejpeg.encode_jpeg_yuv_planes(y, cb, cr, quality))


def _check_side(image: NDArray[np.uint8], suffix: str) -> None:
    """Raise an error if a format cannot be written, or not with so many pixels a side."""
    if suffix not in _LONGEST_SIDE:
        raise UsageError(f"{suffix!r} is not a format that can be written", f"Use {', '.join(_LONGEST_SIDE)}")
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_SIDE[suffix]:
        raise OutputError(f"a {suffix} file cannot hold {width} x {height} pixels", "Use .png, or a smaller image")
