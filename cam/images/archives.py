"""Archives of pictures, read in place: uncompressed .tar and .zip.

Nothing is kept open and every reading stands by itself, so that threads read members of one archive side by side.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cam.errors import ImageError, TransientImageError
from cam.images.content import Fingerprint, check_bytes, open_regular

_ARCHIVE = re.compile(r"\.(zip|tar|t(gz|bz2?|xz|zst)|tar\.(gz|bz2?|xz|zst|lz|lzma|z))", re.IGNORECASE)

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd

_BLOCK = 512  # of a tar

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip: mark, lengths of the name and of what follows it


class Zipped(NamedTuple):
    """How a member of a zip is packed: its method (0 or 8), packed size and checksum."""

    method: int
    size: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Member:
    """Where the content of a file in an archive lies.

    Attributes:
        archive: the file it is part of.
        offset: of its content in a tar, of its header in a zip.
        size: unpacked, as the archive declares it.
        zipped: how a zip packed it.
        refused: what is wrong with it and what to do, if it is not to be read at all.
        fingerprint: unpacked size, time and checksum, as far as the archive declares them; where it does not, its own.
        listed: fingerprint of the archive when it was listed; None where that does not matter.
    """

    archive: Path
    offset: int
    size: int
    zipped: Zipped | None = None
    refused: tuple[str, str] | None = None
    fingerprint: Fingerprint | None = None
    listed: Fingerprint | None = None


_OUTSIDE = ("leads out of the archive's folder", "Unpack it by hand if you trust the archive")

_NO_FILE = ("is a link or a device in the archive, not a file", "Pack the files that links lead to (tar --dereference)")

_SPARSE = ("is packed as a file with holes", "Pack it without --sparse")

_ENCRYPTED = ("is encrypted", "Unpack the archive with its password")

_METHOD = ("is packed by a method that is not read here", "Pack the archive by deflating, or not at all")


def is_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive; compressed tars are too, to be told of.

    Example:
        >>> [is_archive(name) for name in ("a.zip", "b.TAR", "c.tar.gz", "tar")]
        [True, True, True, False]
    """
    return any(_ARCHIVE.fullmatch(name, start) for start in range(len(name)) if name[start] == ".")


def list_members(archive: Path) -> Iterator[tuple[str, Member]]:
    """List the files of an archive, by the names that it gives them, folders left out.

    Raises:
        ImageError: it cannot be read, is damaged, or is a compressed tar, whose members cannot be read in place.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.zip")
        ...     with zipfile.ZipFile(path, "w") as file:
        ...         file.writestr("cats/1.jpg", b"light")
        ...     [(name, member.size) for name, member in list_members(path)]
        [('cats/1.jpg', 5)]
    """
    name = repr(str(archive))
    zipped = archive.suffix.lower() == ".zip"
    with open_regular(archive) as file:
        if not zipped and (archive.suffix.lower() != ".tar" or file.read(6).startswith(_COMPRESSED)):
            remedy = "Unpack it, or pack it again as a .zip or an uncompressed .tar"
            raise ImageError(f"{name} is a compressed archive, whose members cannot be read in place", remedy)
        try:
            listed = Fingerprint.of(os.fstat(file.fileno()))
            for called, member in _zip(file, archive) if zipped else _tar(file, archive):
                yield called, replace(member, listed=listed, fingerprint=member.fingerprint or listed)
        except Exception as error:  # both modules raise nearly anything on a hostile file
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            remedy = "Copy or pack it again, or unpack what is whole of it"
            raise ImageError(f"The archive {name} is damaged or cut short ({reason})", remedy) from error


def read_member(member: Member, path: str, max_bytes: int) -> bytes:
    """Read a file of an archive, bounded by the size that was declared, whatever comes out of it.

    Args:
        member: from `list_members`.
        path: what to call it in errors.
        max_bytes: the largest size that is read.

    Raises:
        ImageError: it is larger, refused or damaged; TransientImageError if the archive changed after listing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a").write_bytes(b"delight")
        ...     read_member(Member(Path(folder, "a"), offset=2, size=5), "a/1.jpg", max_bytes=10)
        b'light'
    """
    if member.refused:
        raise ImageError(f"{path!r} {member.refused[0]}", member.refused[1])
    if member.size <= 0:
        raise ImageError(f"{path!r} is empty", "Pack it again")
    check_bytes(max(member.size, member.zipped.size if member.zipped else 0), path, max_bytes)
    with _reopened(member.archive) as file:
        if member.listed not in (None, Fingerprint.of(os.fstat(file.fileno()))):
            raise TransientImageError(
                f"The archive of {path!r} has changed since it was listed", "Give the command again"
            )
        try:
            file.seek(member.offset)
            data = _unzipped(file, member.size, member.zipped) if member.zipped else file.read(member.size)
        except (OSError, ValueError, struct.error, zlib.error) as error:
            raise ImageError(f"{path!r} is damaged or cut short ({error})", "Pack it again") from error
    if len(data) != member.size or (member.zipped and zlib.crc32(data) != member.zipped.checksum):
        found = f"{path!r} is not as long, or not the same, as the archive says"
        raise ImageError(found, "Pack it again, and leave the archive as it is while it is read")
    return data


def _reopened(archive: Path) -> BinaryIO:
    """Open it once more: it could be opened when it was listed."""
    try:
        return open_regular(archive)
    except ImageError as error:
        raise TransientImageError(error.found, error.remedy) from error


def _zip(file: BinaryIO, archive: Path) -> Iterator[tuple[str, Member]]:
    with zipfile.ZipFile(file) as listed:
        for entry in listed.infolist():
            if entry.is_dir():
                continue
            refused: tuple[str, str] | None = None
            if entry.flag_bits & 1:
                refused = _ENCRYPTED
            elif stat.S_ISLNK(entry.external_attr >> 16):
                refused = _NO_FILE
            elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                refused = _METHOD
            zipped = Zipped(entry.compress_type, entry.compress_size, entry.CRC)
            refused = _OUTSIDE if leads_out(entry.filename) else refused
            fingerprint = Fingerprint(entry.file_size, _seconds(entry.date_time), entry.CRC)
            yield entry.filename, Member(archive, entry.header_offset, entry.file_size, zipped, refused, fingerprint)


def _tar(file: BinaryIO, archive: Path) -> Iterator[tuple[str, Member]]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as listed:
        end = 0
        while entry := listed.next():
            listed.members.clear()  # type: ignore[attr-defined]  # else all that was ever listed is kept
            if listed.offset <= end:
                raise tarfile.TarError("its members run in a circle")
            end = listed.offset
            if entry.isdir():
                continue
            refused: tuple[str, str] | None = None
            if leads_out(entry.name):
                refused = _OUTSIDE
            elif not entry.isreg():
                refused = _NO_FILE
            elif entry.issparse():
                refused = _SPARSE
            fingerprint = (
                Fingerprint(entry.size, float(entry.mtime)) if entry.mtime and math.isfinite(entry.mtime) else None
            )
            yield entry.name, Member(archive, entry.offset_data, entry.size, refused=refused, fingerprint=fingerprint)
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes any block that is no header for the end, and none too
            raise tarfile.TarError(f"there is neither a member nor the end at byte {end}")


def leads_out(name: str) -> bool:
    """Tell whether a name in an archive is absolute or leads upwards, on any system.

    Example:
        >>> [leads_out(name) for name in ("a/b.jpg", "../a.jpg", "/a.jpg", "C:a.jpg")]
        [False, True, True, True]
    """
    return bool(re.match(r"[/\\]|[A-Za-z]:", name)) or ".." in re.split(r"[/\\]", name)


def _seconds(date: tuple[int, int, int, int, int, int]) -> float:
    """Since 1970, of a date in a zip, which knows no zones; 0 for one that is none."""
    try:
        return datetime(*date, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _unzipped(file: BinaryIO, size: int, zipped: Zipped) -> bytes:
    """A member of a zip from its header on; at most one byte more than was declared."""
    mark, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if mark != b"PK\3\4":
        raise zlib.error("there is no header where the archive says")
    file.seek(name + extra, 1)
    packed = file.read(zipped.size)
    return packed if zipped.method == zipfile.ZIP_STORED else zlib.decompressobj(-15).decompress(packed, size + 1)
