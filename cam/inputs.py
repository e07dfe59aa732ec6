"""What the user named -> the pictures meant, each with a name of its own for its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import NoReturn

from cam.errors import UsageError
from cam.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Picture:
    """A picture file and the name its results go by.

    Attributes:
        path: the file as the user would write it; it may be missing or no picture at all.
        name: relative, unique among the pictures found together, never leading upwards.
    """

    path: Path
    name: PurePosixPath


def find_pictures(inputs: Sequence[str | Path], exclude: Path | None = None) -> list[Picture]:
    """Find the pictures that files, folders and globs stand for.

    A file is taken whatever its suffix, and even if it is missing, so that its failure can be told.
    Of a folder (with the folders below it, links followed once) and of a glob, what has the suffix
    of a picture is taken in natural order (2 before 10), hidden files and folders left out.

    Args:
        inputs: paths of files and folders, and globs (`*`, `?`, `[...]`, `**`).
        exclude: a folder whose pictures are results, not inputs; left out of folders and globs.

    Returns:
        Every picture once, in the order of the inputs, named relative to their common folder.

    Raises:
        UsageError: a folder or a glob holds no picture, or a folder cannot be listed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     [str(picture.name) for picture in find_pictures([folder])]
        ['2.png', '10.png']
    """
    excluded = os.path.realpath(exclude) if exclude else ""
    roots: list[str] = []
    paths: dict[Path, Path] = {}
    for given in inputs:
        root, below = _expand(Path(given), excluded)
        if not below:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UsageError(f"{str(given)!r} holds no picture", f"Name another input, or files with {known}")
        roots.append(os.path.realpath(root))
        for relative in below:
            paths.setdefault(Path(roots[-1], relative), root / relative)
    common = os.path.commonpath(roots) if roots else ""
    return [Picture(path, PurePosixPath(place.relative_to(common))) for place, path in paths.items()]


def check_output(inputs: Sequence[str | Path], out: Path) -> None:
    """Refuse an output folder whose results a second run would take for inputs.

    Args:
        inputs: as given to `find_pictures`.
        out: the output folder; it need not exist.

    Raises:
        UsageError: it is an input folder or lies in one.

    Example:
        >>> check_output(["photos"], Path("photos-explained"))
    """
    place = Path(os.path.realpath(out))
    for folder in map(Path, inputs):
        if _is_folder(folder) and place.is_relative_to(os.path.realpath(folder)):
            found = f"the output folder {str(out)!r} lies in the input folder {str(folder)!r}"
            raise UsageError(found, "Choose an output folder outside it")


def _expand(path: Path, excluded: str) -> tuple[Path, Iterable[PurePath]]:
    """A folder, and the pictures meant as paths relative to it."""
    if _is_folder(path):
        below = _below(path, excluded)
        # An empty folder that is called like a picture is a bad picture, not a wrong command.
        return (path, below) if below or not _is_picture(path) else (path.parent, [PurePath(path.name)])
    if path.name == "..":  # of a folder that is not there
        return path, []
    magic = [re.search(r"[*?[]", part) is not None for part in path.parts]
    if os.path.lexists(path) or not any(magic):
        return path.parent, [PurePath(path.name)]
    first = magic.index(True)
    root = Path(*path.parts[:first])
    return root, _matches(root, str(Path(*path.parts[first:])), excluded)


def _below(folder: Path, excluded: str) -> list[PurePath]:
    seen = {excluded}
    found: list[PurePath] = []
    for base, folders, files in os.walk(folder, followlinks=True, onerror=_unlisted):
        place = os.path.realpath(base)
        if place in seen:  # a link back, or the folder of results
            folders.clear()
            continue
        seen.add(place)
        # A folder called like a picture is kept as one, to be told of, and not entered.
        found += [Path(base, name).relative_to(folder) for name in folders + files if _is_picture(name)]
        folders[:] = sorted(name for name in folders if not (_is_picture(name) or name.startswith(".")))
    return sorted(found, key=_natural)


def _matches(root: Path, pattern: str, excluded: str) -> list[PurePath]:
    try:
        matches = sorted((match.relative_to(root) for match in root.glob(pattern)), key=_natural)
    except ValueError as error:
        raise UsageError(f"{pattern!r} is not a glob ({error})", "Write ** as a whole part of the path") from error
    found: list[PurePath] = []
    for match in matches:
        place = Path(root, match)
        if any(part.startswith(".") for part in match.parts):
            continue
        if _is_picture(match):
            if not excluded or not Path(os.path.realpath(place)).is_relative_to(excluded):
                found.append(match)
        elif _is_folder(place):
            found += [match / relative for relative in _below(place, excluded)]
    return found


def _is_picture(path: str | PurePath) -> bool:
    path = PurePath(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be read


def _natural(path: PurePath) -> tuple[list[list[str | int]], str]:
    """Sorts 2 before 10 and A beside a; ties by the path itself, so that the order is one."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in path.parts]
    return [[int(p) if p.isdecimal() and p.isascii() else p for p in part] for part in parts], str(path)


def _unlisted(error: OSError) -> NoReturn:
    found = f"the folder {str(error.filename)!r} cannot be listed ({error.strerror})"
    raise UsageError(found, "Change its permissions, or name the files to read") from error
