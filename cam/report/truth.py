"""What the pictures of a run show, from the folders they lie in or from a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

from cam.errors import UsageError
from cam.evaluation.truth import classes_of_folders, read_classes

# Path of a picture as in the manifest -> class index, None where it is not known.
Truth: TypeAlias = Callable[[str], int | None]


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
        >>> read_truth("folder", [("photos/cat/1.jpg", "cat/1.jpg")], ["dog", "cat"])("photos/cat/1.jpg")
        1
    """
    if source is None:
        return lambda path: None
    if source == "folder":
        folders = classes_of_folders({Path(path).parent for path, _ in pictures}, labels)
        return lambda path: folders[Path(path).parent]
    return _of_pictures(list(read_classes(Path(source), labels)), list(pictures), source).get


def _of_pictures(
    rows: Sequence[tuple[str, str, int]], pictures: Sequence[tuple[str, str]], source: str
) -> dict[str, int]:
    """The class of each picture that a row names: by its path, its name in the run, or else the end of its path."""
    exact = {name: path for path, name in pictures} | {path: path for path, _ in pictures}
    ends = _ends({text for _, text, _ in rows}, [path for path, _ in pictures])
    classes: dict[str, int] = {}
    for where, text, class_idx in rows:
        found = [exact[text]] if text in exact else ends.get(text, [])
        if len(found) > 1:
            raise UsageError(f"{where} means {found[0]!r} or {found[1]!r}", f"Write more of the path than {text!r}")
        if classes.keys() & found:
            raise UsageError(f"{where} names the picture {text!r} again", "Give every picture one row")
        classes.update(dict.fromkeys(found, class_idx))
    if not classes:
        remedy = f"Write paths as in the manifest, or ends of them, such as {PurePath(pictures[0][0]).name!r}"
        raise UsageError(f"{source!r} names no picture of this run", remedy)
    return classes


def _ends(texts: Collection[str], paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths that end in each text."""
    ends = defaultdict(list)
    for path in paths:
        parts = PurePath(path).parts
        for end in ("/".join(parts[first:]) for first in range(1, len(parts))):
            if end in texts:
                ends[end].append(path)
    return ends
