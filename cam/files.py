"""Files that appear whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from cam.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its final name only once all of it is on disk, making its folders.

    Args:
        path: where the file shall lie; what lies there already is replaced.
        data: its content.

    Raises:
        OutputError: it cannot be written; no part of it is left behind, and an older file is as it was.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a", "b.txt"), b"heat")
        ...     Path(folder, "a", "b.txt").stat().st_size
        4
    """
    part = path.parent / f".{uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        remedy = "Choose another output folder, or mend its permissions or free space"
        raise OutputError(f"{str(path)!r} cannot be written ({reason})", remedy) from error
    finally:
        with suppress(OSError, ValueError):  # already renamed, or its folder could not be made
            part.unlink()
