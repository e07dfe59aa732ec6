"""Exploring one image: any class, evidence and place is what cam.explain says, from one forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.errors import ImageError, ModelError, UsageError
from cam.maps.evidence import Evidence

SAMPLE = Path(__file__).parents[1] / "samples" / "sevens.png"


@pytest.fixture(scope="module")
def digits() -> Classifier:
    return cam.load_classifier("digits", device="cpu")


@pytest.fixture
def sevens(digits) -> cam.Exploration:
    return cam.explore(digits, SAMPLE)


def small_network(head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), head).eval()


def test_any_class_and_evidence_is_what_the_library_explains_and_costs_no_other_pass(digits, sevens):
    runs: list[object] = []
    expected = {
        evidence: cam.explain(digits, SAMPLE, list(range(10)), evidence=evidence) for evidence in get_args(Evidence)
    }
    hook = digits.network.register_forward_hook(lambda *arguments: runs.append(arguments))
    for evidence, explanations in expected.items():
        for explanation in explanations:
            found = sevens.explain(explanation.label, evidence=evidence)
            assert np.allclose(found.evidence_map, explanation.evidence_map, atol=1e-4)
            numbers = found.logit, found.probability, found.peak
            assert numbers == (explanation.logit, explanation.probability, explanation.peak)
    hook.remove()
    assert runs == []
    assert sevens.explain(3, evidence="margin") is sevens.explain([3, 4], evidence="margin")[0]  # not even computed


def test_targets_are_those_of_explain(digits, sevens):
    best, second, *_ = cam.explain(digits, SAMPLE, "top5")
    assert sevens.explain().class_idx == sevens.ranked[0] == best.class_idx
    assert [one.class_idx for one in sevens.explain("top2")] == [best.class_idx, second.class_idx]
    assert [one.label for one in sevens.explain(["3", "top1"])] == ["3", best.label]
    assert sevens.logits[best.class_idx] == best.logit
    assert sevens.probabilities[best.class_idx] == best.probability
    with pytest.raises(UsageError, match="target 'x' is not among the labels"):
        sevens.explain("x")


def test_a_contrast_leaves_out_the_other_class_and_refuses_it_alone(sevens):
    for classes in ([7, 1, 9], [7, 1], [9, 1, 7]):  # the first is new, the others are kept
        found = sevens.explain(classes, evidence="contrast", against="1")
        assert [(one.class_idx, one.against.label) for one in found] == [(c, "1") for c in classes if c != 1]
    with pytest.raises(ModelError, match="contrasted with itself"):
        sevens.explain(1, evidence="contrast", against=1)
    assert sevens.explain(7).against is None


def test_a_place_compares_the_heat_of_all_classes(digits, sevens):
    explanations = cam.explain(digits, SAMPLE, list(range(10)))
    heats = np.stack([explanation.heat() for explanation in explanations])
    place = sevens.evidence_at(40, 300)
    assert list(place) == list(np.argsort(-heats[:, 40, 300]))
    assert list(place.values()) == pytest.approx([heats[c, 40, 300] for c in place], abs=1e-4)
    assert [one.heat_at(40, 300) for one in explanations] == pytest.approx(list(heats[:, 40, 300]), abs=1e-4)
    for outside in ((40, 400), (0, -1), (288, 0)):  # 288 x 400 pixels
        assert np.isnan(list(sevens.evidence_at(*outside).values())).all()


def test_a_place_outside_the_crop_says_nothing():
    network = small_network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)))
    result = cam.explore(cam.wrap(network, input_size=32), np.full((32, 64, 3), 90, np.uint8))
    assert np.isnan(list(result.evidence_at(10, 15).values())).all()
    assert np.isnan(result.explain().heat_at(10, 15))
    assert np.isfinite(list(result.evidence_at(10, 16).values())).all()


def test_class_maps_that_are_the_features_are_compared_too():
    network = nn.Sequential(nn.Conv2d(3, 3, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    result = cam.explore(cam.wrap(network, input_size=32), image)
    expected = {one.class_idx: one.heat()[9, 20] for one in result.explain([0, 1, 2])}
    assert result.evidence_at(9, 20) == pytest.approx(expected, abs=1e-5)


def test_of_a_head_that_is_run_again_only_the_first_and_the_given_classes_are_compared():
    network = small_network(nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 8)))
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    result = cam.explore(cam.wrap(network, input_size=32), image)
    last = result.ranked[-1]
    place = result.evidence_at(9, 9, [last])
    assert set(place) == {*result.ranked[:5], last}
    assert place[last] == pytest.approx(result.explain(last).heat()[9, 9], abs=1e-5)
    with pytest.raises(UsageError, match="--evidence margin needs a head that is an average"):
        result.explain(0, evidence="margin")


def test_fit_and_wrong_images(digits, tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    assert cam.explore(digits, image, fit="crop").explain().frame == cam.explain(digits, image, fit="crop").frame
    with pytest.raises(UsageError, match="--fit must be one of crop, whole, stretch, got 'round'"):
        cam.explore(digits, image, fit="round")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png' is not an image"):
        cam.explore(digits, tmp_path / "bad.png")
