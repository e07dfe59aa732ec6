"""Read images in place from uncompressed .tar and .zip archives."""

from __future__ import annotations

import math
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from cam.errors import ImageError
from cam.images.content import Fingerprint, check_bytes, fingerprint, open_regular, reason

_SUFFIX = re.compile(r"\.(zip|tar|t(gz|bz2?|xz|zst)|tar\.(gz|bz2?|xz|zst|lz|lzma|z))\Z", re.IGNORECASE)

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

_OUTSIDE = ("leads out of the archive's folder", "Unpack it by hand if you trust the archive")

_NO_FILE = ("is a link or a device in the archive, not a file", "Pack the files that links lead to (tar --dereference)")

_ENCRYPTED = ("is encrypted", "Unpack the archive with its password")

_METHOD = ("is packed by an unsupported method", "Pack the archive with deflate, or uncompressed")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    archive: Path
    info: zipfile.ZipInfo | tarfile.TarInfo
    fingerprint: Fingerprint  # as the archive declares them
    refusal: tuple[str, str] | None  # why it must not be read, and what to do

    @property
    def name(self) -> str:
        """The path in the archive, as the archive has it."""
        return self.info.filename if isinstance(self.info, zipfile.ZipInfo) else self.info.name


def is_archive(name: str) -> bool:
    """True if a file is an archive by its name; also for a compressed tar, which is refused with a remedy."""
    return _SUFFIX.search(name) is not None


def list_members(archive: Path) -> list[Member]:
    """List the files in an archive, without its folders; ImageError if it is compressed, damaged or unreadable."""
    name = repr(str(archive))
    is_zip = archive.suffix.lower() == ".zip"
    with open_regular(archive) as file:
        if not is_zip and (archive.suffix.lower() != ".tar" or file.read(6).startswith(_COMPRESSED)):
            remedy = "Unpack it, or pack it again as a .zip or an uncompressed .tar"
            raise ImageError(f"{name} is a compressed archive, whose members cannot be read in place", remedy)
        file.seek(0)
        try:
            return list(_list_zip(file, archive) if is_zip else _list_tar(file, archive))
        except Exception as error:  # zipfile and tarfile raise nearly anything on a hostile file
            remedy = "Copy or pack it again, or unpack the files that are intact"
            raise ImageError(f"The archive {name} is damaged or cut short ({reason(error)})", remedy) from error


def _list_zip(file: BinaryIO, archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            refusal: tuple[str, str] | None = None
            if leads_out(info.filename):
                refusal = _OUTSIDE
            elif info.flag_bits & 1:
                refusal = _ENCRYPTED
            elif stat.S_ISLNK(info.external_attr >> 16):
                refusal = _NO_FILE
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
                refusal = _METHOD
            try:
                modified = datetime(*info.date_time, tzinfo=UTC).timestamp()  # a zip knows no time zone
            except ValueError:
                modified = 0.0
            if not info.is_dir():
                yield Member(archive, info, Fingerprint(info.file_size, modified), refusal)


def _list_tar(file: BinaryIO, archive: Path) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as opened:
        for info in opened:
            if info.size < 0:
                raise tarfile.TarError("a member has a negative size")
            refusal: tuple[str, str] | None = None
            if leads_out(info.name):
                refusal = _OUTSIDE
            elif not info.isreg():
                refusal = _NO_FILE
            modified = float(info.mtime) if math.isfinite(info.mtime) else 0.0
            if not info.isdir():
                yield Member(archive, info, Fingerprint(info.size, modified), refusal)
        file.seek(opened.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any bad header for the end
            raise tarfile.TarError(f"there is neither a member nor the end at byte {opened.offset}")


def read_member(member: Member, path: str, max_bytes: int) -> bytes:
    """Read a file in an archive, never more than its declared size; ImageError if it is too large or damaged."""
    if member.refusal:
        problem, remedy = member.refusal
        raise ImageError(f"{path!r} {problem}", remedy)
    size = member.fingerprint.bytes
    if size == 0:
        raise ImageError(f"{path!r} is empty", "Pack it again")
    check_bytes(size, path, max_bytes)
    try:
        if isinstance(member.info, zipfile.ZipInfo):
            with _open_zip(member.archive, fingerprint(member.archive)).open(member.info) as content:
                return content.read(size)
        with open_regular(member.archive) as file, tarfile.open(fileobj=file, mode="r:") as opened:
            return opened.extractfile(member.info).read(size)  # type: ignore[union-attr]  # it is a regular file
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"{path!r} is damaged or cut short ({reason(error)})", "Pack the archive again") from error


@lru_cache(maxsize=4)
def _open_zip(archive: Path, fingerprint: Fingerprint | None) -> zipfile.ZipFile:
    """Open a zip once for all threads, as listing it takes long; if its fingerprint changes, open it again."""
    open_regular(archive).close()  # raises if it is gone
    return zipfile.ZipFile(archive)


def leads_out(name: str) -> bool:
    """True if a path in an archive is absolute or leads upwards, on any operating system."""
    return bool(re.match(r"[/\\]|[A-Za-z]:", name)) or ".." in re.split(r"[/\\]", name)
