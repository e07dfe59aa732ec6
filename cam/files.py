"""Files that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import TypeVar
from uuid import uuid4

from cam.errors import CamError, DiskFullError, OutputError

Result = TypeVar("Result")

_LONGEST = 180  # bytes of a name: with class, label, channel and suffix it stays below the 255 of most file systems
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV}


def write_whole(
    path: Path, data: bytes | Iterable[bytes], unfinished: Path | None = None, *, durable: bool = False
) -> None:
    """Write a file under its final name only once all of it is written, making its folders.

    Args:
        path: where the file shall lie; what lies there already is replaced.
        data: its content, or the pieces of it one after the other.
        unfinished: folder on the same disk for what is not yet whole; the file's own by default.
        durable: whether it must be whole also after a cut in the power, which takes some milliseconds.

    Raises:
        DiskFullError: nor could any other: the disk is full, gone or read-only.
        OutputError: it cannot be written; no part of it is left behind, and an older file is as it was.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a", "b.txt"), b"heat")
        ...     Path(folder, "a", "b.txt").stat().st_size
        4
    """
    part = (unfinished or path.parent) / f".{uuid4().hex}.part"
    try:
        with _made_for(part, lambda: part.open("wb")) as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _made_for(path, lambda: part.replace(path))
    except BaseException as error:
        with suppress(OSError, ValueError):  # its folder could not be made
            part.unlink()
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, CamError):  # a null character in the path
            raise unwritable(path, error) from error
        raise


def _made_for(path: Path, work: Callable[[], Result]) -> Result:
    """Do something that takes the folder of a path; make it only if there is none, as each look costs a call."""
    try:
        return work()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return work()


def sync(folder: Path) -> None:
    """Put on disk what was written to the file system of a folder; to all of them, where one cannot be asked for.

    Raises:
        OSError: that failed.

    Example:
        >>> sync(Path())
    """
    if not hasattr(os, "sync"):
        return
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # of Linux
    if syncfs is None:
        os.sync()
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        number = ctypes.get_errno() if syncfs(place) else 0
        if number in (errno.ENOSYS, errno.EPERM):  # as some sandboxes answer
            os.sync()
        elif number:
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(place)


def shortened(name: PurePath) -> PurePath:
    """Give a name to which something can be added, with a hash for the end of one that leaves no room for it.

    Example:
        >>> str(shortened(PurePath("a/b.jpg"))), len(shortened(PurePath("x" * 250 + ".jpg")).name)
        ('a/b.jpg', 180)
    """
    encoded = os.fsencode(name.name)
    if len(encoded) <= _LONGEST:
        return name
    end = f"-{blake2b(encoded, digest_size=8).hexdigest()}"
    return name.with_name(encoded[: _LONGEST - len(end)].decode("utf-8", "ignore") + end)


def unwritable(path: Path, error: OSError | ValueError) -> OutputError:
    """Say why a file cannot be written, and whether any other could.

    Example:
        >>> str(unwritable(Path("out/a.jpg"), OSError(errno.ENOSPC, "No space left on device")))[:58]
        "'out/a.jpg' cannot be written (No space left on device). C"
    """
    reason = getattr(error, "strerror", None) or error
    remedy = "Choose another output folder, or mend its permissions or free space"
    kind = DiskFullError if getattr(error, "errno", None) in _NO_ROOM else OutputError
    return kind(f"{str(path)!r} cannot be written ({reason})", remedy)
