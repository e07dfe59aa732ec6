"""`cam invariance` on the command line, and networks without an exact map."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import FIVE

from cam.classifiers.checkpoints import hash_file
from cam.classifiers.load import load_classifier, load_network
from cam.errors import UsageError
from cam.images.io import read_image, write_image
from cam.invariance.demo.training import HEADS, NETWORKS
from cam.invariance.figures import FIGURES
from cam.invariance.measure import ScoreOnlyClassifier, load_any_classifier, score_images
from cam.tensors import hash_tensors
from cam.version import VERSION

FACTORY = """
import torch
from torch import nn

def flat(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8 * 8, classes))

def one():
    return flat(1)
"""


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "flattening.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "flattening", raising=False)
    return "flattening:flat"


def test_any_network_can_be_loaded(flat: str) -> None:
    model = load_any_classifier(flat, input_size=32, device="cpu")
    assert isinstance(model, ScoreOnlyClassifier)
    assert model.labels == ("class 0", "class 1", "class 2")
    assert "no exact class activation map (not-gap)" in model.reason
    with pytest.raises(UsageError, match="2 labels for the 3 classes"):
        load_any_classifier(flat, input_size=32, labels=["a", "b"], device="cpu")
    one = load_any_classifier("flattening:one", input_size=32, device="cpu")
    assert one.labels == ("negative", "positive")
    (scores,) = score_images(one, [np.full((32, 32, 3), 90, np.uint8)])
    assert scores.logits[0] == -scores.logits[1] != 0
    assert scores.probabilities.sum() == pytest.approx(1)


def test_the_command_writes_figures_and_numbers(run, tmp_path):
    out = tmp_path / "out"
    result = run("invariance", FIVE, "-m", "digits", "-o", out, "--steps", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "digits, '5': 72x72 pixels (WxH) at 4 positions on a canvas of 144x144" in result.output
    assert "map shifted back after a shift by one stride: differs by 0.00% down" in result.output
    assert {path.name for path in out.iterdir()} == {*FIGURES, "invariance.json"}
    result_json = json.loads((out / "invariance.json").read_text())
    assert result_json["label"] == "5"
    assert np.shape(result_json["by_position"]["peak_points"]) == (2, 2, 2)
    assert result_json["peak"]["deviation"]["mean"] < 4  # one stride
    assert result_json["shift_by_one_stride"]["down"] < 0.01
    made_with, digits = result_json["made_with"], load_classifier("digits", device="cpu")
    assert made_with["weights"]["tensors_sha256"] == hash_tensors(digits.network.state_dict())
    assert made_with["weights"]["sha256"] == hash_file(digits.weights)
    assert (made_with["model"], made_with["head"]["kind"]) == ("digits", "gap-linear")
    assert made_with["versions"]["gapcam"] == VERSION
    assert (made_with["arguments"]["steps"], made_with["arguments"]["picture"]) == (2, str(FIVE))


def test_the_command_moves_an_object(run, tmp_path):
    arguments = ("-m", "digits", "-o", tmp_path / "out", "--steps", 2, "-t", 5, "--json")
    boxed = run("invariance", FIVE, *arguments, "--box", "80,40,240,240", "--canvas", "100x80", "--fill", "9,9,9")
    assert boxed.exit_code == 0, boxed.output
    facts = json.loads(boxed.output)
    assert (facts["object"], facts["canvas"], facts["fill"]) == ([50, 40], [80, 100], [9, 9, 9])
    mask = np.zeros(read_image(FIVE).shape, np.uint8)
    mask[40:160, 120:240] = 255
    write_image(tmp_path / "mask.png", mask)
    masked = run("invariance", FIVE, *arguments, "--mask", tmp_path / "mask.png", "--fill", "blur")
    assert masked.exit_code == 0, masked.output
    assert json.loads(masked.output)["object"] == [30, 30]


def test_the_command_measures_a_flattening_network(run, tmp_path, flat):
    arguments = ("--input-size", 32, "--steps", 2, "--device", "cpu")
    result = run("invariance", FIVE, "-m", flat, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    assert "has no exact class activation map (not-gap)" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FIGURES[:2], "invariance.json"}
    result_json = json.loads((tmp_path / "out" / "invariance.json").read_text())
    network = load_any_classifier(flat, input_size=32, device="cpu").network
    assert result_json["made_with"]["weights"] == {
        "file": None, "sha256": None, "tensors_sha256": hash_tensors(network.state_dict())
    }  # fmt: skip
    assert "head" not in result_json["made_with"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--box", "1,2,3"), "--box must be x0,y0,x1,y1 in pixels"),
        (("--canvas", "big"), "--canvas must be a side in pixels such as 448"),
        (("--fill", "noise"), "--fill must be mean, blur, reflect or a color"),
        (("--mask", FIVE, "--box", "0,0,9,9"), "--box and --mask"),
        (("-t", "zebra"), "zebra"),
        (("--steps", 1), "--steps must be a whole number of 2 or more"),
        (("--canvas", 72), "got 72x72"),
        (("--mask", FIVE.parent), "is a folder, not an image"),
        (("--mask", FIVE.with_name("nowhere.png")), "nowhere.png"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(run, tmp_path, arguments, sentence):
    result = run("invariance", FIVE, "-m", "digits", "-o", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


def test_notes_mention_random_weights_and_the_object(run, tmp_path):
    result = run("invariance", FIVE, "-m", "digits", "--no-weights", "-o", tmp_path, "--steps", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "The weights are random (--no-weights): the predicted class means nothing." in result.output
    first, _ = json.loads((tmp_path / "invariance.json").read_text())["notes"]
    assert first.startswith("The object is the whole image")


def test_the_demonstration_reports_the_documented_accuracies(run, tmp_path):
    result = run("invariance", "--demo", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "position-gap: 95.2 % right in the half it saw, 94.0 % in the other; 70,618 parameters; " in result.output
    assert "after few scenes 100.0 % of them, 78.6 % of others" in result.output
    for name in ("accuracy-by-place.png", "accuracy.png", "unseen-heat.png", "why.png"):
        assert min(read_image(tmp_path / name).shape[:2]) > 200
    facts = json.loads((tmp_path / "demo.json").read_text())
    assert "position-flatten: a 5 moved to the half it never saw: logit 11.53 before, -2.15 after" in result.output
    assert facts["moved_digit"]["heads"]["position-gap"]["predicted"] == [5, 5]
    assert facts["peak_in_box_unseen"][0] > 0.7
    assert facts["versions"]["torch"]
    by_name = {network["name"]: network for network in facts["networks"]}
    assert list(by_name) == list(NETWORKS)
    assert by_name["position-gap"]["head_parameters"] == 650
    for name in ("position-flatten", "position-flatten-mlp"):
        assert by_name[name]["seen"][0] >= 0.85
        assert by_name[name]["unseen"][0] <= 0.2
    network = load_network("position-flatten").network
    assert by_name["position-flatten"]["tensors_sha256"] == hash_tensors(network.state_dict())
    accuracies = [by_name[name]["small_set_accuracy"] for name in HEADS]
    gaps = [accuracy["train"] - accuracy["test"] for accuracy in accuracies]
    assert gaps[0] == min(gaps) > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give one image to move, or --demo"),
        ((FIVE, "--demo"), "Give one image to move, or --demo"),
        ((FIVE, "--train"), "--train is for the networks of --demo"),
        (("--demo", "-m", "vgg16", "--steps", 3), "--demo has its own networks and images. Remove --model, --steps"),
    ],
)
def test_the_command_takes_either_an_image_or_the_demonstration(run, tmp_path, arguments, words):
    result = run("invariance", *arguments, "-o", tmp_path)
    assert result.exit_code == 2
    assert words in result.output
