"""What the pictures of a run show, from the folders they lie in or from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from cam.errors import UsageError
from cam.evaluation.tables import read_table
from cam.evaluation.truth import class_of, classes_of_folders

# Path of a picture as in the manifest, and its name in the run -> class index, None where it is not known.
Truth: TypeAlias = Callable[[str, str], int | None]


def read_truth(source: str | None, paths: Iterable[str], labels: Sequence[str]) -> Truth:
    """Learn which class each picture shows.

    Args:
        source: "folder" where each picture lies in a folder called by its class, or a CSV of path,label, each path as
            in the manifest or as the picture is named in the run; None where nothing is known.
        paths: of all pictures, as in the manifest.
        labels: of the model's classes, in order.

    Raises:
        UsageError: a folder or a row stands for no class, or no row is of a picture.

    Example:
        >>> read_truth("folder", ["photos/cat/1.jpg", "photos/dog/1.jpg"], ["cat", "dog"])("photos/dog/1.jpg", "")
        1
    """
    if source is None:
        return lambda path, name: None
    if source == "folder":
        folders = classes_of_folders({Path(path).parent for path in paths}, labels)
        return lambda path, name: folders[Path(path).parent]
    table = _read_table(Path(source), labels)
    return lambda path, name: table.get(path, table.get(name))


def _read_table(csv: Path, labels: Sequence[str]) -> dict[str, int]:
    table: dict[str, int] = {}
    known: dict[str, int] = {}
    for where, (path, label) in read_table(csv, ("path", "label")):
        try:
            table[path] = known[label] = known[label] if label in known else class_of(labels, label)
        except UsageError as error:
            raise UsageError(f"{where} stands for no class: {error.found}", error.remedy) from error
    return table
