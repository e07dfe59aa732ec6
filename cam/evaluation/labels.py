"""Which class each picture shows: from the folder it lies in, or from a table."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import TypeAlias

from cam.classifiers.labels import find_class
from cam.errors import UsageError
from cam.images.find import Picture, find_pictures
from cam.images.tables import picture_named, read_table

_WORDNET = re.compile(r"(n[0-9]{8})(?:[ _-]+(.+))?")

# ImageNet's class indices of the WordNet ids whose names alone would lead to the other class of that name.
_NAMESAKES = {
    "n02012849": (134, "crane"),  # the bird
    "n03126707": (517, "crane"),
    "n02113186": (264, "cardigan"),  # the dog
    "n02963159": (474, "cardigan"),
    "n03710637": (638, "maillot"),
    "n03710721": (639, "maillot"),
}


@dataclass(frozen=True)
class Labeled:
    """A picture and the class it shows.

    Attributes:
        picture: the file; it may be missing.
        class_idx: of the model.
    """

    picture: Picture
    class_idx: int


def labeled_pictures(folder: Path, labels: Sequence[str], csv: Path | None = None) -> list[Labeled]:
    """Find the pictures of a folder with the class each shows.

    Without a table the folder holds one folder a class, called as `classes_of_folders` understands.

    Args:
        folder: where the pictures lie.
        labels: of the model's classes, in order.
        csv: a table with the columns `path` (relative to the folder) and `label` (as `class_of` understands), with
            or without these names in the first row.

    Returns:
        In natural order of the paths, or that of the table.

    Raises:
        UsageError: a folder or a row that stands for no class or for several, a picture outside the folders of the
            classes, one that comes twice in the table, or no picture at all.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "n02012849_crane").mkdir()
        ...     Path(folder, "n02012849_crane", "1.jpg").touch()
        ...     [found.class_idx for found in labeled_pictures(Path(folder), ["dog", "crane"])]
        [1]
    """
    if csv is not None:
        return _by_table(folder, csv, labels)
    pictures = find_pictures([folder])
    for picture in pictures:
        if len(picture.name.parts) < 2:
            found = f"The picture {str(picture.path)!r} lies in no folder of a class"
            raise UsageError(found, "Put it into one called by its label, or give a CSV of path,label")
    classes = classes_of_folders({folder / picture.name.parts[0] for picture in pictures}, labels)
    return [Labeled(picture, classes[folder / picture.name.parts[0]]) for picture in pictures]


def classes_of_folders(folders: Collection[Path], labels: Sequence[str]) -> dict[Path, int]:
    """Find the class that each folder stands for, by its name as `class_of` understands it.

    Where there are as many folders as classes and all are called by bare WordNet ids, they are the classes in that
    order, as in ImageNet.

    Args:
        folders: each of one class.
        labels: of the model's classes, in order.

    Raises:
        UsageError: a folder that stands for no class or for several.

    Example:
        >>> list(classes_of_folders([Path("photos/dog"), Path("photos/cat")], ["dog", "cat"]).values())
        [1, 0]
    """
    in_order = sorted(folders, key=lambda folder: folder.name)
    if len(folders) == len(labels) and all(re.fullmatch("n[0-9]{8}", folder.name) for folder in folders):
        return {folder: class_idx for class_idx, folder in enumerate(in_order)}
    return {folder: _class_of_folder(folder, labels) for folder in in_order}


def class_of(labels: Sequence[str], text: str) -> int:
    """Find the class that a text of the ground truth stands for.

    Args:
        labels: of the model's classes, in order.
        text: a label, whatever the case of its letters, `_`, `-` and spaces alike; with a WordNet id before it, as in
            `n01440764_tench`, or that id alone where the labels are such ids; or, when no label fits, a class index.

    Returns:
        The class index, counted from 0.

    Raises:
        UsageError: no label fits, or several do; the nearest are listed with their indices.

    Example:
        >>> class_of(["tench", "great white shark"], "Great_white-shark"), class_of(["tench", "goldfish"], "1")
        (1, 1)
    """
    plain = [_plain(label) for label in labels]
    name = text.strip()
    if (match := _WORDNET.fullmatch(name)) and match[1] not in plain:
        class_idx, word = _NAMESAKES.get(match[1], (0, ""))
        if word and class_idx < len(plain) and plain[class_idx].startswith(word):
            return class_idx
        name = match[2] or name
    elif match:
        name = match[1]
    try:
        return find_class(plain, _plain(name))
    except UsageError:
        if name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < len(labels):
            return int(name)
        raise


def read_classes(csv: Path, labels: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Read a table that says which class each picture shows.

    Args:
        csv: a table with the columns `path` and `label` (as `class_of` understands), with or without these names in
            the first row.
        labels: of the model's classes, in order.

    Returns:
        For each row where it stands, for messages, its path, and its class index.

    Raises:
        UsageError: it cannot be read, or a row stands for no class or for several.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "labels.csv").write_text("a.jpg,dog")
        ...     [class_idx for _, path, class_idx in read_classes(Path(folder, "labels.csv"), ["cat", "dog"])]
        [1]
    """
    find = cache(lambda text: class_of(labels, text))
    for where, (path, label) in read_table(csv, ("path", "label")):
        try:
            class_idx = find(label)
        except UsageError as error:
            raise UsageError(f"{where} stands for no class: {error.found}", error.remedy) from error
        yield where, path, class_idx


def _by_table(folder: Path, csv: Path, labels: Sequence[str]) -> list[Labeled]:
    found: dict[Picture, Labeled] = {}
    for where, path, class_idx in read_classes(csv, labels):
        picture = picture_named(path, [folder], where)
        if picture in found:
            raise UsageError(f"{where} names the picture {path!r} again", "Give every picture one row")
        found[picture] = Labeled(picture, class_idx)
    if not any(os.path.lexists(picture.path) for picture in found):
        sentence = f"{str(csv)!r} names no picture that is in {str(folder)!r}"
        raise UsageError(sentence, f"Write paths relative to it, not such as {next(iter(found)).name.as_posix()!r}")
    return list(found.values())


def _class_of_folder(folder: Path, labels: Sequence[str]) -> int:
    try:
        return class_of(labels, folder.name)
    except UsageError as error:
        remedy = "Call it by a label or a class index, or give a CSV of path,label"
        raise UsageError(f"The folder {str(folder)!r} stands for no class: {error.found}", remedy) from error


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


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
