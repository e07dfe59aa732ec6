"""`cam explain` with other kinds of evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import cam
from cam.explanations import explanation
from cam.images.io import encode, read_image

PHOTO = Path(__file__).parents[1] / "samples" / "seven-and-four.png"

Run = Callable[..., Result]


def explained(run: Run, tmp_path: Path, *arguments: object) -> list[dict]:
    out = tmp_path / "out"
    result = run("explain", PHOTO, "-m", "digits", "-o", out, "--format", "png", "--overwrite", *arguments)
    assert result.exit_code == 0, result.output
    (line,) = (out / "manifest.jsonl").read_text().splitlines()
    return json.loads(line)["targets"]


@pytest.fixture(scope="module")
def digits() -> cam.Classifier:
    return cam.load_classifier("digits")


def test_a_contrast_is_the_margin_of_two_classes(run, tmp_path, digits):
    (target,) = explained(run, tmp_path, "--evidence", "contrast", "-t", "7", "--against", "4", "--save", "cam")
    seven, four = (cam.explain(digits, PHOTO, class_idx) for class_idx in (7, 4))
    expected = {"class_idx": 4, "label": "4", "logit": four.logit, "bias": four.bias, "map_logit": four.logit}
    assert target["against"] == {**expected, "logit": pytest.approx(four.logit), "map_logit": pytest.approx(four.logit)}
    assert target["margin"] == pytest.approx(seven.logit - four.logit, abs=1e-4)
    assert target["completeness_error"] <= 1e-5
    with np.load(tmp_path / "out" / target["files"]["cam"]) as saved:
        np.testing.assert_allclose(saved["evidence_map"], seven.cam - four.cam, atol=1e-4)
        np.testing.assert_allclose(saved["cam"], seven.cam, atol=1e-4)
        assert str(saved["evidence"]) == "contrast"


def test_a_contrast_prints_its_margin(run, tmp_path):
    arguments = "-m", "digits", "--evidence", "contrast", "-t", "7", "--against", "4", "-o", tmp_path / "out"
    shown = run("explain", PHOTO, *arguments).stdout.split()
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert shown[shown.index("margin") + 1] == f"{json.loads(line)['targets'][0]['margin']:+.2f}"


def test_the_runner_up_is_the_default_of_against(run, tmp_path, digits):
    (plain,) = explained(run, tmp_path, "--evidence", "contrast")
    (named,) = explained(run, tmp_path, "--evidence", "contrast", "--against", "Runner-up")
    assert plain == named
    best = [explanation["class_idx"] for explanation in explained(run, tmp_path, "-t", "top2")]
    assert [plain["class_idx"], plain["against"]["class_idx"]] == best


@pytest.mark.parametrize("kind", ["margin", "posterior"])
def test_other_kinds_are_drawn_as_the_library_draws_them(run, tmp_path, digits, kind):
    (target,) = explained(run, tmp_path, "--evidence", kind, "-t", "7", "--scale", "image")
    explanation = cam.explain(digits, PHOTO, 7, evidence=kind)
    assert target["evidence"] == kind
    assert tuple(target["peak"]) == explanation.peak
    assert (read_image(tmp_path / "out" / target["files"]["overlay"]) == explanation.overlay(legend=True)).all()


def test_probabilities_are_drawn_from_zero_to_one(run, tmp_path, digits):
    (target,) = explained(run, tmp_path, "--evidence", "posterior", "-t", "9")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["scale"] == 1
    explanation = cam.explain(digits, PHOTO, 9, evidence="posterior")
    expected = explanation.overlay(vmax=1, legend=True)
    assert (read_image(tmp_path / "out" / target["files"]["overlay"]) == expected).all()


def test_boxes_are_always_in_the_manifest_and_drawn_with_boxes(run, tmp_path, digits):
    (plain,) = explained(run, tmp_path, "-t", "7")
    without = read_image(tmp_path / "out" / plain["files"]["overlay"])
    (boxed,) = explained(run, tmp_path, "-t", "7", "--boxes", "--box-share", "0.5")
    drawn = read_image(tmp_path / "out" / boxed["files"]["overlay"])
    explanation = cam.explain(digits, PHOTO, 7)
    assert [tuple(box) for box in plain["boxes"]] == explanation.boxes(0.2)
    assert [tuple(box) for box in boxed["boxes"]] == explanation.boxes(0.5)
    x0, y0, _, _ = boxed["boxes"][0]
    assert drawn[y0, x0].tolist() == [255, 255, 255]
    assert (drawn != without).any()


def test_a_finer_map_records_its_input_and_logit(run, tmp_path, digits):
    (own,) = explained(run, tmp_path)
    (finer,) = explained(run, tmp_path, "--resolution", "1.5x")
    (pixels,) = explained(run, tmp_path, "--resolution", "108")
    (averaged,) = explained(run, tmp_path, "--tta")
    assert finer == pixels
    assert finer["map_input"] == [round(1.5 * side) for side in own["map_input"]]
    assert averaged["map_input"] == [2 * side for side in own["map_input"]]
    assert finer["logit"] == averaged["logit"] == own["logit"] == own["map_logit"] != finer["map_logit"]
    for target in (finer, averaged):
        assert target["completeness_error"] <= 1e-5


def test_a_legend_shows_the_logits_of_two_inputs(run, tmp_path, monkeypatch):
    notes = []
    plain = explanation.make_legend

    def make_legend(*args, **kwargs):
        notes.append(" ".join(kwargs["notes"]))
        return plain(*args, **kwargs)

    monkeypatch.setattr(explanation, "make_legend", make_legend)
    (own,), (finer,) = explained(run, tmp_path), explained(run, tmp_path, "--resolution", "108")
    assert notes[0].startswith(f"logit {own['map_logit']:.2f} = mean of the map")
    assert notes[1].startswith(f"at other inputs: logit {finer['map_logit']:.2f} = mean of the map")
    assert "input" not in notes[0]
    assert "{} x {} input".format(*finer["map_input"]) in notes[1]


def test_channels_are_drawn_on_one_scale(run, tmp_path, digits):
    (target,) = explained(run, tmp_path, "-t", "7", "--channels", "3")
    explanation = cam.explain(digits, PHOTO, 7, channels=3)
    assert [part["channel"] for part in target["channels"]] == [channel.index for channel in explanation.channels]
    vmaxes = [channel.vmax for channel in explanation.channels]
    assert min(vmaxes) < max(vmaxes)
    for channel in explanation.channels:
        name = target["files"][f"channel-{channel.index}"]
        expected = explanation.overlay(channel=channel, vmax=max(vmaxes), legend=True)
        assert (tmp_path / "out" / name).read_bytes() == encode(expected, ".png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--against", "4"), "--against sets one class against another"),
        (("--evidence", "contrast", "--against", "top2"), "a class index or a label, got 'top2'"),
        (("--evidence", "contrast", "--against", "zebra"), "--against 'zebra' is not among the labels"),
        (("--resolution", "0"), "--resolution must be from 1 to 4096 pixels, got 0"),
        (("--resolution", "9999x"), "--resolution must be from 1 to 4096 pixels"),
        (("--resolution", "large"), "--resolution must be pixels such as 448, or a factor such as 2x"),
        (("--box-share", "1"), "--box-share must be between 0 and 1, got 1.0"),
        (("--evidence", "magic"), "magic"),
    ],
)
def test_wrong_options_are_errors(run, tmp_path, arguments, words):
    result = run("explain", PHOTO, "-m", "digits", "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
