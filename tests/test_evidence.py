"""Kinds of evidence: worked by hand, against float64, and adding up where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import NETWORKS, photo, wrapped

import cam
from cam.errors import ModelError, UsageError
from cam.explanations.explain import explain_images
from cam.explanations.forward import run_forward
from cam.explanations.options import ExplainOptions, OneClass, TopClasses, parse_against, parse_resolution
from cam.maps import evidence
from cam.maps.evidence import channel_maps, margins, posteriors

FEATURES = torch.tensor([[[1.0, 2.0]], [[0.0, -1.0]]])  # (K, h, w) = (2, 1, 2)
WEIGHT = torch.tensor([[2.0, 1.0], [-1.0, 3.0], [1.0, 1.0]])  # maps: 2 3; -1 -5; 1 1
BIAS = torch.tensor([0.5, 6.0, 0.0])


def test_margin_by_hand(device):
    result = margins(FEATURES.to(device), WEIGHT.to(device), [0, 1, 2])
    assert result.tolist() == [[[1.0, 2.0]], [[-3.0, -8.0]], [[-1.0, -2.0]]]
    tie = margins(torch.ones(1, 1, 1), torch.tensor([[2.0], [2.0], [1.0]]), [0, 1, 2])
    assert tie.flatten().tolist() == [0, 0, -1]


def test_posterior_by_hand():
    result = posteriors(FEATURES, WEIGHT, BIAS, [1, 0], lambda logits: logits.softmax(1))
    first, second = np.exp([2.5, 5.0, 1.0]), np.exp([3.5, 1.0, 1.0])
    expected = [first[1] / first.sum(), second[1] / second.sum()], [first[0] / first.sum(), second[0] / second.sum()]
    np.testing.assert_allclose(result[:, 0], expected, rtol=1e-6)


def test_channels_by_hand():
    result = channel_maps(FEATURES, WEIGHT[0])
    assert result.tolist() == [[[2.0, 4.0]], [[0.0, -1.0]]]  # together 2 3, the map of class 0


@pytest.mark.parametrize("at_once", [1, 7, 31, 10**9])
def test_parts_make_no_difference_and_no_part_is_larger(monkeypatch, at_once):
    features, weight = torch.randn(6, 5, 4), torch.randn(9, 6)
    whole = margins(features, weight, [3, 8]), posteriors(features, weight, torch.zeros(9), [3], torch.sigmoid)
    monkeypatch.setattr(evidence, "_MAX_SCORES", at_once)
    sizes = []
    original = evidence.class_activation_maps
    monkeypatch.setattr(
        evidence, "class_activation_maps", lambda f, w: sizes.append(w.shape[0] * f.shape[-1]) or original(f, w)
    )
    parts = margins(features, weight, [3, 8]), posteriors(features, weight, torch.zeros(9), [3], torch.sigmoid)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert max(sizes) <= max(at_once, 9)
    assert sum(sizes) == 2 * 9 * 20


@pytest.mark.parametrize("kind", NETWORKS)
def test_kinds_of_evidence_against_float64(kind, device):
    classifier = wrapped(kind, device)
    (result,) = run_forward(classifier, [photo(40, 70)], classifier.preprocessing, "whole")
    cams = torch.einsum("ck,khw->chw", result.scale * result.head.weight.double(), result.features.double()).cpu()
    scores = cams + result.head.bias.double().cpu()[:, None, None]
    for class_idx in range(len(cams)):
        maps = {
            name: cam.explain(classifier, photo(40, 70), class_idx, fit="whole", evidence=name).evidence_map
            for name in ("logit", "margin", "posterior")
        }
        others = torch.cat([cams[:class_idx], cams[class_idx + 1 :]])
        probabilities = scores.sigmoid() if kind == "one-logit" else scores.softmax(0)
        np.testing.assert_allclose(maps["logit"], cams[class_idx], atol=1e-4)
        np.testing.assert_allclose(maps["margin"], cams[class_idx] - others.amax(0), atol=1e-4)
        np.testing.assert_allclose(maps["posterior"], probabilities[class_idx], atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_contrast_adds_up_to_the_margin(kind, device):
    classifier = wrapped(kind, device)
    (result,) = explain_images(
        classifier, [photo(40, 70)], [[TopClasses(5)]], ExplainOptions("contrast", fit="whole", against=None)
    )
    for explanation in result.explanations:
        other = explanation.against
        best = max((e.logit, -e.class_idx) for e in result.explanations if e.class_idx != explanation.class_idx)
        assert (other.logit, -other.class_idx) == best
        assert explanation.title == f"{explanation.label} over {other.label}"
        margin = explanation.logit - other.logit
        assert explanation.margin == margin
        assert explanation.completeness_error <= 1e-5
        mean = explanation.evidence_map.mean()
        assert mean + explanation.bias - other.bias == pytest.approx(margin, rel=1e-5, abs=1e-4)
    named = cam.explain(classifier, photo(40, 70), 0, evidence="contrast", against=1, fit="whole")
    back = cam.explain(classifier, photo(40, 70), 1, evidence="contrast", against=0, fit="whole")
    np.testing.assert_array_equal(named.evidence_map, -back.evidence_map)


def test_a_class_cannot_be_contrasted_with_itself():
    classifier = wrapped()
    with pytest.raises(ModelError, match=r"'class 2' .* contrasted with itself"):
        cam.explain(classifier, photo(32, 32), 2, evidence="contrast", against=2)
    with pytest.raises(UsageError, match="The class index must be from 0 to 4, or a label, got 9"):
        cam.explain(classifier, photo(32, 32), 2, evidence="contrast", against=9)
    with pytest.raises(UsageError, match=r"--against sets one class .* evidence is 'margin'"):
        ExplainOptions("margin", against=1)


def test_a_head_with_one_channel_a_class_has_no_other_maps():
    with pytest.raises(UsageError, match=r"--channels must be 0: 'ConvGap' has one channel a class"):
        cam.explain(wrapped("conv-gap"), photo(48, 40), channels=2)


@pytest.mark.parametrize("kind", sorted({*NETWORKS} - {"conv-gap"}))
@pytest.mark.parametrize("options", [{}, {"resolution": 64}, {"tta": True}])
def test_channels_add_up_to_the_logit(kind, options, device):
    classifier = wrapped(kind, device)
    explanation = cam.explain(classifier, photo(48, 40), 1, channels=100, **options)
    assert len(explanation.channels) == classifier.head.weight.shape[1]
    shares = [channel.share for channel in explanation.channels]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + explanation.bias == pytest.approx(explanation.map_logit, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(sum(channel.cam for channel in explanation.channels), explanation.cam, atol=1e-3)
    for channel in explanation.channels:
        assert channel.cam.mean() == pytest.approx(channel.share, abs=1e-5)
    few = cam.explain(classifier, photo(48, 40), 1, channels=2, **options)
    assert [channel.index for channel in few.channels] == [channel.index for channel in explanation.channels][:2]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_finer_map_leaves_the_logit(kind, device):
    classifier = wrapped(kind, device)
    plain = cam.explain(classifier, photo(48, 40), 1)
    finer = cam.explain(classifier, photo(48, 40), 1, resolution=64)
    assert plain.cam.shape == (16, 16)
    assert finer.cam.shape == (32, 32)
    assert finer.frame.input == (64, 64)
    assert finer.logit == plain.logit
    assert finer.probability == plain.probability
    assert finer.completeness_error <= 1e-5
    assert finer.cam.mean() + finer.bias == pytest.approx(finer.map_logit, rel=1e-4, abs=1e-4)
    assert finer.frame.seen == plain.frame.seen


def test_averaged_maps_add_up_and_are_nearly_symmetric():
    classifier = wrapped()
    image = photo(48, 64)
    explanation = cam.explain(classifier, image, 1, tta=True, fit="whole")
    mirrored = cam.explain(classifier, image[:, ::-1].copy(), 1, tta=True, fit="whole")
    assert explanation.completeness_error <= 1e-5
    assert explanation.cam.shape == (32, 43)  # of the finest view, twice as large
    heat, turned = explanation.heat(), mirrored.heat()[:, ::-1]
    plain = cam.explain(classifier, image, 1, fit="whole").heat()
    other = cam.explain(classifier, image[:, ::-1].copy(), 1, fit="whole").heat()[:, ::-1]
    assert np.abs(heat - turned).mean() < 0.2 * np.abs(plain - other).mean()


def test_a_resolution_is_pixels_or_a_factor():
    classifier = wrapped()
    assert parse_resolution(None, classifier.preprocessing) is None
    assert parse_resolution("48", classifier.preprocessing) == 48
    assert parse_resolution("1.5x", classifier.preprocessing) == 48
    for wrong in (0, 100_000, 2.5):
        with pytest.raises(UsageError, match=f"--resolution must be from 1 to 4096 pixels, got {wrong}"):
            ExplainOptions(resolution=wrong)
    with pytest.raises(UsageError, match=r"evidence must be one of logit, .*, got 'margn'"):
        ExplainOptions("margn")
    with pytest.raises(UsageError, match="fit must be one of crop, whole, stretch, got 'whol'"):
        cam.explain(classifier, photo(32, 32), fit="whol")
    with pytest.raises(UsageError, match=r"--channels must be 0 or more, got -1"):
        ExplainOptions(channels=-1)


def test_the_other_class_is_the_runner_up_or_one_class():
    labels = ["cat", "dog"]
    assert parse_against(None, labels) is None
    assert parse_against("Runner-Up", labels) is None
    assert parse_against("1", labels) == 1
    with pytest.raises(UsageError, match=r"--against must be a class index or a label, got 'top2'"):
        parse_against("top2", labels)


class Constant(torch.nn.Module):
    """Given features, (1, K, 4, 4) times the brightness of the image."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("values", features)
        self.linear = torch.nn.Linear(2, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
            self.linear.bias.zero_()

    def forward(self, x):
        cells = torch.nn.functional.adaptive_avg_pool2d(x, 4).mean(1, keepdim=True)
        return self.linear((cells.relu() * self.values).mean((2, 3)))


def test_maps_without_positive_evidence_have_a_note():
    plain = cam.classifiers.preprocessing.Preprocessing(16, (16, 16), (0, 0, 0), (1, 1, 1))
    classifier = cam.wrap(Constant(torch.tensor([[[[2.0]], [[1.0]]]])), preprocessing=plain)
    white, black = np.full((16, 16, 3), 255, np.uint8), np.zeros((16, 16, 3), np.uint8)
    notes = [cam.explain(classifier, white, class_idx).note for class_idx in range(3)]
    assert notes == ["", "", "all evidence for this class is negative"]
    assert cam.explain(classifier, white, 1, evidence="margin").note == "it wins at no position"
    assert cam.explain(classifier, white, 1, evidence="margin").evidence_map.max() == -1
    assert cam.explain(classifier, black, 0).note == "dead features: all of them are zero here"
    silent = cam.wrap(Constant(torch.tensor([[[[0.0]], [[1.0]]]])), preprocessing=plain)
    assert cam.explain(silent, white, 0).note == "the map of this class is zero everywhere"


def test_each_image_has_its_own_targets():
    classifier = wrapped()
    images = [photo(32, 32, seed) for seed in range(3)]
    targets = [[OneClass(2)], [OneClass(0), OneClass(1)], [TopClasses(1)]]
    result = list(explain_images(classifier, images, targets))
    assert [[e.class_idx for e in image_result.explanations] for image_result in result[:2]] == [[2], [0, 1]]
    alone = next(explain_images(classifier, images[2:], [[TopClasses(5)]]))
    assert result[2].explanations[0].logit == pytest.approx(max(e.logit for e in alone.explanations), abs=1e-5)


def test_the_other_class_of_a_contrast_is_left_out():
    classifier = wrapped()
    (result,) = explain_images(classifier, [photo(32, 32)], [[TopClasses(5)]], ExplainOptions("contrast", against=2))
    assert sorted(e.class_idx for e in result.explanations) == [0, 1, 3, 4]
    assert {e.against.class_idx for e in result.explanations} == {2}


def test_larger_inputs_go_in_smaller_batches(monkeypatch):
    classifier = wrapped()
    images = [photo(32, 32, seed) for seed in range(5)]
    whole = [r.explanations[0].cam for r in explain_images(classifier, images, [[OneClass(1)]] * 5)]
    monkeypatch.setattr("cam.explanations.forward._BATCH_PIXELS", 2 * 32 * 32)
    sizes = []
    classifier.network.register_forward_hook(lambda module, inputs, out: sizes.append(len(inputs[0])))
    parts = [r.explanations[0].cam for r in explain_images(classifier, images, [[OneClass(1)]] * 5)]
    assert sizes == [2, 2, 1]
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_a_view_at_the_models_own_size_is_not_run_twice():
    classifier = wrapped()
    passes = []
    classifier.network.register_forward_hook(lambda *_: passes.append(1))
    cam.explain(classifier, photo(32, 32), resolution=32)
    assert len(passes) == 1
    cam.explain(classifier, photo(32, 32), tta=True)
    assert len(passes) == 1 + 6
