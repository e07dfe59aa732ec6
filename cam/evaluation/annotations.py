"""The true objects of images: boxes from COCO, Pascal VOC or CSV files, and their masks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from cam.errors import UsageError
from cam.images.find import Picture
from cam.images.tables import picture_named, read_table, read_text

Box: TypeAlias = tuple[float, float, float, float]
_Object: TypeAlias = tuple[Picture, str | None, Box]
_XML = "Annotations/*.xml", "*.xml"


@dataclass(frozen=True)
class Annotation:
    """The objects of one class in one image."""

    picture: Picture
    label: str | None  # None for the class that the model predicts
    boxes: tuple[Box, ...]  # (x0, y0, x1, y1) in pixels of the upright image, ends excluded
    mask: Path | None  # an image of the same size that is black outside the objects


def read_boxes(dataset: Path) -> list[Annotation]:
    """Read the boxes of a data set: one annotation for each image and class.

    The data set is one of these files, or a folder that contains one of them (COCO's also in `annotations`):

    - COCO: JSON with `images`, `annotations` and `categories`; crowds are left out;
    - Pascal VOC: a folder of XML files, or of `Annotations/*.xml`; its pixels count from 1, ends included;
    - CSV: `path,label,x0,y0,x1,y1`, one row for each box, with or without this header; x1 and y1 are excluded, a blank
      label means the class that the model predicts.

    Image paths are relative to the data set's folder, or to `images` or `JPEGImages` in it. `masks/NAME.png` in the
    data set's folder is the mask of `NAME.jpg` if the image has objects of a single class.
    """
    source = _only_source(dataset) if dataset.is_dir() else dataset
    readers = {".json": _read_coco, ".csv": _read_csv}
    read = _read_voc if source.is_dir() else readers.get(source.suffix.lower())
    if read is None:
        problem = f"The data set must be COCO JSON, CSV, or a folder of Pascal VOC XML, got {str(source)!r}"
        raise UsageError(problem, "Name another file or folder")
    root = source if source.is_dir() else source.parent
    root = root.parent if read is _read_coco and root.name == "annotations" else root
    boxes: dict[tuple[Picture, str | None], list[Box]] = {}
    for picture, label, box in read(source, [root, root / "images", root / "JPEGImages"]):
        boxes.setdefault((picture, label), []).append(box)
    if not boxes:
        raise UsageError(f"{str(source)!r} contains no boxes", "Give a data set with boxes")
    class_counts = Counter(picture for picture, _ in boxes)
    annotations = []
    for (picture, label), of_class in boxes.items():
        mask = root / "masks" / picture.name.with_suffix(".png")
        usable = class_counts[picture] == 1 and mask.is_file()  # a mask does not say which class its pixels belong to
        annotations.append(Annotation(picture, label, tuple(of_class), mask if usable else None))
    return annotations


def _only_source(folder: Path) -> Path:
    sources = _find_visible(folder, "*.json", "annotations/*.json", "*.csv")
    sources += [folder] if _find_visible(folder, *_XML) else []
    if len(sources) != 1:
        listed = ", ".join(repr(str(source)) for source in sources) or "none"
        remedy = "Put COCO JSON, CSV or Pascal VOC XML files into it, or name one of several"
        raise UsageError(f"{str(folder)!r} must contain one data set, got {listed}", remedy)
    return sources[0]


def _find_visible(folder: Path, *patterns: str) -> list[Path]:
    files = (file for pattern in patterns for file in folder.glob(pattern))
    return sorted(file for file in files if not file.name.startswith("."))


def _read_csv(path: Path, roots: Sequence[Path]) -> Iterator[_Object]:
    for where, (name, label, *corners) in read_table(path, ("path", "label", "x0", "y0", "x1", "y1")):
        yield picture_named(name, roots, where), label or None, _box(corners, where)


def _read_coco(path: Path, roots: Sequence[Path]) -> Iterator[_Object]:
    text = read_text(path)
    try:
        content = json.loads(text)
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        labels = {category["id"]: str(category["name"]) for category in content["categories"]}
        annotations = list(content["annotations"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        problem = f"{str(path)!r} is not COCO JSON ({type(error).__name__}: {error})"
        raise UsageError(problem, "Give one with images, annotations and categories") from error
    for number, annotation in enumerate(annotations, 1):
        where = f"Annotation {number} of {str(path)!r}"
        try:
            x, y, width, height = map(float, annotation["bbox"])
            file, label = files[annotation["image_id"]], labels[annotation["category_id"]]
            crowd = annotation.get("iscrowd")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            remedy = "Give it the image_id and category_id of an image and a category, and bbox: x, y, width, height"
            raise UsageError(f"{where} is invalid ({type(error).__name__}: {error})", remedy) from error
        if not crowd:
            yield picture_named(file, roots, where), label, _box((x, y, x + width, y + height), where)


def _read_voc(folder: Path, roots: Sequence[Path]) -> Iterator[_Object]:
    for path in _find_visible(folder, *_XML):
        text = read_text(path)
        if "<!DOCTYPE" in text:  # only there can entities be declared, and a few of them can fill the memory
            raise UsageError(f"{str(path)!r} declares a DOCTYPE, which is unsafe", "Delete that declaration")
        try:
            root = ElementTree.fromstring(text)  # noqa: S314 - no DOCTYPE, no entities
        except (ElementTree.ParseError, ValueError) as error:
            raise UsageError(f"{str(path)!r} is not XML ({error})", "Export it again") from error
        picture = picture_named(root.findtext("filename", ""), roots, repr(str(path)))
        for number, element in enumerate(root.findall("object"), 1):
            where = f"Object {number} of {str(path)!r}"
            corners = [element.findtext(f"bndbox/{name}", "") for name in ("xmin", "ymin", "xmax", "ymax")]
            label = element.findtext("name", "").strip() or None
            yield picture, label, _box(corners, where, first=1)


def _box(corners: Sequence[Any], where: str, first: int = 0) -> Box:
    """Convert corners, numbers or texts, whose upper left pixel is number `first`."""
    try:
        x0, y0, x1, y1 = map(float, corners)
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    x0, y0 = x0 - first, y0 - first
    if not (x0 < x1 and y0 < y1 and math.isfinite(x0 + y0 + x1 + y1)):
        problem = f"{where} has the box {list(corners)}, which is empty or not four numbers"
        raise UsageError(problem, "Write x0, y0, x1 and y1 in pixels, or delete it")
    return x0, y0, x1, y1
