from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import NETWORKS, photo, wrapped
from torch import nn
from torch.nn import functional as F

import cam
from cam.errors import ModelError
from cam.explanations.texts import legend_texts


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_map_and_bias_are_the_logit_of_the_network(kind, fit, device):
    classifier = wrapped(kind, device)
    if kind != "one-logit":
        assert classifier.head.kind == kind
    inputs, _ = classifier.preprocessing.prepare(photo(40, 70), fit)
    with torch.no_grad():
        outputs = classifier.network.eval()(inputs[None].to(device))[0].float().cpu()
    logits = torch.cat([-outputs, outputs]) if kind == "one-logit" else outputs
    for class_idx, logit in enumerate(logits.tolist()):
        explanation = cam.explain(classifier, photo(40, 70), class_idx, fit=fit)
        assert explanation.logit == pytest.approx(logit, abs=1e-4)
        assert explanation.cam.mean() + explanation.bias == pytest.approx(explanation.logit, abs=1e-4)
        assert explanation.cam.dtype == np.float32
        assert explanation.probability == pytest.approx(float(logits.softmax(0)[class_idx]), abs=1e-5) or (
            kind == "one-logit" and explanation.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        )
        assert explanation.completeness_error < 1e-5
    assert cam.explain(classifier, photo(40, 70), fit=fit).class_idx == int(logits.argmax())


def test_one_logit_explains_the_predicted_class():
    classifier = wrapped("one-logit", labels=["no cat", "cat"])
    for seed in range(4):
        explanation = cam.explain(classifier, photo(32, 32, seed))
        other = cam.explain(classifier, photo(32, 32, seed), 1 - explanation.class_idx)
        assert explanation.logit > 0
        assert explanation.label == ("cat" if explanation.class_idx else "no cat")
        np.testing.assert_array_equal(other.cam, -explanation.cam)
        assert explanation.probability + other.probability == pytest.approx(1)


def test_heat_is_nan_exactly_where_nothing_was_seen():
    explanation = cam.explain(wrapped(), photo(50, 90), fit="crop")
    x0, y0, x1, y1 = explanation.frame.seen
    assert (x0, y0, x1, y1) == (19, 0, 69, 50)
    seen = np.zeros((50, 90), bool)
    seen[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(np.isfinite(explanation.heat()), seen)
    assert np.isfinite(cam.explain(wrapped(), photo(50, 90), fit="whole").heat()).all()


def test_the_legend_says_how_the_largest_value_lies_on_the_scale():
    explanation = replace(cam.explain(wrapped(), photo(32, 32)), evidence_map=np.array([[0.5, -2]], np.float32))
    noted = {
        vmax: [note for note in legend_texts(explanation, vmax)["notes"] if "scale" in note] for vmax in (1, 2, 20, 21)
    }
    assert noted == {
        1: ["the largest value, -2, is beyond the scale"],
        2: [],
        20: [],
        21: ["the largest value, -2, is below a tenth of the scale"],
    }
    empty = replace(explanation, evidence_map=np.zeros((1, 2), np.float32))
    assert not [note for note in legend_texts(empty, 1)["notes"] if "scale" in note]  # another note says why


def test_overlay_shows_the_photograph_and_the_heat():
    explanation = cam.explain(wrapped(), photo(50, 90), fit="whole")
    plain = {"photo": "color", "contours": False}
    np.testing.assert_array_equal(explanation.overlay(opacity=0, **plain), explanation.image)
    faint = explanation.overlay(opacity=1, vmax=1e9, **plain)
    assert faint.shape == (50, 90, 3)
    np.testing.assert_array_equal(faint, explanation.image)  # next to no evidence on such a scale
    legend = explanation.overlay(opacity=0, legend=True, **plain)
    np.testing.assert_array_equal(legend[:200, :360], explanation.image.repeat(4, 0).repeat(4, 1))
    assert legend.shape[0] > 200
    assert legend.shape[1] == 360  # the first multiple of 90 that holds a legend of 280


def test_vmax_is_the_largest_absolute_evidence():
    for class_idx in range(5):
        explanation = cam.explain(wrapped(), photo(50, 90), class_idx)
        assert explanation.vmax == pytest.approx(max(explanation.cam.max(), -explanation.cam.min()))


def test_the_peak_is_on_a_lone_object():
    network = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(2, 3, 1, 1))
        network[4].weight.copy_(torch.eye(2))
    classifier = cam.wrap(network, input_size=64, labels=["red", "blue"])
    image = np.zeros((128, 192, 3), np.uint8)
    image[80:88, 24:32] = (255, 0, 0)
    image[16:24, 160:168] = (0, 0, 255)
    for label, box in {"red": (80, 24), "blue": (16, 160)}.items():
        y, x = cam.explain(classifier, image, classifier.labels.index(label), fit="whole").peak
        assert box[0] <= y < box[0] + 8
        assert box[1] <= x < box[1] + 8


def test_real_weights_add_up_on_real_photographs(shared_data):
    weights = shared_data / "cifar10" / "weights"
    files = sorted(weights.glob("resnet20*")) if weights.is_dir() else []
    if not files:
        pytest.skip("no CIFAR weights")
    classifier = cam.load_classifier("cifar-resnet20", weights=files[0], device="cpu")
    photos = sorted(p for p in (shared_data / "cifar10").rglob("*.jpg"))[:20]
    assert photos
    for explanation in cam.explain_all(classifier, photos):
        assert explanation.completeness_error < 1e-4


class WindowOfSeven(nn.Module):
    """Averages the top left 7 x 7 cells, which are all cells only at its own input size."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.avg_pool2d(F.relu(self.convolution(x)), 7).flatten(1))


def test_a_map_that_does_not_add_up_is_an_error():
    torch.manual_seed(0)
    classifier = cam.wrap(WindowOfSeven(), preprocessing=cam.Preprocessing(28, (28, 28)))
    image = np.random.default_rng(0).integers(0, 255, (28, 36, 3)).astype(np.uint8)
    assert cam.explain(classifier, image, fit="crop").completeness_error < 1e-5
    with pytest.raises(ModelError, match=r"miss the class scores .*--fit crop"):
        cam.explain(classifier, image, fit="whole")
