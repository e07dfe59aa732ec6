from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cam
from cam.classifiers import Classifier
from cam.errors import ImageError, ModelError, UsageError
from cam.explanation import explain_images
from cam.images import write_image
from cam.targets import OneClass, TopClasses


class ConvGap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.classes = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        return self.classes(self.body(x).relu()).relu().mean((2, 3))


class GapNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        return self.linear(self.norm(self.body(x).relu().mean((2, 3))))


def gap_linear(classes: int = 5) -> nn.Module:
    body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


NETWORKS = {
    "gap-linear": gap_linear,
    "conv-gap": ConvGap,
    "gap-norm-linear": GapNorm,
    "one-logit": lambda: gap_linear(1),
}


def wrapped(kind: str = "gap-linear", device: torch.device | str = "cpu", **changes) -> Classifier:
    torch.manual_seed(3)
    network = NETWORKS[kind]().to(device)
    for parameter in network.parameters():  # biases that matter, class scores far apart
        nn.init.normal_(parameter, std=0.7)
    return cam.wrap(network, input_size=32, **changes)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_map_and_bias_are_the_logit_of_the_network(kind, fit, device):
    classifier = wrapped(kind, device)
    if kind != "one-logit":
        assert classifier.head.kind == kind
    inputs, _ = classifier.preprocessing.prepare(photo(40, 70), fit)
    with torch.no_grad():
        own = classifier.network.eval()(inputs[None].to(device))[0].float().cpu()
    logits = torch.cat([-own, own]) if kind == "one-logit" else own
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


def test_one_logit_explains_the_class_it_speaks_for():
    classifier = wrapped("one-logit", labels=["no cat", "cat"])
    for seed in range(4):
        explanation = cam.explain(classifier, photo(32, 32, seed))
        other = cam.explain(classifier, photo(32, 32, seed), 1 - explanation.class_idx)
        assert explanation.logit > 0
        assert explanation.label == ("cat" if explanation.class_idx else "no cat")
        np.testing.assert_array_equal(other.cam, -explanation.cam)
        assert explanation.probability + other.probability == pytest.approx(1)


def test_batch_of_mixed_sizes_is_the_single_results_in_order():
    classifier = wrapped()
    photos = [photo(*size, seed) for seed, size in enumerate([(32, 48), (48, 32), (32, 32), (32, 48), (90, 40)])]
    together = list(cam.explain_all(classifier, photos, fit="whole", batch_size=4))
    assert [e.image.shape for e in together] == [each.shape for each in photos]
    for alone, batched in zip((cam.explain(classifier, each, fit="whole") for each in photos), together, strict=True):
        assert batched.class_idx == alone.class_idx
        assert batched.logit == pytest.approx(alone.logit, abs=1e-5)
        assert batched.frame == alone.frame
        np.testing.assert_allclose(batched.cam, alone.cam, atol=1e-5)


def test_all_targets_come_from_one_pass():
    classifier = wrapped()
    passes = []
    classifier.network.register_forward_hook(lambda *_: passes.append(1))
    (explanations,) = explain_images(classifier, [photo(32, 32)], [OneClass(3), TopClasses(5)])
    assert isinstance(explanations, list)
    assert len(passes) == 1
    assert explanations[0].class_idx == 3
    assert sorted(e.class_idx for e in explanations) == [0, 1, 2, 3, 4]
    ranked = [e.logit for e in explanations[1:]]
    assert ranked == sorted(ranked, reverse=True)
    assert sum(e.probability for e in explanations) == pytest.approx(1)


def test_files_and_arrays_are_the_same(tmp_path):
    write_image(tmp_path / "a.png", photo(40, 50))
    classifier = wrapped()
    for file in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert cam.explain(classifier, file).logit == cam.explain(classifier, photo(40, 50)).logit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_work(dtype):
    network = gap_linear()
    torch.manual_seed(0)
    classifier = cam.wrap(network.to(dtype), input_size=32)
    explanation = cam.explain(classifier, photo(40, 40))
    assert explanation.cam.dtype == np.float32
    assert explanation.completeness_error < 0.03


def test_a_network_in_training_keeps_its_flags_and_statistics():
    classifier = wrapped()
    network = classifier.network.train()
    network[3].eval()
    flags = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, second = (cam.explain(classifier, photo(40, 40)) for _ in range(2))
    assert [module.training for module in network.modules()] == flags
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert first.logit == second.logit  # neither dropout nor the statistics of the batch
    assert first.completeness_error < 1e-5
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


class NotFinite(nn.Module):
    """Gives what is not a number where a picture is white."""

    def __init__(self) -> None:
        super().__init__()
        self.body = gap_linear()

    def forward(self, x):
        return self.body(torch.where(x > 60, torch.nan, x))


def test_scores_that_are_not_finite_cost_that_picture_only():
    plain = cam.preprocessing.Preprocessing(32, (32, 32), mean=(0, 0, 0), std=(0.01, 0.01, 0.01))
    classifier = cam.wrap(NotFinite(), preprocessing=plain)
    white, dark = np.full((32, 32, 3), 255, np.uint8), photo(32, 32) // 2
    results = list(explain_images(classifier, [dark, white, dark]))
    assert isinstance(results[0], list)
    assert isinstance(results[2], list)
    assert results[0][0].logit == results[2][0].logit
    assert isinstance(results[1], ModelError)
    assert "not finite" in str(results[1])
    with pytest.raises(ModelError, match="not finite"):
        cam.explain(classifier, white)


class Fussy(nn.Module):
    """Runs on squares only, and says so in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = gap_linear()

    def forward(self, x):
        if x.shape[2] != x.shape[3]:
            raise KeyError("square")
        return self.body(x)


def test_a_size_the_network_does_not_take_costs_those_pictures_only():
    classifier = cam.wrap(Fussy(), input_size=32)
    results = list(explain_images(classifier, [photo(32, 32), photo(32, 50), photo(50, 50)], fit="whole"))
    assert isinstance(results[0], list)
    assert isinstance(results[2], list)
    assert isinstance(results[1], ModelError)
    assert "--fit crop" in str(results[1])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        torch.zeros((8, 8, 3), dtype=torch.uint8),
        None,
        3,
        b"a.jpg",
    ],
    ids=lambda wrong: f"{type(wrong).__name__}{getattr(wrong, 'shape', '')}",
)
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(UsageError, match=r"is no picture\. Give .*\(H, W, 3\) uint8 RGB\."):
        cam.explain(wrapped(), wrong)


@pytest.mark.parametrize("class_idx", [-1, 5, 99])
def test_a_class_that_is_not_there_is_refused(class_idx):
    with pytest.raises(UsageError, match=f"no class {class_idx} among 5"):
        cam.explain(wrapped(), photo(32, 32), class_idx)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_empty_batch_is_refused(batch_size):
    with pytest.raises(UsageError, match=f"batch of {batch_size}"):
        next(cam.explain_all(wrapped(), [photo(32, 32)], batch_size=batch_size))


def test_a_bad_file_is_told_when_its_turn_comes(tmp_path):
    explanations = cam.explain_all(wrapped(), [photo(32, 32), photo(40, 32), tmp_path / "none.jpg", photo(32, 32)])
    assert next(explanations).image.shape == (32, 32, 3)
    assert next(explanations).image.shape == (40, 32, 3)
    with pytest.raises(ImageError, match=r"none\.jpg"):
        next(explanations)


def test_memory_is_for_one_batch():
    taken = []

    def photos():
        for number in range(100):
            taken.append(number)
            yield photo(32, 32)

    next(cam.explain_all(wrapped(), photos(), batch_size=3))
    assert len(taken) <= 3


def test_heat_is_not_a_number_exactly_where_nothing_was_seen():
    explanation = cam.explain(wrapped(), photo(50, 90), fit="crop")
    x0, y0, x1, y1 = explanation.frame.seen
    assert (x0, y0, x1, y1) == (19, 0, 69, 50)
    seen = np.zeros((50, 90), bool)
    seen[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(np.isfinite(explanation.heat()), seen)
    assert np.isfinite(cam.explain(wrapped(), photo(50, 90), fit="whole").heat()).all()


def test_overlay_shows_the_photograph_and_the_heat():
    explanation = cam.explain(wrapped(), photo(50, 90), fit="whole")
    np.testing.assert_array_equal(explanation.overlay(opacity=0), explanation.image)
    full = explanation.overlay(opacity=1, limit=1e9)
    assert full.shape == (50, 90, 3)
    assert full.max() < 8  # next to no evidence on such a scale: black
    legend = explanation.overlay(opacity=0, legend=True)
    np.testing.assert_array_equal(legend[:50, :90], explanation.image)
    assert legend.shape[0] > 50


def test_limit_is_the_largest_evidence_either_way():
    explanation = cam.explain(wrapped(), photo(50, 90), int(np.argmin(_logits())))
    assert explanation.limit == pytest.approx(max(explanation.cam.max(), -explanation.cam.min()))


def _logits() -> list[float]:
    return [cam.explain(wrapped(), photo(50, 90), index).logit for index in range(5)]


def test_peak_is_the_place_of_a_lone_object():
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


def test_explanations_are_frozen():
    with pytest.raises(AttributeError):
        cam.explain(wrapped(), photo(32, 32)).logit = 3.0


def test_real_weights_complete_on_real_photographs(shared_data: Path):
    weights = shared_data / "cifar10" / "weights"
    files = sorted(weights.glob("resnet20*")) if weights.is_dir() else []
    if not files:
        pytest.skip("no CIFAR weights")
    classifier = cam.load_classifier("cifar-resnet20", weights=files[0], device="cpu")
    pictures = sorted(p for p in (shared_data / "cifar10").rglob("*.jpg"))[:20]
    assert pictures
    for explanation in cam.explain_all(classifier, pictures):
        assert explanation.completeness_error < 1e-4


class WindowOfSeven(nn.Module):
    """Averages the top left 7 x 7 cells, which are all there are at its own size only."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.avg_pool2d(F.relu(self.convolution(x)), 7).flatten(1))


def test_a_map_that_does_not_add_up_is_not_shown() -> None:
    torch.manual_seed(0)
    classifier = cam.wrap(WindowOfSeven(), preprocessing=cam.Preprocessing(28, (28, 28)))
    image = np.random.default_rng(0).integers(0, 255, (28, 36, 3)).astype(np.uint8)
    assert cam.explain(classifier, image, fit="crop").completeness_error < 1e-5
    with pytest.raises(ModelError, match=r"miss the class scores .*--fit crop"):
        cam.explain(classifier, image, fit="whole")
