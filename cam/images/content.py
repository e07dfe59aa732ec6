"""The bytes of a file that a user named, as many as are allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from cam.errors import ImageError, TransientImageError

MAX_BYTES = 500_000_000


class Fingerprint(NamedTuple):
    """What tells that a file is still the same.

    Attributes:
        bytes: its size.
        modified: when it was last written, seconds since 1970.
        checksum: CRC-32 of its content, where it is known without reading all of it.
    """

    bytes: int
    modified: float
    checksum: int | None = None

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take it from what the system says of a file.

        Example:
            >>> Fingerprint.of(os.stat(os.devnull)).bytes
            0
        """
        return cls(status.st_size, status.st_mtime)


def fingerprint(path: Path) -> Fingerprint | None:
    """Take down what a file is like now; None where it cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.jpg").write_bytes(b"light")
        ...     fingerprint(Path(folder, "a.jpg")).bytes, fingerprint(Path(folder, "b.jpg"))
        (5, None)
    """
    try:
        return Fingerprint.of(path.stat()) if os.access(path, os.R_OK) else None
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None


def as_fields(fingerprint: Fingerprint | None) -> dict[str, float | None]:
    """Give a fingerprint as a line of a manifest has it.

    Example:
        >>> as_fields(Fingerprint(5, 1.5)), as_fields(None)["bytes"]
        ({'bytes': 5, 'modified': 1.5, 'checksum': None}, None)
    """
    return dict(zip(Fingerprint._fields, fingerprint or (None,) * len(Fingerprint._fields), strict=True))


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is one: opening a pipe would wait for ever.

    Raises:
        ImageError: it is missing, empty, no regular file, or may not be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.jpg").write_bytes(b"light")
        ...     with open_regular(Path(folder, "a.jpg")) as file:
        ...         len(file.read())
        5
    """
    name = repr(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
            raise ImageError(f"{name} is a folder that may not be listed", "Change its permissions")
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name} is a folder, not a picture", "Rename it, or give it as an input itself")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is a pipe or a device, not a file", "Save the picture as a file first")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty", "Copy the file again")
        return path.open("rb")
    except ImageError:  # which is an OSError
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist", "Check the path") from None
    except PermissionError:
        raise ImageError(f"{name} may not be read", "Change its permissions or those of its folders") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise TransientImageError(f"{name} cannot be opened ({reason})", "Check the path") from error


def read_content(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file as long as it was when it was opened, should it grow meanwhile.

    Args:
        path: the file.
        max_bytes: the largest size that is read.

    Raises:
        ImageError: it is larger, missing, empty, no regular file, or cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.jpg").write_bytes(b"light")
        ...     len(read_content(Path(folder, "a.jpg")))
        5
    """
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            check_bytes(size, str(path), max_bytes)
            return file.read(size)
        except OSError as error:
            found = f"{str(path)!r} cannot be read ({error.strerror})"
            raise TransientImageError(found, "Copy it again, or check the disk") from error


def check_bytes(size: int, path: str, max_bytes: int) -> None:
    """Refuse what is larger than allowed.

    Raises:
        ImageError: it is.

    Example:
        >>> check_bytes(size=5, path="a.jpg", max_bytes=5)
    """
    if size > max_bytes:
        found = f"{path!r} has {size} bytes, over the limit of {max_bytes}"
        raise ImageError(found, "Make it smaller, or raise --max-bytes if you trust the file")
