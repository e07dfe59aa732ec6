"""Why the predicted class and not the expected one: the contrast, where it comes from, and its JSON."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import CARD, DIGITS, SAMPLES, lines

import cam
from cam.classifiers.provenance import versions
from cam.errors import UsageError
from cam.explanations.options import ExplainOptions, parse_class
from cam.maps.boxes import half_boxes
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import cell_positions

PHOTO = SAMPLES / "seven-and-four.png"
FOUR = Grid((1.5, 1.5), (4, 4), "stretched")  # cells of 4 x 4 pixels
TWICE = Frame((24, 32), (12, 16), (0, 0), (12, 16))  # 8 x 8 in the photograph


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        # 5 + 4 of 13: two groups.
        ([[5, 0, 0, 1], [0, 3, 0, 0], [-9, 0, 0, 4]], [((0, 0, 8, 8), 5 / 13), ((24, 16, 32, 24), 4 / 13)]),
        # 3 + 2 + 2 of 12, of equal ones the first; two touch at a corner.
        ([[2, 0, 0, 0], [0, 2, 0, 3], [1, 0, 2, 2]], [((0, 0, 16, 16), 4 / 12), ((24, 8, 32, 16), 3 / 12)]),
        ([[2, 0, 0, 3], [0, 2, 0, 0], [0, 0, 0, 0]], [((0, 0, 8, 8), 2 / 7), ((24, 0, 32, 8), 3 / 7)][::-1]),
        ([[1, 1, 1, 1], [0, 0, 0, 0], [-5, 0, 0, 0]], [((0, 0, 16, 8), 0.5)]),  # exactly half, of equal ones the first
        ([[-1, 0, 0, 0], [0, 0, 0, -2], [0, 0, 0, 0]], []),
    ],
)
def test_half_of_the_evidence_by_hand(cells, expected):
    boxes = half_boxes(np.array(cells, np.float32), FOUR, TWICE)
    assert [box for box, _ in boxes] == [box for box, _ in expected]
    assert [share for _, share in boxes] == pytest.approx([share for _, share in expected])


@pytest.mark.parametrize(
    ("frame", "grid", "hot", "expected"),
    [
        (Frame((16, 24), (8, 12), (0, 2), (8, 8)), FOUR, (0, 0), (4, 0, 12, 8)),  # a center crop
        (Frame((16, 24), (8, 12), (0, 2), (8, 8)), FOUR, (1, 1), (12, 8, 20, 16)),
        (Frame((8, 8), (8, 8), (0, 0), (8, 8)), Grid((-0.5, -0.5), (4, 4), "measured"), (0, 0), (0, 0, 2, 2)),
        (Frame((4, 4), (4, 4), (0, -4), (4, 8)), FOUR, (0, 0), None),  # in the padding
        (Frame((4, 4), (4, 4), (0, -4), (4, 8)), FOUR, (0, 1), (0, 0, 4, 4)),
    ],
)
def test_boxes_of_cells_lie_on_the_photograph(frame, grid, hot, expected):
    cells = np.zeros((2, 2))
    cells[hot] = 1
    assert half_boxes(cells, grid, frame) == ([(expected, 1.0)] if expected else [])


@pytest.fixture(scope="module")
def digits() -> cam.Classifier:
    return cam.load_classifier("digits", device="cpu")


def test_one_surprising_prediction(run, tmp_path, digits):
    result = run("explain", PHOTO, *DIGITS, "-o", tmp_path / "out", "--expect", "4", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert facts["images"] == lines(tmp_path / "out")
    (image,) = facts["images"]
    (target,) = image["targets"]
    seven, four = (cam.explain(digits, PHOTO, label) for label in ("7", "4"))
    assert image["predicted"] == {"class_idx": 7, "label": "7"}
    assert (target["label"], target["against"]["label"], target["evidence"]) == ("7", "4", "contrast")
    assert target["margin"] == pytest.approx(seven.logit - four.logit, abs=1e-4)
    contrast = (seven.cam - four.cam).astype(np.float64)
    ranked = np.sort(contrast[contrast > 0])[::-1]
    count = int((ranked.cumsum() < ranked.sum() / 2).sum()) + 1
    shares = [part["share"] for part in target["where"]]
    assert sum(shares) == pytest.approx(ranked[:count].sum() / ranked.sum(), abs=1e-4)
    assert shares == sorted(shares, reverse=True)
    ys, xs = cell_positions(contrast.shape, seven.grid, seven.frame)
    boxes = [part["box"] for part in target["where"]]
    for row, column in np.argwhere(contrast >= ranked[count - 1] * 1.001):  # the center of each cell is in a box
        assert any(x0 <= xs[column] < x1 and y0 <= ys[row] < y1 for x0, y0, x1, y1 in boxes)
    margin = contrast.mean() + target["bias"] - target["against"]["bias"]
    assert margin == pytest.approx(target["margin"], abs=1e-4)
    assert Path(facts["out"], target["files"]["overlay"]).is_file()
    assert facts["manifest"] == str(tmp_path / "out" / "manifest.jsonl")
    assert (facts["model"], facts["activation"], facts["head"]["kind"]) == ("digits", "softmax", "gap-linear")
    assert facts["weights"]["sha256"] == CARD["sha256"]
    assert facts["preprocessing"]["mean"] == CARD["preprocessing"]["mean"]
    assert facts["versions"] == versions()
    assert any(note.startswith("input 72x72") for note in facts["notes"])


def test_what_is_predicted_as_expected_is_contrasted_with_the_runner_up(run, tmp_path):
    photos = tmp_path / "in"
    photos.mkdir()
    for name in ("five.png", "sevens.png"):
        shutil.copy(SAMPLES / name, photos)
    assert run("explain", photos, *DIGITS, "-o", tmp_path / "out", "--expect", "7").exit_code == 0
    five, sevens = (line["targets"][0] for line in lines(tmp_path / "out"))
    assert (five["label"], five["against"]["label"]) == ("5", "7")
    assert run("explain", photos, *DIGITS, "-o", tmp_path / "plain", "--evidence", "contrast").exit_code == 0
    assert lines(tmp_path / "plain")[1]["targets"][0] == sevens
    assert sevens["label"] == "7" != sevens["against"]["label"]


def test_a_class_that_was_expected_of_others_than_the_prediction(digits):
    from cam.explanations.explain import explain_images
    from cam.explanations.options import OneClass
    from cam.images.io import read_image

    options = ExplainOptions("contrast", expect=4)
    (result,) = explain_images(digits, [read_image(PHOTO)], [[OneClass(4), OneClass(0)]], options)
    assert [(e.label, e.against.label) for e in result.explanations] == [("4", "7"), ("0", "4")]


def test_an_expectation_that_is_met_is_said(run, tmp_path):
    inputs = PHOTO, SAMPLES / "five.png"
    for expected, line in (
        ("7", "predicted as expected: 1 of 2; there the map is over the runner-up"),
        ("3", "predicted as expected: 0 of 2"),
    ):
        out = tmp_path / expected
        shown = run("explain", *inputs, *DIGITS, "-o", out, "--expect", expected).stdout.splitlines()
        assert shown[-2:] == [line, f"2 explained, 0 failed: {out}"]
    assert [line["targets"][0]["against"]["label"] for line in lines(tmp_path / "7")] == ["4", "7"]  # in their order
    assert "expected" not in run("explain", *inputs, *DIGITS, "-o", tmp_path / "plain").stdout


@pytest.mark.parametrize("more", [("--target", "3"), ("--against", "3"), ("--evidence", "margin")])
def test_expecting_a_class_leaves_no_choice(run, tmp_path, more):
    result = run("explain", PHOTO, *DIGITS, "-o", tmp_path / "out", "--expect", "4", *more)
    assert result.exit_code == 2
    assert "Leave out --target, --against and --evidence." in result.stderr


def test_an_expected_class_is_one_of_the_labels(run, tmp_path):
    result = run("explain", PHOTO, *DIGITS, "-o", tmp_path / "out", "--expect", "four")
    assert result.exit_code == 2
    assert "--expect 'four' is not among the labels; they are 0 '0'" in result.stderr
    with pytest.raises(UsageError, match="--expect must be a class index or a label, got 'top2'"):
        parse_class("top2", digits, "--expect")


def test_the_page_for_agents_explains_every_field(run, tmp_path):
    """Its three tables have the keys of a run, of its images and of their classes, each once."""
    (tmp_path / "4").mkdir()
    shutil.copy(PHOTO, tmp_path / "4")
    options = "--expect", "4", "--channels", 1, "--report", "--truth", "folder", "--json"
    facts = json.loads(run("explain", tmp_path / "4", *DIGITS, "-o", tmp_path / "out", *options).stdout)
    image = facts["images"][0]
    page = (SAMPLES.parent / "docs" / "agents.md").read_text("utf-8")
    for title, keys in (("run", facts), ("image", image), ("class", image["targets"][0])):
        (table,) = re.findall(rf"^\| Of an? {title} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", page, re.MULTILINE)
        named = [name for row in table.splitlines() for name in re.findall("`(.+?)`", row.split("|")[1])]
        assert sorted({*named} - {"clip", "mean_logit", "mean_probability"}) == sorted(keys)  # these are of clips
        assert len(named) == len(set(named))
    assert all(f"`{name}`" in page for name in facts["truth"])


def test_json_has_the_records_of_the_first_twenty_images(run, tmp_path):
    photos = tmp_path / "in"
    photos.mkdir()
    for number in range(22):
        shutil.copy(SAMPLES / "five.png", photos / f"{number}.png")
    facts = json.loads(run("explain", photos, *DIGITS, "-o", tmp_path / "out", "--max-side", 64, "--json").stdout)
    assert [image["name"] for image in facts["images"]] == [f"{number}.png" for number in range(20)]
    assert facts["explained"] == 22
