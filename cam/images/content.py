"""Read the bytes of an image file, up to a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cam.errors import ImageError, TransientImageError

MAX_BYTES = 500_000_000


class Fingerprint(NamedTuple):
    """Size and time of a file (of a member of an archive: as the archive declares them), to notice a change."""

    bytes: int
    modified: float


def fingerprint(path: Path) -> Fingerprint | None:
    """Return size and modification time of a file now; None if it cannot be read."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None
    return Fingerprint(status.st_size, status.st_mtime) if os.access(path, os.R_OK) else None


def as_fields(fingerprint: Fingerprint | None) -> dict[str, float | None]:
    """Return a fingerprint as the fields of a line of a manifest."""
    return fingerprint._asdict() if fingerprint else dict.fromkeys(Fingerprint._fields)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; opening a pipe would block. ImageError if it is missing, empty or unreadable."""
    name = repr(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
            raise ImageError(f"{name} is a folder that cannot be listed", "Change its permissions")
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name} is a folder, not an image", "Rename it, or give it as an input itself")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is a pipe or a device, not a file", "Save the image as a file first")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty", "Copy the file again")
        return path.open("rb")
    except ImageError:  # which is an OSError
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist", "Check the path") from None
    except PermissionError:
        raise ImageError(f"{name} is not readable", "Change its permissions or those of its folders") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise TransientImageError(f"{name} cannot be opened ({reason})", "Check the path") from error


def read_content(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file, and no more of it than its size when it was opened; ImageError if it is too large or unreadable."""
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size <= max_bytes else b""
        except OSError as error:
            message = f"{str(path)!r} cannot be read ({error.strerror})"
            raise TransientImageError(message, "Copy it again, or check the disk") from error
    check_bytes(size, str(path), max_bytes)
    return content


def check_bytes(size: int, path: str, max_bytes: int) -> None:
    """Raise ImageError if a file is larger than allowed."""
    if size > max_bytes:
        message = f"{path!r} has {size} bytes, over the limit of {max_bytes}"
        raise ImageError(message, "Make it smaller, or raise --max-bytes if you trust the file")


def reason(error: Exception) -> str:
    """Return the first line of the message of an error, or its type if it has none."""
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
