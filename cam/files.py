"""Write files whole or not at all, and keep the working directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile
from typing import BinaryIO
from uuid import uuid4

from cam.errors import CamError, DiskFullError, OutputError, UsageError, reason_of
from cam.remote import Address

_MAX_NAME_BYTES = 180  # class, label, channel and suffix are added; most file systems allow 255
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV}


def write_whole(
    path: Path, data: bytes | Iterable[bytes], unfinished: Path | None = None, *, durable: bool = False
) -> None:
    """Write a file as `open_whole` does."""
    with open_whole(path, unfinished, durable=durable) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


@contextmanager
def open_whole(path: Path, unfinished: Path | None = None, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file that gets its final name only once all of it is written; make its folders.

    An older file is replaced. An incomplete one lies in the folder `unfinished` on the same disk, by default its own. A
    `durable` one survives a power cut, which takes some milliseconds. A file at an address is uploaded when complete.

    Raises:
        DiskFullError: no file can be written: the disk is full, gone or read-only.
        OutputError: this file cannot be written; nothing is left behind, and an older file stays.
    """
    if isinstance(path, Address):
        with _uploading(path) as file:
            yield file
        return
    part = (unfinished or path.parent) / f".{uuid4().hex}.part"
    try:
        for folder in {part.parent, path.parent}:
            folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError, ValueError):  # its folder could not be made
            part.unlink()
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, CamError):  # a null character in the path
            raise unwritable(path, error) from error
        raise


@contextmanager
def _uploading(address: Address) -> Iterator[BinaryIO]:
    with NamedTemporaryFile(prefix="cam-") as file:
        yield file  # type: ignore[misc]  # it has all that a file has
        file.flush()
        try:
            address.upload(Path(file.name))
        except OSError as error:
            raise unwritable(address, error) from error


@contextmanager
def same_directory() -> Iterator[None]:
    """Go back to the working directory, if it still exists, from wherever the code in between changed to."""
    directory = Path.cwd()
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(directory)


def shortened(name: PurePath) -> PurePath:
    """Shorten a name so that suffixes can be added: a hash replaces the end of one longer than 180 bytes."""
    encoded = os.fsencode(name.name)
    if len(encoded) <= _MAX_NAME_BYTES:
        return name
    end = f"-{blake2b(encoded, digest_size=8).hexdigest()}"
    return name.with_name(encoded[: _MAX_NAME_BYTES - len(end)].decode("utf-8", "ignore") + end)


def check_file(path: Path, option: str) -> None:
    """Raise UsageError if no file can have that path, before there is anything to write."""
    if isinstance(path, Address):
        return
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises without permission
        raise UsageError(f"{option} {str(path)!r} is a folder", "Give the name of a file")
    check_folder(path.parent, option)


def check_folder(path: Path, option: str) -> None:
    """Raise UsageError if no folder can have that path, because a file has it."""
    if isinstance(path, Address):
        return
    for part in (path, *path.parents):
        if os.path.isfile(part):  # noqa: PTH113 - likewise
            raise UsageError(f"{option}: {str(part)!r} is a file, not a folder", "Choose another folder")


def unwritable(path: Path, error: OSError | ValueError, option: str = "") -> OutputError:
    """Return the error for a file that cannot be written: DiskFullError if no other file could be written either."""
    remedy = "Choose another output folder, or change its permissions or free disk space"
    kind = DiskFullError if getattr(error, "errno", None) in _DISK_ERRORS else OutputError
    return kind(f"{option}{str(path)!r} cannot be written ({reason_of(error)})", remedy)
