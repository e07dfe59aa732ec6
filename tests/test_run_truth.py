"""True classes in a run: what each line says of them, the accuracy, and explanations of the true class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runs import DIGITS, SAMPLES, lines

import cam

LABELED = {"5/five.png": "five.png", "8/sevens.png": "sevens.png", "ten/five.png": "five.png"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A right, a wrong and an unknown folder, and a broken file of a known class."""
    for place, name in LABELED.items():
        (tmp_path / "in" / place).parent.mkdir(parents=True)
        shutil.copy(SAMPLES / name, tmp_path / "in" / place)
    (tmp_path / "in" / "5" / "bad.png").write_text("text")
    return tmp_path / "in"


def truths(out: Path) -> dict[str, tuple[int | None, bool | None]]:
    named = {line["name"]: (line["truth"], line["correct"]) for line in lines(out)}
    assert all(truth is None or truth["label"] == str(truth["class_idx"]) for truth, _ in named.values())
    return {name: (truth and truth["class_idx"], correct) for name, (truth, correct) in named.items()}


def test_every_line_says_its_true_class_and_the_run_its_accuracy(run, photos, tmp_path):
    arguments = "explain", photos, *DIGITS, "-o", tmp_path / "out", "--truth", "folder", "-t", "3"
    result = run(*arguments)
    assert result.exit_code == 3
    expected = {
        "5/bad.png": (5, None),
        "5/five.png": (5, True),
        "8/sevens.png": (8, False),
        "ten/five.png": (None, None),
    }
    assert truths(tmp_path / "out") == expected
    predicted = [line["predicted"] for line in lines(tmp_path / "out")]  # not the target, which is 3
    assert predicted == [None, *({"class_idx": c, "label": str(c)} for c in (5, 7, 5))]
    assert "\naccuracy 50.0 % of 2 images with a known class\n" in result.stdout
    assert "\n1 image has no truth, as these labels mean no class or several: 'ten' 1\n" in result.stdout
    truth = {"images": 2, "correct": 1, "accuracy": 0.5, "unmatched": {"ten": 1}}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["truth"] == truth
    again = json.loads(run(*arguments, "--json").stdout)
    assert (again["truth"], again["earlier"]) == (truth, 3)


def test_lines_of_an_earlier_run_get_the_truth_of_this_one(run, photos, tmp_path):
    arguments = "explain", photos, *DIGITS, "-o", tmp_path / "out"
    assert run(*arguments).exit_code == 3
    assert set(truths(tmp_path / "out").values()) == {(None, None)}
    (tmp_path / "labels.csv").write_text("8/sevens.png,7\nten/five.png,6\n")
    result = json.loads(run(*arguments, "--truth", tmp_path / "labels.csv", "--json").stdout)
    assert (result["earlier"], result["truth"]["accuracy"]) == (3, 0.5)
    assert list(truths(tmp_path / "out").values()) == [(None, None), (None, None), (7, True), (6, False)]
    assert run(*arguments).exit_code == 3
    assert set(truths(tmp_path / "out").values()) == {(None, None)}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["truth"] is None


def test_parts_have_truth_and_their_whole_the_accuracy_of_all(run, photos, tmp_path):
    arguments = "explain", photos, *DIGITS, "--truth", "folder", "--report", "--shard"
    for number in (1, 2):
        assert run(*arguments, f"{number}/2", "-o", tmp_path / f"{number}").exit_code in (0, 1, 3)
    merged = run("merge", tmp_path / "1", tmp_path / "2")
    assert (merged.exit_code, merged.stdout) == (0, f"{tmp_path / '1' / 'manifest.jsonl'}\n")
    run(*arguments[:-1], "-o", tmp_path / "whole")
    assert truths(tmp_path / "1") == truths(tmp_path / "whole")
    whole = {"images": 2, "correct": 1, "accuracy": 0.5, "unmatched": {"ten": 1}}
    assert json.loads((tmp_path / "1" / "run.json").read_text())["truth"] == whole


def test_the_true_class_can_be_the_target(run, photos, tmp_path):
    arguments = "explain", photos, *DIGITS, "-o", tmp_path / "out", "-t", "truth", "-t", "0"
    assert "--target truth needs the true classes. Add --truth folder" in run(*arguments).stderr
    assert run(*arguments, "--truth", "folder").exit_code == 3
    bad, five, sevens, unknown = lines(tmp_path / "out")
    assert [[target["class_idx"] for target in line["targets"]] for line in (five, sevens)] == [[5, 0], [8, 0]]
    assert sevens["targets"][0]["logit"] == pytest.approx(
        cam.explain(cam.load_classifier("digits"), sevens["path"], 8).logit, abs=1e-3
    )
    assert bad["error"].startswith(f"{bad['path']!r} is not an image")
    path = str(photos / "ten" / "five.png")
    reason = f"The true class of {path!r}, which is its --target, is not known. Give it a class in --truth."
    assert unknown["error"] == reason
    (tmp_path / "labels.csv").write_text("5/five.png,5\nsevens.png,7\n")
    result = json.loads(run(*arguments, "--truth", tmp_path / "labels.csv", "--json").stdout)
    assert (result["explained"], result["earlier"]) == (2, 1)  # the other has another true class
    assert [line["targets"][0]["class_idx"] for line in lines(tmp_path / "out")[1:3]] == [5, 7]


def test_a_label_of_the_model_comes_before_the_true_class(run, photos, tmp_path):
    labels = ["zero", "one", "truth", *"3456789"]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    run("explain", photos, *DIGITS, "--labels", tmp_path / "labels.txt", "-o", tmp_path / "out", "-t", "truth")
    assert lines(tmp_path / "out")[1]["targets"][0]["class_idx"] == 2
