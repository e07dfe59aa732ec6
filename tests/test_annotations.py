"""Boxes and masks of images: COCO, Pascal VOC and CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cam.errors import UsageError
from cam.evaluation.annotations import read_boxes

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 8, "file_name": "empty.jpg"}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"image_id": 9, "category_id": 1, "bbox": [10, 20, 30.5, 40]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 0},
        {"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]},
        {"image_id": 9, "category_id": 1, "bbox": [5, 5, 5, 5]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}
VOC = """<?xml version="1.0" encoding="UTF-8"?>
<annotation><folder>VOC2007</folder><filename>a.jpg</filename><size><width>500</width></size>
<object><name>dog</name><part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>
<object><name>dog</name><bndbox><ymax>9.0</ymax><xmax>8</xmax><ymin>7</ymin><xmin>6</xmin></bndbox></object>
</annotation>"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(dataset: Path) -> list[tuple[str, str | None, tuple[Any, ...]]]:
    return [(str(item.picture.name), item.label, item.boxes) for item in read_boxes(dataset)]


@pytest.mark.parametrize("name", ["instances.json", "annotations/instances.json"])
def test_coco(tmp_path, name):
    path = write(tmp_path / name, json.dumps(COCO))
    expected = [
        ("b.jpg", "dog", ((10, 20, 40.5, 60), (5, 5, 10, 10))),
        ("a.jpg", "cat", ((0, 0, 1, 1),)),
        ("b.jpg", "cat", ((1, 2, 4, 6),)),
    ]
    assert read(path) == read(tmp_path) == expected
    assert read_boxes(path)[0].picture.path == tmp_path / "b.jpg"


@pytest.mark.parametrize("name", ["Annotations/a.xml", "a.xml"])
def test_pascal_voc_counts_from_1_and_includes_the_ends(tmp_path, name):
    write(tmp_path / name, VOC)
    assert read(tmp_path) == [("a.jpg", "dog", ((0, 1, 3, 4), (5, 6, 8, 9)))]


@pytest.mark.parametrize("header", ["", "path,label,x0,y0,x1,y1\n"])
def test_csv(tmp_path, header):
    write(tmp_path / "boxes.csv", f"{header}b.jpg,dog,1,2,3,4.5\na.jpg,,0,0,1,1\nb.jpg,dog,5,6,7,8\n")
    assert read(tmp_path) == [("b.jpg", "dog", ((1, 2, 3, 4.5), (5, 6, 7, 8))), ("a.jpg", None, ((0, 0, 1, 1),))]


@pytest.mark.parametrize("folder", ["", "images", "JPEGImages"])
def test_images_lie_next_to_the_file_or_in_a_folder(tmp_path, folder):
    write(tmp_path / "boxes.csv", "sub/b.jpg,dog,1,2,3,4")
    image = write(tmp_path / folder / "sub" / "b.jpg", "")
    assert [item.picture.path for item in read_boxes(tmp_path / "boxes.csv")] == [image]


def test_a_mask_is_used_if_its_class_is_known(tmp_path):
    write(tmp_path / "boxes.csv", "a.jpg,dog,0,0,1,1\nb.jpg,dog,0,0,1,1\nb.jpg,cat,0,0,1,1\nc.jpg,dog,0,0,1,1")
    for name in ("a.png", "b.png"):
        write(tmp_path / "masks" / name, "")
    assert [item.mask for item in read_boxes(tmp_path)] == [tmp_path / "masks" / "a.png", None, None, None]


def test_a_folder_must_contain_one_data_set(tmp_path):
    with pytest.raises(UsageError, match="must contain one data set, got none"):
        read_boxes(tmp_path)
    write(tmp_path / "boxes.csv", "a.jpg,dog,0,0,1,1")
    write(tmp_path / ".hidden.csv", "")
    assert len(read_boxes(tmp_path)) == 1
    write(tmp_path / "Annotations" / "a.xml", VOC)
    with pytest.raises(UsageError, match=r"must contain one data set, got .*boxes.csv.*name one"):
        read_boxes(tmp_path)
    assert read_boxes(tmp_path / "boxes.csv")[0].label == "dog"


@pytest.mark.parametrize("name", ["none.json", "none.csv", "none.txt", "none"])
def test_a_missing_file_is_an_error(tmp_path, name):
    with pytest.raises(UsageError, match=rf"{name}' cannot be opened \(No such file|must be COCO JSON.*{name}'"):
        read_boxes(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,dog,0,0,1", "Line 2 of '.*boxes.csv' has 5 values, not 6"),
        ("a.jpg,dog,0,zero,1,1", r"Line 2 of .* has the box \['0', 'zero', '1', '1'\]"),
        ("a.jpg,dog,0,nan,1,1", "Line 2 of .* has the box"),
        ("a.jpg,dog,0,0,inf,1", "Line 2 of .* has the box"),
        ("a.jpg,dog,5,0,5,1", r"Line 2 of .* has the box \['5', '0', '5', '1'\], which is empty"),
        ("a.jpg,dog,0,3,5,1", "Line 2 of .* has the box"),
        ("../a.jpg,dog,0,0,1,1", "Line 2 of .* names the picture '../a.jpg'"),
    ],
)
def test_bad_csv_is_an_error(tmp_path, row, message):
    write(tmp_path / "boxes.csv", f"a.jpg,dog,0,0,1,1\n{row}\n")
    with pytest.raises(UsageError, match=message):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iscrowd": 1}, "contains no boxes"),
        ({"bbox": [1, 2, 3]}, "Annotation 1 of '.*a.json' is invalid"),
        ({"bbox": None}, "Annotation 1 of '.*a.json' is invalid"),
        ({"bbox": [1, 2, 0, 3]}, "Annotation 1 of .* has the box"),
        ({"bbox": [1, 2, float("nan"), 3]}, "Annotation 1 of .* has the box"),
        ({"image_id": 99}, r"Annotation 1 of .* is invalid \(KeyError: 99\)"),
        ({"category_id": [1]}, "Annotation 1 of .* is invalid"),
    ],
)
def test_a_bad_or_only_crowded_coco_annotation_is_an_error(tmp_path, change, message):
    content = {**COCO, "annotations": [{**COCO["annotations"][0], **change}]}
    write(tmp_path / "a.json", json.dumps(content))
    with pytest.raises(UsageError, match=message):
        read_boxes(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"images": []}', '{"images": 3, "annotations": []}', "7"])
def test_other_json_is_an_error(tmp_path, text):
    write(tmp_path / "a.json", text)
    with pytest.raises(UsageError, match="is not COCO JSON"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "is not XML"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "bb">]><annotation>', "declares a DOCTYPE"),
        ("<xmin>6", "<xmin>six", r"Object 2 of '.*a.xml' has the box \['six', '7', '8', '9.0'\]"),
        ("<xmin>6</xmin>", "", r"Object 2 of '.*a.xml' has the box \['', '7', '8', '9.0'\]"),
        ("<xmin>6", "<xmin>9", "Object 2 of .* has the box"),
        ("<filename>a.jpg</filename>", "", "names the picture ''"),
    ],
)
def test_bad_xml_is_an_error(tmp_path, old, new, message):
    write(tmp_path / "a.xml", VOC.replace(old, new))
    with pytest.raises(UsageError, match=message):
        read_boxes(tmp_path)


def test_utf_16_does_not_hide_entities(tmp_path):
    bomb = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'
    (tmp_path / "a.xml").write_bytes(bomb.encode("utf-16"))
    with pytest.raises(UsageError, match="declares a DOCTYPE"):
        read_boxes(tmp_path)
