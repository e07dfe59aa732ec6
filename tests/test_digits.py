"""The embedded model keeps its promises: its card, its accuracy, where its maps peak, and the shipped samples."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cam.invariance.demo.scenes import Scene
from cam.networks.cifar_resnet import CifarResNet

ROOT = Path(__file__).resolve().parent.parent
MODELS, SAMPLES = ROOT / "models", ROOT / "samples"
EXPECTED = json.loads((SAMPLES / "samples.json").read_text())["samples"]
TRAINING = runpy.run_path(str(ROOT / "tools" / "train_digits.py"))
CARD = json.loads((MODELS / "digits.json").read_text())


@pytest.fixture(scope="module")
def digits() -> CifarResNet:
    network = CifarResNet(**CARD["arguments"]).eval().requires_grad_(False)
    network.load_state_dict(load_file(MODELS / CARD["weights"]), strict=True)
    return network


def sample(name: str) -> Scene:
    """A shipped sample at the size of the card, its shorter side resized."""
    expected = EXPECTED[name]
    with Image.open(SAMPLES / name) as picture:
        scale = CARD["preprocessing"]["resize"] / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        image = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return Scene(
        image, np.array(expected["boxes"]) * scale, np.array(expected["classes"]), np.zeros(image.shape[:2], bool)
    )


def test_the_card_belongs_to_the_weights_and_to_the_script():
    weights = (MODELS / CARD["weights"]).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == CARD["sha256"]
    assert len(weights) <= 1.5e6
    assert CARD["arguments"] == TRAINING["ARGUMENTS"]
    assert CARD["preprocessing"]["resize"] == TRAINING["SHORTER_SIDE"]
    assert CARD["preprocessing"]["mean"] == [TRAINING["MEAN"]] * 3
    assert CARD["preprocessing"]["std"] == [TRAINING["STD"]] * 3


def assert_promised(figures: dict[str, float]) -> None:
    assert min(figures["accuracy"], figures["quiet_accuracy"]) >= 0.97
    assert figures["peak_in_box"] >= 0.95
    assert figures["two_digits_peak_on_own"] >= 0.90


def test_the_weights_reach_the_figures_of_the_card_on_new_scenes(digits):
    assert_promised(CARD["figures"])
    assert CARD["figures"]["minutes"] <= 15
    assert_promised(TRAINING["evaluate"](digits, "test", scenes=600, seed=2))


def test_an_untrained_network_recognizes_nothing():
    torch.manual_seed(0)
    figures = TRAINING["evaluate"](CifarResNet(**CARD["arguments"]).eval(), "validation", scenes=90, seed=2)
    assert figures["accuracy"] < 0.3
    assert figures["quiet_accuracy"] < 0.3
    assert figures["two_digits_peak_on_own"] < 0.5


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_known_class_of_a_sample_scores_highest_and_its_maps_peak_on_its_digits(digits, name):
    scene = sample(name)
    predicted, cams = TRAINING["predict"](digits, [scene])
    scores = cams[0].mean((1, 2)) + digits.linear.bias
    top = EXPECTED[name]["top"]
    assert sorted(scores.argsort(descending=True)[: len(top)].tolist()) == top
    assert int(predicted) in top
    for class_idx in top:
        boxes = np.flatnonzero(scene.classes == class_idx)
        assert any(TRAINING["peak_in_box"](cams[0, class_idx], scene, box) for box in boxes)


def test_the_samples_are_what_their_script_composes():
    script = runpy.run_path(str(ROOT / "tools" / "make_samples.py"))
    assert sorted(script["SAMPLES"]) == sorted(EXPECTED) == sorted(path.name for path in SAMPLES.glob("*.png"))
    for name, recipe in script["SAMPLES"].items():
        scene = script["scene_of"](recipe)
        assert scene.boxes.tolist() == EXPECTED[name]["boxes"]
        assert np.abs(scene.image - np.asarray(Image.open(SAMPLES / name), int)).max() <= 2


def test_the_same_four_scores_alike_wherever_it_stands(digits):
    probabilities = []
    for name in ("four-left.png", "four-middle.png", "four-right.png"):
        _, cams = TRAINING["predict"](digits, [sample(name)])
        probabilities.append(float((cams[0].mean((1, 2)) + digits.linear.bias).softmax(0)[4]))
    assert min(probabilities) > 0.9
