"""The true classes of images: from the folders they lie in, or from a table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePath

from cam.classifiers.labels import find_class
from cam.classifiers.sources.cards import FOLDER
from cam.errors import UsageError, hide_passwords
from cam.images.find import Picture, find_pictures
from cam.images.tables import read_table

_WORDNET = re.compile(r"(n[0-9]{8})(?:[ _-]+(.+))?")
_IMAGENET = {0: "tench", 500: "cliff dwelling", 999: "toilet tissue"}  # by which its labels are known
_LISTED = 8  # labels


@dataclass(frozen=True)
class Truth:
    """The true class of each image by its path; images whose label means no class have that `label` and `error`."""

    classes: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def unmatched(self) -> dict[str, int]:
        """The labels that mean no class, with the number of their images, the most first."""
        return dict(Counter(self.labels.values()).most_common())


def describe_unmatched(unmatched: Mapping[str, int]) -> str:
    """Describe labels that mean no class in one line.

    Example:
        >>> describe_unmatched({"cardigan": 2, "crane": 1})
        "3 images have no truth, as these labels mean no class or several: 'cardigan' 2, 'crane' 1"
    """
    total = sum(unmatched.values())
    listed = [f"{label!r} {count}" for label, count in unmatched.items()]
    listed[_LISTED:] = ["..."] * (len(listed) > _LISTED)
    images = "1 image has" if total == 1 else f"{total} images have"
    return f"{images} no truth, as these labels mean no class or several: {', '.join(listed)}"


def class_of(labels: Sequence[str], text: str, option: str = "") -> int:
    """Find the class index that a text of the ground truth means; the error names the option.

    The text is a label, where case does not matter and `_`, `-` and spaces are the same; a label after its WordNet id,
    as in `n01440764_tench`; an id alone if the labels are ids, or those of ImageNet's 1,000 classes; or, if no label
    matches, a class index.
    """
    plain = [_plain(label) for label in labels]
    name = text.strip()
    if match := _WORDNET.fullmatch(name):
        is_imagenet = len(plain) == 1000 and all(plain[c].split(",")[0] == first for c, first in _IMAGENET.items())
        for ids in (plain, _imagenet_ids() if is_imagenet else []):
            if match[1] in ids:
                return ids.index(match[1])
        name = match[2] or name
    try:
        return find_class(plain, _plain(name), option)
    except UsageError:
        if re.fullmatch("[0-9]{1,9}", name) and int(name) < len(labels):
            return int(name)
        raise


def labeled_pictures(
    folder: Path, labels: Sequence[str], csv: Path | None = None
) -> tuple[dict[Picture, int], Mapping[str, str]]:
    """Find the images of a folder that have a true class, in natural order, and that class; and why others have none.

    Without a table the folder contains one folder for each class, named as `class_of` understands. A table has the
    columns `path` (relative to the folder) and `label`; images without a row are left out.
    """
    if not folder.exists():
        raise UsageError(f"The folder {str(folder)!r} does not exist", "Check the path")
    pictures = find_pictures([folder])
    if csv is None:
        for picture in pictures:
            if not picture.name.parent.parts:
                problem = f"{str(folder)!r} must hold a folder of images for each class, got {picture.name.name!r}"
                raise UsageError(problem, "Give --truth a CSV of path,label, or sort the images into such folders")
        truth = _match_folders({str(picture.path): folder / picture.name.parts[0] for picture in pictures}, labels)
    else:
        truth = _read_table(csv, [(str(picture.path), str(picture.name)) for picture in pictures], labels)
    with_class = (picture for picture in pictures if str(picture.path) in truth.classes)
    return {picture: truth.classes[str(picture.path)] for picture in with_class}, truth.errors


def read_truth(source: str | None, pictures: Iterable[tuple[str, str]], labels: Sequence[str]) -> Truth:
    """Read the true classes of images, given their paths and names as in the manifest; UsageError if none has one.

    The source is "folder" if each image lies in a folder named after its class; a CSV of path,label, where a path is
    the image's path, its name, or the end of just one path; or None if nothing is known.
    """
    if source is None:
        return Truth()
    if source != "folder" and Path(source).is_dir():
        problem = f"--truth {source!r} is a folder"
        raise UsageError(problem, "Write --truth folder if images lie in a folder for each class, or give a CSV")
    if source == "folder":
        return _match_folders({path: Path(path).absolute().parent for path, _ in pictures}, labels)
    return _read_table(Path(source), list(pictures), labels)


def _match_folders(folders: Mapping[str, Path], labels: Sequence[str]) -> Truth:
    """Find the class that the folder of each image is named after."""
    in_order = sorted(set(folders.values()), key=lambda folder: folder.name)
    all_ids = all(re.fullmatch("n[0-9]{8}", folder.name) for folder in in_order)
    if all_ids and len(in_order) == len(labels):  # WordNet ids are in the order of the classes of ImageNet
        index = {folder: number for number, folder in enumerate(in_order)}
        return Truth({path: index[folder] for path, folder in folders.items()})
    rows = ((path, folder.name, f"The folder {str(folder)!r}") for path, folder in folders.items())
    return _match(rows, labels)


def _match(rows: Iterable[tuple[str, str, str]], labels: Sequence[str]) -> Truth:
    """Find the classes of rows of path, label, and where it stands for messages."""
    classes: dict[str, int] = {}
    unmatched: dict[str, str] = {}
    errors: dict[str, UsageError] = {}  # by label
    find = cache(partial(class_of, labels))
    for path, label, where in rows:
        if label not in errors:
            try:
                classes[path] = find(label)
                continue
            except UsageError as error:
                errors[label] = UsageError(f"{where} matches no class: {error.problem}", error.remedy)
        unmatched[path] = label
    if errors and not classes:
        raise next(iter(errors.values()))
    return Truth(classes, unmatched, {path: str(errors[label]) for path, label in unmatched.items()})


def _read_table(csv: Path, pictures: Sequence[tuple[str, str]], labels: Sequence[str]) -> Truth:
    """Read the class of each path from a CSV of path,label."""
    table = [(where, (hide_passwords(text), label)) for where, (text, label) in read_table(csv, ("path", "label"))]
    texts = {text for _, (text, _) in table}
    matches = defaultdict(set)  # text -> the paths that end in it
    for path, _ in pictures:
        parts = PurePath(path).parts
        for text in {"/".join(parts[first:]) for first in range(1, len(parts))} & texts:
            matches[text].add(path)
    exact = {name: path for path, name in pictures} | {path: path for path, _ in pictures}
    matches.update({text: {path} for text, path in exact.items()})
    rows: dict[str, tuple[str, str, str]] = {}
    for where, (text, label) in table:
        paths = sorted(matches.get(text, ()))
        if len(paths) > 1:
            raise UsageError(f"{where} matches {paths[0]!r} and {paths[1]!r}", f"Write more of the path than {text!r}")
        if rows.keys() & paths:
            raise UsageError(f"{where} names the image {text!r} again", "Give every image one row")
        rows.update((path, (path, label, where)) for path in paths)
    if not rows:
        example = PurePath(next(iter(exact), "a.jpg")).name
        raise UsageError(f"{str(csv)!r} names none of the images", f"Write paths or ends of them, such as {example!r}")
    return _match(rows.values(), labels)


@cache
def _imagenet_ids() -> list[str]:
    """The WordNet ids of ImageNet's 1,000 classes, in order."""
    return (FOLDER / "imagenet-ids.txt").read_text("ascii").split()


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()
