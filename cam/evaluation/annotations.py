"""Where the objects of each picture lie: boxes from COCO, Pascal VOC or CSV files, and masks beside them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from cam.errors import UsageError
from cam.images.find import Picture
from cam.images.tables import picture_named, read_table, read_text

Box: TypeAlias = tuple[float, float, float, float]

Found: TypeAlias = tuple[Picture, str | None, Box]

COLUMNS = ("path", "label", "x0", "y0", "x1", "y1")


@dataclass(frozen=True)
class Boxed:
    """The objects of one class in one picture.

    Attributes:
        picture: the file; it may be missing.
        label: of the class; None for whatever class the model predicts.
        boxes: (x0, y0, x1, y1) in pixels of the picture as a person sees it, upright, ends excluded.
        mask: a picture of the same size whose pixels other than black are the objects'.
    """

    picture: Picture
    label: str | None
    boxes: tuple[Box, ...]
    mask: Path | None


def read_boxes(dataset: Path) -> list[Boxed]:
    """Read the boxes of a data set.

    One of

    - COCO: JSON with `images`, `annotations` and `categories`; `bbox` is x, y, width, height; crowds are left out;
    - Pascal VOC: a folder of XML files, or of `Annotations/*.xml`; its pixels count from 1, ends included, and are
      turned into ours;
    - CSV: `path,label,x0,y0,x1,y1`, one row a box, these names in the first row or not; x1 and y1 are excluded, a
      blank label stands for the class that the model predicts.

    Pictures are named relative to the data set's folder, or to `images` or `JPEGImages` in it. Boxes count in the
    pixels of the picture upright, as its EXIF orientation has it shown. Of `NAME.jpg` with objects of a single
    class, `masks/NAME.png` in the data set's folder is the mask.

    Args:
        dataset: the JSON or CSV file, or a folder with one of the three in it (COCO's also in its `annotations`).

    Returns:
        One entry a picture and class, those of a picture together, in the order in which pictures are first named.

    Raises:
        UsageError: not a data set or several, or a box that cannot be right, named with its file and row.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "boxes.csv").write_text("a.jpg,dog,10,0,19,9")
        ...     read_boxes(Path(folder))[0].boxes
        ((10.0, 0.0, 19.0, 9.0),)
    """
    source = _only_source(dataset) if dataset.is_dir() else dataset
    root = source if source.is_dir() else source.parent
    root = root.parent if source.suffix.lower() == ".json" and root.name == "annotations" else root
    roots = [root, root / "images", root / "JPEGImages"]
    if source.is_dir():
        found = _voc(_xml_files(source), roots)
    elif source.suffix.lower() == ".json":
        found = _coco(source, roots)
    elif source.suffix.lower() == ".csv":
        found = _csv(source, roots)
    else:
        raise UsageError(f"{str(source)!r} is no data set", "Give COCO JSON, CSV, or a folder of Pascal VOC XML")
    return _by_class(found, root / "masks", str(source))


def _only_source(folder: Path) -> Path:
    files = [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*.csv")]
    sources = sorted(file for file in files if not file.name.startswith("."))
    sources += [folder] if _xml_files(folder) else []
    if len(sources) == 1:
        return sources[0]
    if sources:
        listed = ", ".join(repr(str(source)) for source in sources)
        raise UsageError(f"{str(folder)!r} holds more than one data set: {listed}", "Name the file you mean")
    raise UsageError(f"{str(folder)!r} holds no data set", "Put COCO JSON, CSV or Pascal VOC XML files into it")


def _xml_files(folder: Path) -> list[Path]:
    files = [*folder.glob("Annotations/*.xml"), *folder.glob("*.xml")]
    return sorted(file for file in files if not file.name.startswith("."))


def _csv(path: Path, roots: Sequence[Path]) -> Iterator[Found]:
    for where, (name, label, *corners) in read_table(path, COLUMNS):
        yield picture_named(name, roots, where), label or None, _box(corners, where)


def _coco(path: Path, roots: Sequence[Path]) -> Iterator[Found]:
    text = read_text(path)
    try:
        content = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        labels = {category["id"]: str(category["name"]) for category in content["categories"]}
        notes = list(content["annotations"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        found = f"{str(path)!r} is not JSON of the COCO kind ({type(error).__name__}: {error})"
        raise UsageError(found, "Give one with images, annotations and categories") from error
    for number, note in enumerate(notes, 1):
        where = f"Annotation {number} of {str(path)!r}"
        try:
            x, y, width, height = map(float, note["bbox"])
            file, label, crowd = files[note["image_id"]], labels[note["category_id"]], note.get("iscrowd")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            remedy = "Give it the image_id and category_id of an image and a category, and bbox: x, y, width, height"
            raise UsageError(f"{where} cannot be right ({type(error).__name__}: {error})", remedy) from error
        if not crowd:
            yield picture_named(file, roots, where), label, _box((x, y, x + width, y + height), where)


def _voc(paths: Sequence[Path], roots: Sequence[Path]) -> Iterator[Found]:
    for path in paths:
        annotation = _parse(path)
        picture = picture_named(annotation.findtext("filename", ""), roots, repr(str(path)))
        for number, thing in enumerate(annotation.findall("object"), 1):
            where = f"Object {number} of {str(path)!r}"
            x0, y0, x1, y1 = (thing.findtext(f"bndbox/{name}", "") for name in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = _numbers((x0, y0, x1, y1), where)
            label = thing.findtext("name", "").strip() or None
            yield picture, label, _box((left - 1, top - 1, right, bottom), where)


def _parse(path: Path) -> ElementTree.Element:
    """Parse XML without a DOCTYPE: there alone can entities be declared, and a few of them can fill the memory."""
    text = read_text(path)
    if "<!DOCTYPE" in text:
        raise UsageError(f"{str(path)!r} declares a DOCTYPE, which can hold a bomb", "Delete that declaration")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - no DOCTYPE, no entities
    except (ElementTree.ParseError, ValueError) as error:
        raise UsageError(f"{str(path)!r} is no XML ({error})", "Export it again") from error


def _box(corners: Sequence[Any], where: str) -> Box:
    x0, y0, x1, y1 = _numbers(corners, where)
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"{where} is the empty box {[x0, y0, x1, y1]}", "Give it a width and a height, or delete it")
    return x0, y0, x1, y1


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"{where} has the box {list(values)}",
            "Write four numbers in pixels (in a CSV: x0,y0,x1,y1)",
        )
    return numbers


def _by_class(found: Iterable[Found], masks: Path, source: str) -> list[Boxed]:
    pictures: dict[Picture, dict[str | None, list[Box]]] = {}
    for picture, label, box in found:
        pictures.setdefault(picture, {}).setdefault(label, []).append(box)
    if not pictures:
        raise UsageError(f"{source!r} holds no boxes", "Give a data set with boxes")
    items = []
    for picture, classes in pictures.items():
        mask = masks / picture.name.with_suffix(".png")
        # A mask does not say which class its pixels are of. os.path: Path raises where a folder may not be read.
        known = len(classes) == 1 and os.path.isfile(mask)  # noqa: PTH113
        items += [Boxed(picture, label, tuple(boxes), mask if known else None) for label, boxes in classes.items()]
    return items
