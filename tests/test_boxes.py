"""The boxes benchmark: known heat against known boxes."""

from __future__ import annotations

import csv
import runpy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cam
from cam.errors import ModelError, UsageError
from cam.evaluation.annotations import read_boxes
from cam.evaluation.benchmark import Evaluation, Row
from cam.evaluation.boxes import evaluate_boxes
from cam.evaluation.methods import MapRequest, load_image
from cam.evaluation.metrics import box_mask
from cam.images.io import read_image

MODEL: Any = SimpleNamespace(name="stand-in", labels=("cat", "dog"), preprocessing=SimpleNamespace(fit="crop"))


class Fixed:
    """Heat of 1 in known boxes, by image and class, and 0 elsewhere."""

    def __init__(self, name: str, boxes: dict[tuple[str, int], tuple[int, int, int, int]]) -> None:
        self.name = name
        self.boxes = boxes
        self.requests: list[tuple[str, tuple[int, ...]]] = []

    def heats(self, request: MapRequest) -> dict[int, np.ndarray]:
        self.requests.append((request.name, request.class_idxs))
        if request.name == "fails.png":
            raise ModelError("It does not run", "Take another")
        boxes = {class_idx: self.boxes[request.name, class_idx] for class_idx in request.class_idxs}
        size = request.image.shape[:2]
        return {class_idx: box_mask(np.array([box]), size).astype(np.float32) for class_idx, box in boxes.items()}


def save(path: Path, size: tuple[int, int] = (8, 8), inside: tuple[int, int, int, int] | None = None) -> None:
    """Save a black image of (H, W) pixels, white in a box."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(255 * box_mask(np.array([inside or (0, 0, 0, 0)]), size).astype(np.uint8)).save(path)


def evaluate(folder: Path, methods: Sequence[Any], **options: Any) -> Evaluation:
    return evaluate_boxes(MODEL, read_boxes(folder), methods, **options)


def values(result: Evaluation, method: str) -> dict[str, float]:
    return {row.metric: row.value for row in result.rows if row.method == method}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two images of 8 x 8 pixels, a dog and a cat in the first, a dog in the second: boxes of 16 pixels."""
    (tmp_path / "boxes.csv").write_text("a.png,dog,0,0,4,4\na.png,cat,4,4,8,8\nb.png,Dog,2,2,6,6\n")
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    return tmp_path


def test_perfect_and_shifted_heat_by_hand(two):
    perfect = Fixed("perfect", {("a.png", 1): (0, 0, 4, 4), ("a.png", 0): (4, 4, 8, 8), ("b.png", 1): (2, 2, 6, 6)})
    # The dogs' heat is shifted by half a box, IoU 1/3; the cat's is half of its box, IoU 1/2.
    shifted = Fixed("shifted", {("a.png", 1): (2, 0, 6, 4), ("a.png", 0): (4, 4, 6, 8), ("b.png", 1): (2, 4, 6, 8)})
    result = evaluate(two, [perfect, shifted])
    assert perfect.requests == [("a.png", (1, 0)), ("b.png", (1,))]
    assert (result.benchmark, result.model, result.pictures, len(result.failed)) == ("boxes", "stand-in", 2, 0)
    assert result.rows[:4] == tuple(
        Row("perfect", metric, 1.0, 1.0, 1.0, 3) for metric in ("pointing", "energy", "max_box_acc", "max_box_acc_v2")
    )
    assert values(result, "shifted") == {
        "pointing": pytest.approx(2 / 3),
        "energy": pytest.approx(2 / 3),
        "max_box_acc": pytest.approx(1 / 3),
        "max_box_acc_v2": pytest.approx((1 + 1 / 3 + 0) / 3),
    }


def test_masks_give_px_ap(two):
    save(two / "masks" / "b.png", inside=(2, 2, 4, 6))  # the left half of the box
    heat = Fixed("heat", {("a.png", 1): (0, 0, 4, 4), ("a.png", 0): (4, 4, 8, 8), ("b.png", 1): (2, 2, 6, 6)})
    row = evaluate(two, [heat]).rows[-1]
    assert (row.metric, row.value, row.count) == ("px_ap", 0.5, 1)
    mask = np.asarray(Image.open(two / "masks" / "b.png")) // 255
    Image.fromarray(mask.astype(np.uint16)).save(two / "masks" / "b.png")  # 1 of 65535 is inside, too
    assert evaluate(two, [heat]).rows[-1] == row


def test_images_that_fail_are_listed_and_the_others_measured(two):
    (two / "boxes.csv").write_text(
        "gone.png,dog,0,0,4,4\na.png,dog,0,0,4,4\nfails.png,dog,0,0,4,4\nb.png,dog,9,9,12,12\n"
        "large.png,dog,0,0,4,4\nodd.png,dog,0,0,4,4\nblack.png,dog,0,0,4,4\n"
    )
    save(two / "fails.png")
    save(two / "large.png", (9, 9))
    save(two / "odd.png")
    save(two / "masks" / "odd.png", (4, 4), (0, 0, 2, 2))
    save(two / "black.png")
    save(two / "masks" / "black.png")
    done: list[str] = []
    methods = [Fixed(name, {("a.png", 1): (0, 0, 4, 4)}) for name in ("one", "other")]
    result = evaluate(two, methods, load=partial(load_image, max_pixels=64), progress=done.append)
    assert (result.pictures, len(result.failed)) == (1, 6)
    assert {row.count for row in result.rows} == {1}
    assert [Path(path).stem for path in done] == ["gone", "a", "fails", "b", "large", "odd", "black"]


def test_no_measured_image_and_unknown_labels_are_errors(two):
    (two / "boxes.csv").write_text("gone.png,dog,0,0,4,4\n")
    with pytest.raises(UsageError, match="Nothing was measured"):
        evaluate(two, [Fixed("heat", {})])
    (two / "boxes.csv").write_text("a.png,dot,0,0,4,4\n")
    with pytest.raises(UsageError, match="they are 0 'cat', 1 'dog'"):
        evaluate(two, [Fixed("heat", {})])


def test_an_unknown_label_costs_its_image(two):
    (two / "boxes.csv").write_text("a.png,dog,0,0,4,4\nb.png,dot,0,0,4,4\n")
    result = evaluate(two, [Fixed("heat", {("a.png", 1): (0, 0, 4, 4)})])
    assert (result.pictures, result.rows[0].value) == (1, 1)
    ((path, reason),) = result.failed.items()
    assert (Path(path).name, reason.partition(";")[0]) == ("b.png", "'dot' is not among the labels")


def test_boxes_are_in_pixels_of_the_upright_image(tmp_path):
    stored = Image.new("RGB", (12, 6))  # EXIF rotates it: upright, it is 12 high and 6 wide
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "boxes.csv").write_text("a.jpg,dog,0,8,6,12\n")
    result = evaluate(tmp_path, [Fixed("heat", {("a.jpg", 1): (0, 8, 6, 12)})])
    assert values(result, "heat")["max_box_acc"] == 1


def test_labels_that_mean_one_class_share_its_heat(two):
    (two / "boxes.csv").write_text("a.png,dog,0,0,4,4\na.png,1,4,4,8,8\n")
    heat = Fixed("heat", {("a.png", 1): (0, 0, 4, 4)})
    assert values(evaluate(two, [heat]), "heat")["pointing"] == 0.5
    assert heat.requests == [("a.png", (1,))]


def test_without_a_label_the_predicted_class_is_measured(tmp_path):
    samples = Path(__file__).parents[1] / "samples"
    (tmp_path / "images").symlink_to(samples)
    (tmp_path / "boxes.csv").write_text("five.png,,0,0,9,9\nsevens.png,,0,0,9,9\n")
    heat = Fixed("heat", {("five.png", 5): (0, 0, 9, 9), ("sevens.png", 7): (0, 0, 9, 9)})
    evaluate_boxes(cam.load_classifier("digits"), read_boxes(tmp_path), [heat])
    assert heat.requests == [("five.png", (5,)), ("sevens.png", (7,))]


def test_the_tool_writes_scenes_that_can_be_read(tmp_path, monkeypatch):
    tool = Path(__file__).parents[1] / "tools" / "make_digit_scenes.py"
    for out, count in (("a", "4"), ("b", "6")):
        monkeypatch.setattr(sys, "argv", ["make_digit_scenes.py", str(tmp_path / out), "--count", count, "--seed", "3"])
        runpy.run_path(str(tool), run_name="__main__")
    annotations = read_boxes(tmp_path / "a")
    assert [str(item.picture.name) for item in annotations] == [f"000{number}.png" for number in range(4)]
    for item in annotations:
        height, width = read_image(item.picture.path).shape[:2]
        ((x0, y0, x1, y1),) = item.boxes
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert item.label in set("0123456789")
        assert item.picture.path.read_bytes() == (tmp_path / "b" / item.picture.name).read_bytes()
    with (tmp_path / "b" / "boxes.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6


@pytest.mark.parametrize("size", [(600, 400), (301, 1000), (2, 3000), (3000, 2)])
def test_boxes_of_large_and_thin_images_match_thinned_heat(tmp_path, size):
    height, width = size
    box = (width // 2, 0, width, height)
    (tmp_path / "boxes.csv").write_text("a.png,dog," + ",".join(map(str, box)))
    save(tmp_path / "a.png", size)
    result = evaluate(tmp_path, [Fixed("perfect", {("a.png", 1): box}), Fixed("wrong", {("a.png", 1): (0, 0, 1, 1)})])
    assert values(result, "perfect")["max_box_acc_v2"] == 1
    assert values(result, "wrong")["max_box_acc_v2"] < 1
