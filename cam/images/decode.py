"""The content of a picture file -> (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from cam.errors import ImageError

# Named, because other decoders of Pillow run programs (EPS), read other files or accept nearly anything.
Image.init()

_FORMATS = sorted({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"} & Image.OPEN.keys())

# By EXIF orientation; OpenCV turns a photograph in a third of the time that Pillow takes.
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], Any]] = {
    2: partial(cv2.flip, flipCode=1),
    3: partial(cv2.rotate, rotateCode=cv2.ROTATE_180),
    4: partial(cv2.flip, flipCode=0),
    5: cv2.transpose,
    6: partial(cv2.rotate, rotateCode=cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: partial(cv2.rotate, rotateCode=cv2.ROTATE_90_COUNTERCLOCKWISE),
}

_BLOCKS = 6  # of 16 MiB: what two photographs of 12 megapixels take while they are decoded

_STRIP = 2**18  # pixels that are converted at once: their copies stay in the processor's cache

_counting = Lock()

_lifted: list[int | None] = []


def decode_image(
    file: BinaryIO, path: str, max_pixels: int, at_least: int | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode the content of a picture file as a person sees it: upright, its first frame, transparency over white.

    Args:
        file: open for reading, seekable.
        path: what to call it in errors.
        max_pixels: largest height times width that is decoded; checked on the header.
        at_least: pixels that are needed of the shorter side. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size,
            which takes half the time, as long as three times as many are left: resized to what is needed, a
            photograph then differs by less than 1 of 255 in the mean, 99 of 100 values by at most 5. None: all pixels.

    Returns:
        (H, W, 3) uint8 RGB, 16 bits a channel scaled to 8; and the (H, W) of the whole upright picture.

    Raises:
        ImageError: it is damaged, too large or not a picture.

    Example:
        >>> from io import BytesIO
        >>> data = cv2.imencode(".jpg", np.zeros((960, 1280, 3), np.uint8))[1].tobytes()
        >>> image, size = decode_image(BytesIO(data), "a.jpg", 2_000_000, at_least=150)
        >>> image.shape, size
        ((480, 640, 3), (960, 1280))
    """
    name = repr(path)
    try:
        with _pillow_limit_lifted():
            return _decode(file, name, max_pixels, at_least)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        remedy = "Convert it to JPEG or PNG, or copy it again if it should be one"
        raise ImageError(f"{name} is not a picture in a format known here", remedy) from None
    except Exception as error:  # decoders raise nearly anything on a hostile file
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is damaged or cut short ({reason})", "Copy or export it again") from error


@contextmanager
def memory_reused() -> Iterator[None]:
    """Let Pillow keep up to 96 MiB from one picture for the next: fresh memory is a fifth of the time of large ones.

    Example:
        >>> from io import BytesIO
        >>> with memory_reused():
        ...     decode_image(BytesIO(cv2.imencode(".png", np.zeros((2, 3), np.uint8))[1].tobytes()), "a.png", 6)[1]
        (2, 3)
    """
    blocks = Image.core  # type: ignore[attr-defined]  # where Pillow's documented PILLOW_BLOCKS_MAX goes
    before = blocks.get_blocks_max()
    blocks.set_blocks_max(_BLOCKS)
    try:
        yield
    finally:
        blocks.set_blocks_max(before)


def _decode(
    file: BinaryIO, name: str, max_pixels: int, at_least: int | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    picture: Image.Image = Image.open(file, formats=_FORMATS)
    width, height = picture.size
    if width * height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels", "Export it again")
    if width * height > max_pixels:
        found = f"{name} has {width} x {height} pixels, over the limit of {max_pixels}"
        raise ImageError(found, "Make it smaller, or raise --max-pixels if you trust the file")
    if at_least is not None:
        factor = _factor(width, height, at_least)
        picture.draft(None, (width // factor, height // factor))
    picture.load()
    orientation = _orientation(picture)
    image = _array(picture, name)
    del picture  # before there is a third copy
    if orientation in _UPRIGHT:
        image = _UPRIGHT[orientation](image)
    return image, (width, height) if orientation >= 5 else (height, width)


def _factor(width: int, height: int, at_least: int) -> int:
    """How many times smaller a JPEG may be decoded: 1, 2, 4 or 8.

    A side that is no multiple of it would be filled up, and the picture stretched by a part of a pixel.
    """
    fitting = (n for n in (8, 4, 2) if min(width, height) >= 3 * at_least * n and width % n == height % n == 0)
    return next(fitting, 1)


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Let `max_pixels` be the only limit; other users of Pillow keep theirs but for this moment.

    Counted, not locked: a decoder that hangs must not stop the others.
    """
    with _counting:
        _lifted.append(_lifted[0] if _lifted else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _counting:
            limit = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = limit


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _UPRIGHT else 1
    except Exception:  # sound pixels with broken EXIF are shown as they lie, as every viewer does
        return 1


def _array(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    """Strip by strip, in half the time of all at once and with no second copy of the picture."""
    width, height = picture.size
    rows = max(1, _STRIP // width)
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        image[top:bottom] = np.asarray(_rgb(picture.crop((0, top, width, bottom)), name))
    return image


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(picture), name)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(gray: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """The high byte of 16 bits, which is what Pillow keeps of 16-bit color."""
    if gray.dtype.kind == "f" or gray.min() < 0 or gray.max() > 65535:
        found = f"{name} holds {gray.dtype} values whose black and white are not known"
        raise ImageError(found, "Convert it to 8 or 16 bits a channel")
    return (gray.astype(np.uint16) >> 8).astype(np.uint8)
