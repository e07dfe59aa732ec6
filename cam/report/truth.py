"""What the pictures of a run show, from the folders they lie in or from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from cam.errors import UsageError
from cam.evaluation.truth import classes_of_folders, read_classes

# Path of a picture as in the manifest, and its name in the run -> class index, None where it is not known.
Truth: TypeAlias = Callable[[str, str], int | None]


def read_truth(source: str | None, pictures: Iterable[tuple[str, str]], labels: Sequence[str]) -> Truth:
    """Learn which class each picture shows.

    Args:
        source: "folder" where each picture lies in a folder called by its class, or a CSV of path,label, each path as
            in the manifest or as the picture is named in the run; None where nothing is known.
        pictures: path of each, as in the manifest, and its name in the run.
        labels: of the model's classes, in order.

    Raises:
        UsageError: a folder or a row stands for no class, a picture has two rows, or no row is of a picture.

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
    named = list(pictures)
    if not any(path in table or name in table for path, name in named):
        remedy = f"Write paths as in the manifest, such as {named[0][0]!r}"
        raise UsageError(f"{source!r} names no picture of this run", remedy)
    return lambda path, name: table.get(path, table.get(name))
