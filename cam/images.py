"""Picture files <-> (H, W, 3) uint8 RGB arrays, upright."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from cam.errors import ImageError, OutputError, UsageError
from cam.files import write_whole

MAX_PIXELS = 100_000_000
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)

# Named, because other decoders of Pillow run programs (EPS), read other files or accept nearly anything.
Image.init()
_FORMATS = sorted({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"} & Image.OPEN.keys())

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUALITY = {".jpg": [cv2.IMWRITE_JPEG_QUALITY], ".png": [], ".webp": [cv2.IMWRITE_WEBP_QUALITY]}
_LONGEST_SIDE = {".jpg": 65500, ".png": 1_000_000, ".webp": 16383}  # of libjpeg, libpng and the WebP format

_lifting = Lock()


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
    with _open_regular(Path(path)) as file:
        return decode_image(file, str(path), max_pixels=max_pixels)


def decode_image(file: BinaryIO, path: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the content of a picture file, as `read_image` does.

    Args:
        file: open for reading, seekable.
        path: what to call it in errors.
        max_pixels: largest height times width that is decoded; checked on the header.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: it is damaged, too large or not a picture.

    Example:
        >>> from io import BytesIO
        >>> decode_image(BytesIO(encode(np.zeros((4, 6, 3), np.uint8), ".png")), "a.png").shape
        (4, 6, 3)
    """
    name = repr(path)
    try:
        return _decode(file, name, max_pixels)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        remedy = "Convert it to JPEG or PNG, or copy it again if it should be one"
        raise ImageError(f"{name} is not a picture in a format known here", remedy) from None
    except Exception as error:  # decoders raise nearly anything on a hostile file
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is damaged or cut short ({reason})", "Copy or export it again") from error


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


def _open_regular(path: Path) -> BinaryIO:
    name = repr(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name} is a folder, not a picture", "Rename it, or give it as an input itself")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ImageError(f"{name} is a pipe or a device, not a file", "Save the picture as a file first")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty", "Copy the file again")
        return path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist", "Check the path") from None
    except PermissionError:
        raise ImageError(f"{name} may not be read", "Change its permissions or those of its folders") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name} cannot be opened ({reason})", "Check the path") from error


def _decode(file: BinaryIO, name: str, max_pixels: int) -> NDArray[np.uint8]:
    with _pillow_limit_lifted():
        picture = Image.open(file, formats=_FORMATS)
    pixels = picture.width * picture.height
    if pixels == 0:
        raise ImageError(f"{name} has {picture.width} x {picture.height} pixels", "Export it again")
    if pixels > max_pixels:
        found = f"{name} has {picture.width} x {picture.height} pixels, over the limit of {max_pixels}"
        raise ImageError(found, "Make it smaller, or raise --max-pixels if you trust the file")
    with _pillow_limit_lifted() if pixels > (Image.MAX_IMAGE_PIXELS or pixels) else nullcontext():
        picture.load()
    turn = _turn(picture)
    rgb = _rgb(picture, name)
    return np.array(rgb if turn is None else rgb.transpose(turn))


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Let `max_pixels` be the only limit; other users of Pillow keep theirs but for this moment."""
    with _lifting:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings the picture upright, by its EXIF orientation."""
    try:
        return _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # sound pixels with broken EXIF are shown as they lie, as every viewer does
        return None


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(picture), name)).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(grey: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """The high byte of 16 bits, which is what Pillow keeps of 16-bit colour."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        found = f"{name} holds {grey.dtype} values whose black and white are not known"
        raise ImageError(found, "Convert it to 8 or 16 bits a channel")
    return (grey.astype(np.uint16) >> 8).astype(np.uint8)
