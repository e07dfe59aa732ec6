"""What the pictures of a run show, from the folders they lie in or from a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

from cam.errors import UsageError
from cam.evaluation.truth import classes_of_folders, read_classes

# Path of a picture as in the manifest, and its name in the run -> class index, None where it is not known.
Truth: TypeAlias = Callable[[str, str], int | None]


def read_truth(source: str | None, pictures: Iterable[tuple[str, str]], labels: Sequence[str]) -> Truth:
    """Learn which class each picture shows.

    Args:
        source: "folder" where each picture lies in a folder called by its class, or a CSV of path,label, each path as
            in the manifest, as the picture is named in the run, or the end of just one; None where nothing is known.
        pictures: path of each, as in the manifest, and its name in the run.
        labels: of the model's classes, in order.

    Raises:
        UsageError: a folder or a row stands for no class, a picture has two rows, a row stands for several pictures,
            or no row is of a picture.

    Example:
        >>> read_truth("folder", [("photos/cat/1.jpg", "cat/1.jpg")], ["dog", "cat"])("photos/cat/1.jpg", "cat/1.jpg")
        1
    """
    if source is None:
        return lambda path, name: None
    if source == "folder":
        folders = classes_of_folders({Path(path).parent for path, _ in pictures}, labels)
        return lambda path, name: folders[Path(path).parent]
    table: dict[str, int] = {}
    for where, path, class_idx in read_classes(Path(source), labels):
        if path in table:
            raise UsageError(f"{where} names the picture {path!r} again", "Give every picture one row")
        table[path] = class_idx
    classes = _of_pictures(table, list(pictures), source)
    return lambda path, name: classes.get(path)


def _of_pictures(table: dict[str, int], pictures: Sequence[tuple[str, str]], source: str) -> dict[str, int]:
    """The class of each picture that a row names: by its path, its name in the run, or else the end of its path."""
    exact = {text: path for path, name in pictures for text in (name, path)}
    ends: defaultdict[str, set[str]] = defaultdict(set)
    for path, _ in pictures:
        parts = PurePath(path).parts
        for end in ("/".join(parts[first:]) for first in range(1, len(parts))):
            if end in table:
                ends[end].add(path)
    classes = {}
    for row, class_idx in table.items():
        found = [exact[row]] if row in exact else sorted(ends[row])
        if len(found) > 1:
            raise UsageError(
                f"{row!r} in {source!r} is the end of {found[0]!r} and {found[1]!r}", "Write more of the path"
            )
        classes.update(dict.fromkeys(found, class_idx))
    if not classes:
        remedy = f"Write paths as in the manifest, or ends of them, such as {PurePath(pictures[0][0]).name!r}"
        raise UsageError(f"{source!r} names no picture of this run", remedy)
    return classes
