"""Read one picture, whatever it is part of, within limits that a hostile one cannot pass."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cam.errors import ImageError, TransientImageError, UsageError
from cam.images.archives import is_archive, list_members, read_member
from cam.images.content import MAX_BYTES, read_content
from cam.images.decode import decode_image
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """What one picture may cost at most.

    Attributes:
        max_pixels: height times width, by the header, before anything is decoded. Reading takes up to 3.5 times the
            memory of the (H, W, 3) result, the file included.
        max_bytes: of the file, or unpacked of a member of an archive.
        seconds: from opening the file to the last pixel; `math.inf` for no limit.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.seconds > 0:  # nor not a number
            found = f"{self.seconds} seconds is no time to decode a picture in"
            raise UsageError(found, "Give more than 0, such as 60")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """A picture that has been read.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright; fewer pixels than the file has if not all were asked for.
        size: (H, W) of the whole upright picture.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]


def read_picture(picture: Picture, limits: Limits, at_least: int | None = None) -> LoadedImage:
    """Read a file, or a member of an archive, as a person sees it.

    Args:
        picture: from `find_pictures`.
        limits: what it may cost.
        at_least: pixels that are needed of the shorter side; a large JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size as long as three times as many are left (see `decode_image`). None: all pixels.

    Raises:
        ImageError: it is missing, unreadable, damaged, not a picture, or over a limit. A decoder that hangs goes on
            in its own thread and stops nobody else.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> from tempfile import TemporaryDirectory
        >>> from cam.images.io import write_image
        >>> with TemporaryDirectory() as folder:
        ...     write_image(Path(folder, "a.jpg"), np.zeros((960, 1280, 3), np.uint8))
        ...     picture = Picture(Path(folder, "a.jpg"), PurePosixPath("a.jpg"))
        ...     photograph = read_picture(picture, Limits(), at_least=150)
        >>> photograph.image.shape, photograph.size
        ((480, 640, 3), (960, 1280))
    """
    _, photo = look_at(picture, limits, at_least)
    if isinstance(photo, ImageError):
        raise photo
    return photo


def look_at(picture: Picture, limits: Limits, at_least: int | None = None) -> tuple[Picture, LoadedImage | ImageError]:
    """Read a picture as `read_picture` does, and tell what its file was like before.

    Returns:
        The picture with its fingerprint, and the photograph or what went wrong with it.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> _, error = look_at(Picture(Path("a.jpg"), PurePosixPath("a.jpg")), Limits())
        >>> str(error)
        "'a.jpg' does not exist. Check the path."
    """
    name = repr(str(picture.path))
    try:
        return run_with_timeout(limits.seconds, lambda: _looked_at(picture, limits, at_least))
    except TimeoutError:
        remedy = "Convert it to another format, or raise --timeout if you trust the file"
        return picture, TransientImageError(f"{name} could not be read within {limits.seconds:g} seconds", remedy)
    except MemoryError:
        return picture, TransientImageError(f"{name} does not fit into the memory", "Make it smaller")


def _looked_at(picture: Picture, limits: Limits, at_least: int | None) -> tuple[Picture, LoadedImage | ImageError]:
    fingerprinted = picture.fingerprinted()  # first: should it be written while it is read, it is no longer the same
    try:
        return fingerprinted, _read(picture, limits, at_least)
    except ImageError as error:
        return fingerprinted, error


def _read(picture: Picture, limits: Limits, at_least: int | None) -> LoadedImage:
    file = BytesIO(_content(picture, limits))
    return LoadedImage(*decode_image(file, str(picture.path), limits.max_pixels, at_least))


def _content(picture: Picture, limits: Limits) -> bytes:
    path = str(picture.path)
    if picture.member:
        return read_member(picture.member, path, limits.max_bytes)
    if is_archive(path):  # one that could not be listed: this says why
        for _ in list_members(picture.path):
            pass
    return read_content(picture.path, limits.max_bytes)


Result = TypeVar("Result")


def run_with_timeout(seconds: float, work: Callable[[], Result]) -> Result:
    """Do something in a thread of its own, and wait no longer than that for it.

    What hangs cannot be stopped: it goes on in its thread, which keeps nobody waiting, not even the program's end.

    Args:
        seconds: how long to wait.
        work: what to do.

    Returns:
        What it returned; what it raised is raised here.

    Raises:
        TimeoutError: it takes longer.

    Example:
        >>> run_with_timeout(60, lambda: 6 * 7)
        42
    """
    try:
        helper = _idle.pop()
    except IndexError:
        helper = _Helper()
    helper.tasks.put(work)
    try:
        result, error = helper.answers.get(timeout=min(seconds, threading.TIMEOUT_MAX))
    except Empty:
        helper.tasks.put(None)
        raise TimeoutError from None
    _idle.append(helper)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


class _Helper:
    """A thread for one task after the other: starting one for each costs as much as decoding a small picture."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue = SimpleQueue()  # type: ignore[type-arg]
        self.answers: SimpleQueue = SimpleQueue()  # type: ignore[type-arg]
        threading.Thread(target=self._run, name="cam-deadline", daemon=True).start()

    def _run(self) -> None:
        while task := self.tasks.get():
            try:
                self.answers.put((task(), None))
            except BaseException as error:  # raised again where it is waited for
                self.answers.put((None, error))
            del task  # and what it holds


_idle: deque[_Helper] = deque()
