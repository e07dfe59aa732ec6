"""Decode the content of an image file to (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from threading import Lock

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from cam.errors import ImageError
from cam.images.content import unreadable
from cam.images.deep import deep_samples, undeclared_bands
from cam.images.samples import AS_STORED, ReadOptions, select_bands, to_rgb, too_many_bands
from cam.images.tiff import TIFF_HEADERS, Tiff

with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
Image.init()

# Only these: other decoders of Pillow run programs (EPS), read other files or accept nearly anything.
_FORMATS = sorted({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF"} & Image.OPEN.keys())

# Flip codes of OpenCV, which takes a third of the time of Pillow, by EXIF orientation; 5 to 8 are transposed first.
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
_STRIP_PIXELS = 2**18  # converted at once: their copies stay in the processor's cache
_counting = Lock()
_lifted: list[int | None] = []  # Pillow's limit, once for each image that is being decoded


def decode_image(
    content: bytes, path: str, max_pixels: int, at_least: int | None = None, options: ReadOptions = AS_STORED
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode an image file to (H, W, 3) uint8 RGB as a person sees it; return also (H, W) of the whole upright image.

    If only `at_least` pixels are needed of the shorter side, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which
    takes half the time, if that leaves three times as many. Resized to what is needed, a photograph then differs
    by less than 1 of 255 in the mean, 99 of 100 values by at most 5.
    """
    name = repr(path)
    try:
        with pillow_limit_lifted():
            tiff = Tiff(content, name) if content.startswith(TIFF_HEADERS) else None
            if tiff and tiff.more_bands_than_colors and not options.bands:
                raise too_many_bands(name, tiff.bands)
            if tiff and max(tiff.tile) > 0:  # a hostile tile may be larger than its image
                check_size(max(tiff.width, tiff.tile[0]), max(tiff.height, tiff.tile[1]), name, max_pixels)
            if tiff and (tiff.is_deep or tiff.more_bands_than_colors):
                check_size(tiff.width, tiff.height, name, max_pixels, tiff.bands * tiff.bits)
                image = _turn(to_rgb(tiff.samples(), options, name), tiff.tag(ExifTags.Base.Orientation, 1))
                return image, (image.shape[0], image.shape[1])
            return _decode(content, name, max_pixels, at_least, options, tiff)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        remedy = "Convert it to JPEG or PNG, or copy it again if it should be one"
        if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
            remedy = "Run pip install 'gapcam[heic]', or convert it to JPEG or PNG"
        raise ImageError(f"{name} is not an image in a supported format", remedy) from None
    except Exception as error:  # decoders raise nearly anything on a hostile file
        raise unreadable(name, error, "Copy or export it again") from error


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image to (H, W, 3) uint8 RGB as a person sees it; ImageError if it has more than 8 bits."""
    name = f"the Pillow image of mode {image.mode!r}"
    if image.mode.startswith(("I", "F")):
        raise ImageError(f"{name} does not say which values are black and white", "Give an (H, W) array from 0 to 1")
    orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return _turn(_to_rgb(image, None, name).copy(), orientation)


def _decode(
    content: bytes, name: str, max_pixels: int, at_least: int | None, options: ReadOptions, tiff: Tiff | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    opened: Image.Image = Image.open(BytesIO(content), formats=_FORMATS)
    width, height = opened.size
    check_size(width, height, name, max_pixels)
    factor = 1
    if at_least is not None and isinstance(opened, JpegImageFile):
        # A side that is not a multiple would be padded, and the image stretched by a part of a pixel.
        fitting = (n for n in (8, 4, 2) if min(width, height) >= 3 * at_least * n and width % n == height % n == 0)
        factor = next(fitting, 1)
    image = None if options.bands else _decode_jpeg(content, opened, factor)
    if image is None:
        image = _decode_with_pillow(content, opened, factor, name, options, tiff)
    try:
        orientation = int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # every viewer shows sound pixels with broken EXIF as they are stored
        orientation = 1
    del opened  # before turning makes another copy
    return _turn(image, orientation), (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _decode_jpeg(content: bytes, opened: Image.Image, factor: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG faster than Pillow, with the same pixels; None if Pillow must decide."""
    if not isinstance(opened, JpegImageFile) or opened.mode not in ("RGB", "L"):
        return None
    size = opened.height // factor, opened.width // factor
    try:
        image = simplejpeg.decode_jpeg(content, "RGB", min_height=size[0], min_width=size[1], min_factor=factor)
    except ValueError:  # damaged, or unusual
        return None
    return np.asarray(image) if image.shape[:2] == size else None


def _decode_with_pillow(
    content: bytes, opened: Image.Image, factor: int, name: str, options: ReadOptions, tiff: Tiff | None
) -> NDArray[np.uint8]:
    if factor > 1:
        opened.draft(None, (opened.width // factor, opened.height // factor))
    opened.load()
    if opened.mode == "P" and tiff:
        tiff.repair_palette(opened)
    if not options.bands and (bands := undeclared_bands(content, opened)):
        raise too_many_bands(name, bands)
    if samples := deep_samples(content, opened, name):
        return to_rgb(samples, options, name)
    # Converted in strips: half the time of all at once, and no second copy of the image.
    image = np.empty((opened.height, opened.width, options.channels), np.uint8)
    rows = max(1, _STRIP_PIXELS // opened.width)
    for top in range(0, opened.height, rows):
        bottom = min(opened.height, top + rows)
        image[top:bottom] = _to_rgb(opened.crop((0, top, opened.width, bottom)), options.bands, name)
    return image


def check_size(width: int, height: int, name: str, max_pixels: int, bits: int = 24) -> None:
    """Raise ImageError if an image has too many pixels; those of over 48 bits, as of RGB, count as more."""
    if width * height * max(1, bits / 48) > max_pixels:
        deep = f" of {bits} bits" if bits > 48 else ""
        message = f"{name} has {width} x {height} pixels{deep}, over the limit of {max_pixels}"
        raise ImageError(message, "Make it smaller, or raise --max-pixels if you trust the file")


def _turn(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror an image upright."""
    if orientation in (5, 6, 7, 8):
        image = np.asarray(cv2.transpose(image), np.uint8)
    if orientation in _FLIPS:
        cv2.flip(image, _FLIPS[orientation], image)
    return image


def _to_rgb(image: Image.Image, bands: tuple[int, ...] | None, name: str) -> NDArray[np.uint8]:
    if bands:
        modes = {"P": "RGBA" if image.has_transparency_data else "RGB", "PA": "RGBA", "1": "L"}
        stored = np.asarray(image.convert(modes.get(image.mode, image.mode)))
        return select_bands(np.atleast_3d(stored), bands, name)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


@contextmanager
def pillow_limit_lifted() -> Iterator[None]:
    """Lift Pillow's limit while anything is decoded; counted, not locked, so that none waits for another."""
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


@contextmanager
def tuned_for_workers() -> Iterator[None]:
    """Let OpenCV use one thread, as every core has a worker, and Pillow keep its memory for the next image.

    A fifth of the time of a large image is fresh memory. Six blocks of 16 MiB hold two photographs of 12 megapixels.
    """
    core = Image.core  # type: ignore[attr-defined]  # where Pillow's documented PILLOW_BLOCKS_MAX goes
    threads, blocks = cv2.getNumThreads(), core.get_blocks_max()
    cv2.setNumThreads(1)
    core.set_blocks_max(6)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        core.set_blocks_max(blocks)
