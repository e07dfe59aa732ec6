"""Read the bytes of an image file, up to a limit."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cam.errors import ImageError, reason_of
from cam.remote import Address, os_errors

MAX_BYTES = 500_000_000
# In what decoders say.
_UNSUPPORTED = re.compile("unsupported|not supported|not implemented|not available|unknown raw mode", re.IGNORECASE)


class Fingerprint(NamedTuple):
    """Size and time of a file (of a member of an archive: as the archive declares them), to notice a change."""

    bytes: int
    modified: float


def unreadable(name: str, error: Exception, remedy: str) -> ImageError:
    """The error of content that a decoder refused: of a kind that is not supported, or damaged."""
    reason = reason_of(error)
    if isinstance(error, NotImplementedError) or _UNSUPPORTED.search(reason):
        return unsupported(name, reason)
    return ImageError(f"{name} is damaged or cut short ({reason})", remedy)


def unsupported(name: str, kind: str) -> ImageError:
    """The error of content that may be sound, but is of a kind that is not read."""
    return ImageError(f"{name} is of a kind that is not supported ({kind})", "Convert it, images to JPEG or PNG")


def fingerprint(path: Path) -> Fingerprint | None:
    """Return size and modification time of a file now; None if it is missing."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None
    return Fingerprint(status.st_size, status.st_mtime)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; opening a pipe would block. ImageError if it is missing, empty or unreadable."""
    name = repr(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            remedy = "Rename it, or give it as an input itself; if it cannot be listed, change its permissions"
            raise ImageError(f"{name} is a folder, not an image", remedy)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is a pipe or a device, not a file", "Save the image as a file first")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty", "Copy the file again")
        return path.open("rb")
    except ImageError:  # which is an OSError
        raise
    except FileNotFoundError:
        problem = "does not exist, or cannot be reached" if isinstance(path, Address) else "does not exist"
        raise ImageError(f"{name} {problem}", "Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        remedy = "Check the path and the permissions of the file and its folders"
        raise ImageError(f"{name} cannot be opened ({reason_of(error)})", remedy) from error


def read_content(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file, and no more of it than its size when it was opened; ImageError if it is too large or unreadable."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        check_bytes(size, str(path), max_bytes)
        try:
            with os_errors():
                return file.read(size)
        except OSError as error:
            message = f"{str(path)!r} cannot be read ({reason_of(error)})"
            raise ImageError(message, "Copy it again, or check the disk") from error


def check_bytes(size: int, path: str, max_bytes: int) -> None:
    """Raise ImageError if a file is larger than allowed."""
    if size > max_bytes:
        message = f"{path!r} has {size} bytes, over the limit of {max_bytes}"
        raise ImageError(message, "Make it smaller, or raise --max-bytes if you trust the file")
