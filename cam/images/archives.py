"""Read images in place from uncompressed .tar and .zip archives."""

from __future__ import annotations

import math
import re
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from cam.errors import ImageError
from cam.images.content import Fingerprint, check_bytes, fingerprint, open_regular, unreadable

_SUFFIX = re.compile(r"\.(zip|tar|t(gz|bz2?|xz|zst)|tar\.(gz|bz2?|xz|zst|lz|lzma|z))\Z", re.IGNORECASE)


_COMPRESSED = b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"  # gzip, bzip2, xz, ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its path there, and size and time as the archive declares them."""

    archive: Path
    info: zipfile.ZipInfo | tarfile.TarInfo
    name: str
    fingerprint: Fingerprint


def is_archive(name: str) -> bool:
    """True if a file is an archive by its name; also for a compressed tar, which is refused with a remedy."""
    return _SUFFIX.search(name) is not None


def list_members(archive: Path) -> list[Member]:
    """List the files in an archive, without its folders; ImageError if it is compressed, damaged or unreadable."""
    name = repr(str(archive))
    suffix = archive.suffix.lower()
    remedy = "Copy it again, or unpack it, or pack it again as a .zip or an uncompressed .tar"
    with open_regular(archive) as file:
        if suffix not in (".zip", ".tar") or file.peek(8).startswith(_COMPRESSED):  # type: ignore[attr-defined]
            raise ImageError(f"{name} is a compressed archive, whose members cannot be read in place", remedy)
        try:
            return list(_list_zip(file, archive) if suffix == ".zip" else _list_tar(file, archive))
        except Exception as error:  # zipfile and tarfile raise nearly anything on a hostile file
            raise unreadable(f"The archive {name}", error, remedy) from error


def _list_zip(file: BinaryIO, archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                modified = time.mktime((*info.date_time, 0, 0, 0))
                yield Member(archive, info, info.filename, Fingerprint(info.file_size, modified))


def _list_tar(file: BinaryIO, archive: Path) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as opened:
        for info in opened:
            if info.size < 0 or not math.isfinite(info.mtime):
                raise tarfile.TarError("a member has an impossible size or time")
            if not info.isdir():
                yield Member(archive, info, info.name, Fingerprint(info.size, float(info.mtime)))
        file.seek(opened.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any bad header for the end
            raise tarfile.TarError(f"there is neither a member nor the end at byte {opened.offset}")


def read_member(member: Member, path: str, max_bytes: int) -> bytes:
    """Read a file in an archive, never more than its declared size; ImageError if it is too large or damaged."""
    info, size = member.info, member.fingerprint.bytes
    if problem := _problem_of(member):
        raise ImageError(f"{path!r} {problem}", "Unpack the archive by hand if you trust it")
    if size == 0:
        raise ImageError(f"{path!r} is empty", "Pack it again")
    check_bytes(size, path, max_bytes)
    try:
        if isinstance(info, zipfile.ZipInfo):
            with _open_zip(member.archive, fingerprint(member.archive)).open(info) as content:
                return content.read(size)
        with open_regular(member.archive) as file, tarfile.open(fileobj=file, mode="r:") as opened:
            return opened.extractfile(info).read(size)  # type: ignore[union-attr]  # it is a regular file
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(repr(path), error, "Pack the archive again") from error


def _problem_of(member: Member) -> str | None:
    """Say why a member must not be read, if so."""
    info = member.info
    if leads_out(member.name):
        return "leads out of the archive's folder"
    if stat.S_ISLNK(info.external_attr >> 16) if isinstance(info, zipfile.ZipInfo) else not info.isreg():
        return "is a link or a device in the archive, not a file"
    if isinstance(info, zipfile.ZipInfo):
        if info.flag_bits & 1:
            return "is encrypted"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
            return "is packed by an unsupported method"
    return None


@lru_cache(maxsize=4)
def _open_zip(archive: Path, fingerprint: Fingerprint | None) -> zipfile.ZipFile:
    """Open a zip once for all threads, as listing it takes long; if its fingerprint changes, open it again."""
    open_regular(archive).close()  # raises if it is gone
    return zipfile.ZipFile(archive)


def leads_out(name: str) -> bool:
    """True if a path in an archive is absolute or leads upwards, on any operating system."""
    return bool(re.match(r"[/\\]|[A-Za-z]:", name)) or ".." in re.split(r"[/\\]", name)
