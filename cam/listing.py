"""The pictures below a folder and those that a glob matches, as texts: there may be very many."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cam.errors import UsageError
from cam.images import IMAGE_SUFFIXES

Key = tuple[list[list[str | int]], str]


def is_picture(name: str) -> bool:
    """Tell by its name whether a file is a picture, and not hidden.

    Example:
        >>> [is_picture(name) for name in ("a.JPG", ".a.jpg", "a.txt")]
        [True, False, False]
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def is_folder(path: str | Path) -> bool:
    """Tell whether it is a folder; one that may not be entered is none.

    Example:
        >>> is_folder("a folder that does not exist")
        False
    """
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be read


def natural(path: str) -> Key:
    """Sort 2 before 10 and A beside a; ties by the path itself, so that the order is one.

    Example:
        >>> sorted(["a10.jpg", "A2.jpg", "a/1.jpg"], key=natural)
        ['a/1.jpg', 'A2.jpg', 'a10.jpg']
    """
    parts = [re.split(r"([0-9]+)", part) for part in path.casefold().replace(os.sep, "/").split("/")]
    return [[int(p) if index % 2 else p for index, p in enumerate(part)] for part in parts], path


def below(folder: Path, excluded: str) -> list[str]:
    """List the pictures in a folder and the folders below it, links followed once, in natural order.

    Args:
        folder: where to look.
        excluded: real path of a folder that is not entered; "" for none.

    Returns:
        Their paths relative to the folder; of a folder below it that cannot be listed its own, to be told of.

    Raises:
        UsageError: the folder itself cannot be listed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     below(Path(folder), "")
        ['2.png', '10.png']
    """
    seen = {excluded}
    found: list[str] = []
    unlisted: list[OSError] = []
    for base, folders, files in os.walk(folder, followlinks=True, onerror=unlisted.append):
        place = os.path.realpath(base)
        if place in seen:  # a link back, or the folder of results
            folders.clear()
            continue
        seen.add(place)
        inner = os.path.relpath(base, folder)
        prefix = "" if inner == os.curdir else inner + os.sep
        # A folder called like a picture is kept as one, to be told of, and not entered.
        found += [prefix + name for name in folders + files if is_picture(name)]
        folders[:] = sorted(name for name in folders if not (is_picture(name) or name.startswith(".")))
    for error in unlisted:
        if error.filename == str(folder):
            what = f"the folder {str(folder)!r} cannot be listed ({error.strerror})"
            raise UsageError(what, "Change its permissions, or name the files to read") from error
        found.append(os.path.relpath(error.filename, folder))
    return sorted(found, key=natural)


def matches(root: Path, pattern: str) -> Iterator[str]:
    """List what a glob matches below a folder, hidden files and folders left out, in natural order.

    Args:
        root: where to look.
        pattern: the glob, relative to it.

    Raises:
        UsageError: it is not a glob.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     list(matches(Path(folder), "*.png"))
        ['2.png', '10.png']
    """
    try:
        found = sorted((str(match.relative_to(root)) for match in root.glob(pattern)), key=natural)
    except ValueError as error:
        raise UsageError(f"{pattern!r} is not a glob ({error})", "Write ** as a whole part of the path") from error
    # The root itself is ".", which is not hidden.
    return (match for match in found if not any(part.startswith(".") and part != "." for part in Path(match).parts))
