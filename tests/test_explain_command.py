"""`cam explain`: what it explains, what it prints and how it exits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from runs import CARD, SAMPLES, lines

import cam
from cam.drawing.colormaps import lookup
from cam.images.io import read_image

ANSWERS = json.loads((SAMPLES / "samples.json").read_text())["samples"]
Run = Callable[..., Result]


def explain(run: Run, tmp_path: Path, *arguments: object, name: str = "five.png") -> dict:
    """Explain one sample with the embedded model; returns its line of the manifest."""
    result = run("explain", SAMPLES / name, "-m", "digits", "-o", tmp_path / "out", "--device", "cpu", *arguments)
    assert result.exit_code == 0, result.output
    (record,) = lines(tmp_path / "out")
    return record


def test_samples_get_the_right_class_and_a_peak_in_a_box(run, tmp_path):
    result = run("explain", SAMPLES, "-m", "digits", "-o", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    records = {Path(record["path"]).name: record for record in lines(tmp_path)}
    assert records.keys() == ANSWERS.keys()
    for name, record in records.items():
        (target,) = record["targets"]
        assert target["class_idx"] in ANSWERS[name]["top"]
        y, x = target["peak"]
        assert any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in ANSWERS[name]["boxes"])
        assert target["completeness_error"] < 1e-4
        drawn = read_image(tmp_path / target["files"]["overlay"])
        height, width = record["size"]
        assert drawn.shape[0] > height
        assert drawn.shape[1] >= width
    table = result.stdout.splitlines()
    assert re.fullmatch(r"\s*image\s+class\s+probability\s+logit\s+peak \(y, x\)\s*", table[0])
    assert table[-1].startswith(f"{len(ANSWERS)} explained, 0 failed: ")


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        ([], [5]),
        (["top1"], [5]),
        (["TOP3"], 3),
        (["top99"], 10),
        (["7"], [7]),
        (["7", "0", "7"], [7, 0]),
        (["3", "top1"], [3, 5]),
    ],
)
def test_targets_select_classes(run, tmp_path, targets, classes):
    record = explain(run, tmp_path, *(part for target in targets for part in ("-t", target)))
    indices = [target["class_idx"] for target in record["targets"]]
    if isinstance(classes, list):
        assert indices == classes
    else:
        assert len(indices) == classes
        logits = [target["logit"] for target in record["targets"]]
        assert logits == sorted(logits, reverse=True)
        assert indices[0] == 5


def test_a_label_can_be_a_target(run, tmp_path):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    record = explain(run, tmp_path, "--labels", tmp_path / "names.txt", "-t", "Five", "-t", "six")
    assert [target["label"] for target in record["targets"]] == ["five", "six"]
    assert record["targets"][0]["files"]["overlay"] == "five.png.5-five.jpg"
    labels = "--labels", tmp_path / "names.txt"
    result = run("explain", SAMPLES, "-m", "digits", "-o", tmp_path / "b", *labels, "-t", "sevn")
    assert result.exit_code == 2
    assert "7 'seven'" in result.stderr
    assert not (tmp_path / "b").exists()


def test_heat_beyond_the_scale_has_the_colors_at_its_ends(run, tmp_path):
    explain(run, tmp_path, "--scale", "0.001", "--format", "png", "--opacity", "1", "--no-contours")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["scale"] == 0.001
    drawn = read_image(tmp_path / "out" / "five.png.5-5.png")
    drawn = drawn[: drawn.shape[1]]  # the photograph is square
    ends = lookup("signed")[[1, 255], :3]
    assert (drawn[:, :, None] == ends).all(-1).any(-1).mean() > 0.95


def test_the_photograph_may_also_be_called_grey(run, tmp_path):
    explain(run, tmp_path, "--photo", "grey")
    assert '"photo": "gray"' in (tmp_path / "out" / "run.json").read_text()
    first = (tmp_path / "out" / "five.png.5-5.jpg").read_bytes()
    explain(run, tmp_path, "--overwrite")
    assert (tmp_path / "out" / "five.png.5-5.jpg").read_bytes() == first


@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_fit_crops_or_shows_the_whole_image(run, tmp_path, fit):
    record = explain(run, tmp_path, "--fit", fit, "--save", "heat", name="seven-and-four.png")
    heat = np.load(tmp_path / "out" / record["targets"][0]["files"]["heat"])
    assert list(heat.shape) == record["size"]
    assert heat.shape[0] != heat.shape[1]
    assert np.isnan(heat).any() == (fit == "crop")
    expected = cam.explain(cam.load_classifier("digits", device="cpu"), SAMPLES / "seven-and-four.png", fit=fit)
    np.testing.assert_allclose(heat, expected.heat(), atol=1e-4)


@pytest.mark.parametrize("format_", ["jpg", "png", "webp"])
def test_overlays_have_the_chosen_format(run, tmp_path, format_):
    record = explain(run, tmp_path, "--format", format_, "--colormap", "viridis")
    assert record["targets"][0]["files"] == {"overlay": f"five.png.5-5.{format_}"}
    start = (tmp_path / "out" / f"five.png.5-5.{format_}").read_bytes()[:12]
    assert {"jpg": start[:3] == b"\xff\xd8\xff", "png": start[1:4] == b"PNG", "webp": start[8:] == b"WEBP"}[format_]


def test_json_prints_nothing_else(run, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(SAMPLES / "five.png", tmp_path / "in")
    (tmp_path / "in" / "bad.jpg").write_text("text")
    result = run("explain", tmp_path / "in", "-m", "digits", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert (summary["explained"], summary["failed"], summary["out"]) == (1, 1, str(tmp_path / "out"))
    assert list(summary["errors"]) == [str(tmp_path / "in" / "bad.jpg")]
    assert result.stderr == ""


def test_quiet_prints_nothing_but_errors(run, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "a", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    inputs = SAMPLES / "five.png", tmp_path / "bad.jpg"
    result = run("explain", *inputs, "-m", "digits", "-o", tmp_path / "b", "--quiet")
    assert (result.exit_code, result.stdout) == (3, "")
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["failed", str(tmp_path / "bad.jpg")]


def test_options_for_clips_without_a_clip_are_noted(run, tmp_path):
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out", "--every", "2", "--end", "9")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-2:] == ["--every: no input is a clip", "--end: no input is a clip"]
    assert run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out").exit_code == 0  # it goes on


@pytest.mark.parametrize(
    ("option", "name", "problem"),
    [
        ("--csv", "", "--csv '{}' is a folder. Give the name of a file."),
        ("--csv", "file/a.csv", "--csv: '{}' is a file, not a folder. Choose another folder."),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_run(run, tmp_path, option, name, problem):
    (tmp_path / "file").write_text("text")
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out", option, tmp_path / name)
    part = tmp_path / "file" if name else tmp_path
    assert (result.exit_code, result.output) == (2, f"Error: {problem.format(part)}\n")
    assert not (tmp_path / "out").exists()


def test_weights_and_no_weights_exclude_each_other(run, tmp_path):
    result = run(
        "explain", SAMPLES / "five.png", "-m", "resnet18", "--weights", "a.pth", "--no-weights", "-o", tmp_path
    )
    assert result.output.endswith("--weights 'a.pth' and --no-weights exclude each other. Leave one of them out.\n")


def test_several_classes_of_one_name_are_noted(run, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join("aabbcdefgh"))
    given = "-m", "digits", "--labels", tmp_path / "labels.txt", "-o", tmp_path / "out"
    assert "labels: several classes have the name 'a', 'b'\n" in run("explain", SAMPLES / "five.png", *given).stderr


def test_a_folder_is_no_table_of_true_classes(run, tmp_path):
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "--truth", tmp_path, "-o", tmp_path / "out")
    assert f"--truth '{tmp_path}' is a folder. Write --truth folder if" in result.output


def test_names_that_look_like_markup_are_printed_literally(run, tmp_path):
    name = "[red]a [link=x]b.png"
    shutil.copy(SAMPLES / "five.png", tmp_path / name)
    (tmp_path / "[bold]bad.png").write_text("text")
    result = run("explain", tmp_path / name, tmp_path / "[bold]bad.png", "-m", "digits", "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert name in result.stdout.replace("\n", "")
    assert "[bold]bad.png" in result.stderr


def test_the_table_has_twenty_rows_at_most(run, tmp_path):
    result = run("explain", SAMPLES, "-m", "digits", "-o", tmp_path, "-t", "top3")
    rows = 3 * len(ANSWERS)
    assert f"... and {rows - 20} more in {tmp_path / 'manifest.jsonl'}" in result.stdout


@pytest.mark.parametrize(
    ("bad", "good", "status"), [(0, 2, 0), (1, 1, 3), (2, 0, 1)], ids=["all good", "some bad", "none good"]
)
def test_exit_status(run, tmp_path, bad, good, status):
    (tmp_path / "in").mkdir()
    for number in range(bad):
        (tmp_path / "in" / f"bad{number}.jpg").write_text("text")
    for number in range(good):
        shutil.copy(SAMPLES / "five.png", tmp_path / "in" / f"good{number}.png")
    result = run("explain", tmp_path / "in", "-m", "digits", "-o", tmp_path / "out")
    assert result.exit_code == status
    assert result.stdout.rstrip().endswith(f"{good} explained, {bad} failed: {tmp_path / 'out'}")
    assert len(lines(tmp_path / "out")) == 2


def test_a_different_run_needs_overwrite(run, tmp_path):
    explain(run, tmp_path, "--save", "overlay,cam")
    (tmp_path / "out" / "notes.txt").write_text("notes")
    again = "explain", SAMPLES / "sevens.png", "-m", "digits", "-o", tmp_path / "out"
    refused = run(*again)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "out" / "five.png.5-5.npz").exists()
    assert run(*again, "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "notes"
    assert (tmp_path / "out" / "sevens.png.7-7.jpg").exists()
    assert [Path(record["path"]).name for record in lines(tmp_path / "out")] == ["sevens.png"]


def test_run_json_holds_the_arguments(run, tmp_path):
    explain(run, tmp_path, "--batch-size", "3", "-t", "top2")
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["arguments"]["batch-size"] == 3
    assert about["arguments"]["target"] == ["top2"]
    assert about["arguments"]["save"] == ["overlay"]
    assert about["arguments"]["method"] is None
    assert "exact-only" not in about["arguments"]
    assert about["arguments"]["inputs"] == [str(SAMPLES / "five.png")]
    assert about["model"] == "digits"
    assert about["weights"]["sha256"] == CARD["sha256"]


def test_input_size_mean_and_std_change_the_preprocessing(run, tmp_path):
    explain(run, tmp_path, "--input-size", "64", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.2")
    used = json.loads((tmp_path / "out" / "run.json").read_text())["preprocessing"]
    assert (used["crop"], used["mean"], used["std"]) == ([64, 64], [0.4, 0.5, 0.6], [0.2, 0.2, 0.2])
