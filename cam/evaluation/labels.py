"""The true classes of images: from the folders they lie in, or from a table."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import TypeVar

from cam.classifiers.labels import find_class
from cam.errors import UsageError
from cam.images.find import Picture, find_pictures
from cam.images.tables import read_table

Key = TypeVar("Key")  # of an image
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


def class_of(labels: Sequence[str], text: str) -> int:
    """Find the class index that a text of the ground truth means.

    The text is a label, where case does not matter and `_`, `-` and spaces are the same; a label after its WordNet id,
    as in `n01440764_tench`; an id alone if the labels are ids; or, if no label matches, a class index.
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
        if re.fullmatch("[0-9]{1,9}", name) and int(name) < len(labels):
            return int(name)
        raise


def labeled_pictures(folder: Path, labels: Sequence[str], csv: Path | None = None) -> dict[Picture, int]:
    """Find the images of a folder that have a true class, in natural order, and that class.

    Without a table the folder contains one folder for each class, named as `class_of` understands. A table has the
    columns `path` (relative to the folder) and `label`; images without a row are left out.
    """
    pictures = find_pictures([folder])
    if csv is None:
        for picture in pictures:
            if not picture.name.parent.parts:
                problem = f"{str(folder)!r} must hold a folder of images for each class, got {picture.name.name!r}"
                raise UsageError(problem, "Give --truth a CSV of path,label, or sort the images into such folders")
        class_folders = {picture: folder / picture.name.parts[0] for picture in pictures}
        return _classes_of_folders(class_folders, labels)
    truth = _read_table(csv, [(str(picture.path), str(picture.name)) for picture in pictures], labels)
    return {picture: truth[str(picture.path)] for picture in pictures if str(picture.path) in truth}


def read_truth(source: str | None, pictures: Iterable[tuple[str, str]], labels: Sequence[str]) -> dict[str, int]:
    """Read the true classes of images by their paths, given their paths and names as in the manifest.

    The source is "folder" if each image lies in a folder named after its class; a CSV of path,label, where a path is
    the image's path, its name, or the end of just one path; or None if nothing is known.
    """
    if source is None:
        return {}
    if source == "folder":
        return _classes_of_folders({path: Path(path).parent for path, _ in pictures}, labels)
    return _read_table(Path(source), list(pictures), labels)


def _classes_of_folders(folders: Mapping[Key, Path], labels: Sequence[str]) -> dict[Key, int]:
    """Find the class that the folder of each image is named after."""
    in_order = sorted(set(folders.values()), key=lambda folder: folder.name)
    all_ids = all(re.fullmatch("n[0-9]{8}", folder.name) for folder in in_order)
    sorted_ids = all_ids and len(in_order) == len(labels)  # of ImageNet: WordNet ids in the order of its classes
    classes = {}
    for index, folder in enumerate(in_order):
        try:
            classes[folder] = index if sorted_ids else class_of(labels, folder.name)
        except UsageError as error:
            remedy = "Give --truth a CSV of path,label, or name the folder after a label or a class index"
            raise UsageError(f"The folder {str(folder)!r} matches no class: {error.problem}", remedy) from error
    return {key: classes[folder] for key, folder in folders.items()}


def _read_table(csv: Path, pictures: Sequence[tuple[str, str]], labels: Sequence[str]) -> dict[str, int]:
    """Read the class of each path from a CSV of path,label."""
    rows = read_table(csv, ("path", "label"))
    texts = {text for _, (text, _) in rows}
    matches = defaultdict(set)  # text -> the paths that end in it
    for path, _ in pictures:
        parts = PurePath(path).parts
        for text in {"/".join(parts[first:]) for first in range(1, len(parts))} & texts:
            matches[text].add(path)
    exact = {name: path for path, name in pictures} | {path: path for path, _ in pictures}
    matches.update({text: {path} for text, path in exact.items()})
    find = cache(lambda label: class_of(labels, label))
    classes: dict[str, int] = {}
    for where, (text, label) in rows:
        try:
            class_idx = find(label)
        except UsageError as error:
            raise UsageError(f"{where} matches no class: {error.problem}", error.remedy) from error
        paths = sorted(matches.get(text, ()))
        if len(paths) > 1:
            raise UsageError(f"{where} matches {paths[0]!r} and {paths[1]!r}", f"Write more of the path than {text!r}")
        if classes.keys() & paths:
            raise UsageError(f"{where} names the image {text!r} again", "Give every image one row")
        classes.update(dict.fromkeys(paths, class_idx))
    if not classes:
        example = PurePath(next(iter(exact), "a.jpg")).name
        raise UsageError(f"{str(csv)!r} names none of the images", f"Write paths or ends of them, such as {example!r}")
    return classes


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()
