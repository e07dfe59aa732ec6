"""Picture files <-> (H, W, 3) uint8 RGB arrays, upright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cam.errors import OutputError, UsageError
from cam.files import write_whole
from cam.images.content import read_content
from cam.images.decode import decode_image

MAX_PIXELS = 100_000_000

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)

_QUALITY = {".jpg": [cv2.IMWRITE_JPEG_QUALITY], ".png": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY]}

_LONGEST_SIDE = {".jpg": 65500, ".png": 1_000_000, ".webp": 16383}  # of libjpeg, libpng and the WebP format


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a picture file as a person sees it: upright, its first frame, transparency over white.

    Args:
        path: a JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000 or AVIF file, whatever its suffix.
        max_pixels: largest height times width that is decoded; checked on the header.

    Returns:
        (H, W, 3) uint8 RGB; 16 bits a channel are scaled to 8.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, too large or not a picture.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_image(Path(folder, "a.png"), np.full((2, 3, 3), 7, np.uint8))
        ...     read_image(Path(folder, "a.png"))[0, 0]
        array([7, 7, 7], dtype=uint8)
    """
    return decode_image(BytesIO(read_content(Path(path))), str(path), max_pixels)[0]


def checked(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give back a picture that came as an array, if it is one: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: it is something else.

    Example:
        >>> checked(np.zeros((4, 6, 3), np.uint8)).shape
        (4, 6, 3)
    """
    if not isinstance(photo, np.ndarray):
        raise UsageError(f"A {type(photo).__name__} is no picture", "Give a file, or (H, W, 3) uint8 RGB")
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or photo.size == 0:
        found = f"An array of shape {photo.shape} and type {photo.dtype} is no picture"
        raise UsageError(found, "Give (H, W, 3) uint8 RGB")
    return photo


def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: str = "bilinear",
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """Resize with antialiasing, bit for bit as torchvision resizes a Pillow picture.

    Args:
        image: (H, W, 3) uint8.
        size: height and width of the result in pixels.
        interpolation: a name in `PIL.Image.Resampling`, such as "bilinear" or "bicubic".
        box: (x0, y0, x1, y1) of the part to resize, in pixels, also between them; all of it by default.

    Returns:
        (*size, 3) uint8.

    Raises:
        UsageError: an unknown interpolation.

    Example:
        >>> resize(np.zeros((4, 6, 3), np.uint8), (2, 3)).shape
        (2, 3, 3)
    """
    known = {method.name.lower(): method for method in Image.Resampling}
    if interpolation not in known:
        raise UsageError(f"{interpolation!r} is not an interpolation", f"Use one of {', '.join(known)}")
    return np.array(Image.fromarray(image).resize((size[1], size[0]), known[interpolation], box))


def encode(image: NDArray[np.uint8], suffix: str, quality: int = 92) -> bytes:
    """Encode a picture as the content of a file.

    Args:
        image: (H, W, 3) uint8 RGB.
        suffix: ".jpg", ".png" or ".webp".
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        UsageError: another suffix.
        OutputError: the format cannot hold so large a picture.

    Example:
        >>> encode(np.zeros((4, 6, 3), np.uint8), ".png")[1:4]
        b'PNG'
    """
    if suffix not in _QUALITY:
        raise UsageError(f"{suffix!r} is not a format written here", f"Use one of {', '.join(_QUALITY)}")
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_SIDE[suffix]:
        raise OutputError(f"a {suffix} file cannot hold {width} x {height} pixels", "Use .png, or a smaller picture")
    flags = [value for flag in _QUALITY[suffix] for value in (flag, quality)]
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return data.tobytes()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let OpenCV work in the thread that calls it: where every core is taken, others get in the way.

    Example:
        >>> with one_thread():
        ...     cv2.getNumThreads()
        1
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all.

    Args:
        path: ends in .jpg, .png or .webp.
        image: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: another suffix.
        OutputError: it cannot be written.
    """
    write_whole(path, encode(image, path.suffix))


def shrink(image: NDArray[np.uint8], max_side: int | None) -> NDArray[np.uint8]:
    """Make a picture smaller, so that its longer side has at most so many pixels; never larger.

    Args:
        image: (H, W, 3) uint8.
        max_side: pixels; None leaves the picture as it is.

    Returns:
        (H, W, 3) uint8, means over areas; the picture itself where it is small enough.

    Raises:
        UsageError: it is less than a pixel.

    Example:
        >>> shrink(np.zeros((300, 400, 3), np.uint8), 100).shape
        (75, 100, 3)
    """
    if max_side is None or max_side >= max(image.shape[:2]):
        return image
    if max_side < 1:
        raise UsageError(f"A longer side of {max_side} pixels is none", "Give 1 or more")
    share = max_side / max(image.shape[:2])
    height, width = (max(1, round(share * side)) for side in image.shape[:2])
    while max(image.shape[:2]) >= 2 * max_side:  # means of two by two are quick, those of other areas are not
        half = (image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
