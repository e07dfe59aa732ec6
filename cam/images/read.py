"""Read one image of a file or an archive, within limits on its size and on the time it takes."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cam.errors import ImageError, UsageError
from cam.images.archives import is_archive, list_members, read_member
from cam.images.content import MAX_BYTES, Fingerprint, read_content
from cam.images.decode import decode_image
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.images.samples import AS_STORED, ReadOptions


@dataclass(frozen=True)
class Limits:
    """Limits on one image.

    Attributes:
        max_pixels: height times width, checked on the header before anything is decoded. Reading takes up to 3.5 times
            the memory of the (H, W, 3) result, the file included; files of more than 8 bits up to 10 times.
        max_bytes: size of the file, or of the unpacked member of an archive.
        seconds: from opening the file to the last pixel; `math.inf` for no limit.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.seconds > 0:  # also refuses NaN
            raise UsageError(f"--timeout must be more than 0 seconds, got {self.seconds}", "Give a time such as 60")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image that has been read."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB or (H, W, bands), upright; smaller if not all pixels were needed
    size: tuple[int, int]  # (H, W) of the whole upright image
    fingerprint: Fingerprint | None  # size and time of its file before it was read


def read_picture(
    picture: Picture, limits: Limits, at_least: int | None = None, options: ReadOptions = AS_STORED
) -> LoadedImage:
    """Read an image of a file or an archive as `read_image` does; ImageError also if it is over a limit.

    If only `at_least` pixels are needed of the shorter side, a large JPEG is decoded at a fraction of its size.
    """
    path = str(picture.path)
    future: Future[LoadedImage] = Future()

    def read() -> None:
        try:
            fingerprint = picture.current_fingerprint()  # before it is read: a file written meanwhile counts as changed
            if picture.member:
                content = read_member(picture.member, path, limits.max_bytes)
            else:
                if is_archive(path):
                    list_members(picture.path)  # raises the error that find_pictures met
                content = read_content(picture.path, limits.max_bytes)
            image, size = decode_image(content, path, limits.max_pixels, at_least, options)
            future.set_result(LoadedImage(image, size, fingerprint))
        except BaseException as error:  # raised again in the thread that waits
            future.set_exception(error)

    # A decoder that hangs cannot be stopped, but a daemon does not keep the program from ending.
    threading.Thread(target=read, name="cam-read", daemon=True).start()
    try:
        return future.result(min(limits.seconds, threading.TIMEOUT_MAX))
    except TimeoutError:
        remedy = "Convert it to another format, or raise --timeout if you trust the file"
        raise ImageError(f"{path!r} could not be read within {limits.seconds:g} seconds", remedy) from None
    except MemoryError as error:
        raise ImageError(f"{path!r} does not fit into memory", "Make it smaller") from error
