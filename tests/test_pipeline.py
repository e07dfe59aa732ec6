"""Images through the network to explanations: batches, errors, memory."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import gap_linear, photo, three_classes, wrapped
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ImageError, ModelError, UsageError
from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.forward import result_or_raise, run_forward
from cam.explanations.options import ExplainOptions, OneClass, TopClasses
from cam.heads.hooks import forward
from cam.images.io import resize


def test_a_batch_of_mixed_sizes_gives_the_single_results_in_order():
    classifier = wrapped()
    photos = [photo(*size, seed) for seed, size in enumerate([(32, 48), (48, 32), (32, 32), (32, 48), (90, 40)])]
    together = list(cam.explain_all(classifier, photos, fit="whole", batch_size=4))
    assert [e.image.shape for e in together] == [image.shape for image in photos]
    for alone, batched in zip((cam.explain(classifier, image, fit="whole") for image in photos), together, strict=True):
        assert batched.class_idx == alone.class_idx
        assert batched.logit == pytest.approx(alone.logit, abs=1e-5)
        assert batched.frame == alone.frame
        np.testing.assert_allclose(batched.cam, alone.cam, atol=1e-5)


def test_each_image_of_a_batch_has_its_own_features():
    classifier, photos = wrapped(), [photo(32, 32, 0), np.zeros((32, 32, 3), np.uint8), photo(32, 32, 2)]
    results = list(explain_images(classifier, photos, [[TopClasses(1)]] * 3, ExplainOptions(channels=2)))
    classifier.network.eval()
    for image, ((explanation,), all_classes) in zip(photos, results, strict=True):
        with torch.no_grad():
            features = classifier.network[:3](classifier.preprocessing.prepare(image)[0][None])[0]
        torch.testing.assert_close(all_classes.features, features, rtol=1e-5, atol=1e-5)
        weight = classifier.network[6].weight[explanation.class_idx].detach()
        for channel in explanation.channels:
            expected = (features * weight[:, None, None])[channel.index].numpy()
            np.testing.assert_allclose(channel.cam, expected, rtol=1e-5, atol=1e-5)


def test_all_targets_come_from_one_pass():
    classifier = wrapped()
    passes = []
    classifier.network.register_forward_hook(lambda *_: passes.append(1))
    ((explanations, _),) = explain_images(classifier, [photo(32, 32)], [[OneClass(3), TopClasses(5)]])
    assert len(passes) == 1
    assert explanations[0].class_idx == 3
    assert sorted(e.class_idx for e in explanations) == [0, 1, 2, 3, 4]
    ranked = [e.logit for e in explanations[1:]]
    assert ranked == sorted(ranked, reverse=True)
    assert sum(e.probability for e in explanations) == pytest.approx(1)


def test_the_maps_of_a_batch_are_fetched_together_and_read_only_after_one_wait(monkeypatch):
    classifier, waits = wrapped(), []
    fetched: list[tuple[torch.Tensor, torch.Tensor]] = []

    def to_cpu(maps):  # as from a GPU: there only once it has been waited for
        fetched.append((torch.full_like(maps, -999), maps))
        return fetched[-1][0]

    def synchronize(device):
        waits.append((device, len(fetched)))
        for arrived, maps in fetched:
            arrived.copy_(maps)

    options = ExplainOptions("contrast", resolution=48, tta=True, channels=2)
    batch = [photo(32, 32, seed) for seed in range(3)], [[TopClasses(2)]] * 3, options
    expected = list(explain_images(classifier, *batch))
    monkeypatch.setattr("cam.explanations.compute.to_cpu", to_cpu)
    monkeypatch.setattr("cam.explanations.explain.synchronize", synchronize)
    results = list(explain_images(classifier, *batch))
    # Of three images the maps of three sizes, each mirrored too, and the channels of two classes.
    assert waits == [(torch.device("cpu"), 3 * (6 + 2))]
    for result, plain in zip(results, expected, strict=True):
        for actual, other in zip(result.explanations, plain.explanations, strict=True):
            np.testing.assert_array_equal(actual.evidence_map, other.evidence_map)


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
    """Replaces white pixels by a value that is not finite."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.body, self.value = gap_linear(), value

    def forward(self, x):
        return self.body(torch.where(x > 60, self.value, x))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_an_error_of_that_image_only(value):
    plain = Preprocessing(32, (32, 32), mean=(0, 0, 0), std=(0.01, 0.01, 0.01))
    classifier = cam.wrap(NotFinite(value), preprocessing=plain)
    white, dark = np.full((32, 32, 3), 255, np.uint8), photo(32, 32) // 2
    results = list(explain_images(classifier, [dark, white, dark], [[TopClasses(1)]] * 3))
    assert [type(result) for result in results] == [ImageResult, ModelError, ImageResult]
    assert results[0].explanations[0].logit == results[2].explanations[0].logit
    assert "not finite" in str(results[1])
    with pytest.raises(ModelError, match="not finite"):
        cam.explain(classifier, white)


class SquaresOnly(nn.Module):
    """Runs on squares only, and raises an unusual error for other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = gap_linear()

    def forward(self, x):
        if x.shape[2] != x.shape[3]:
            raise KeyError("square")
        return self.body(x)


def test_an_input_size_that_fails_is_an_error_of_those_images_only():
    classifier = cam.wrap(SquaresOnly(), input_size=32)
    images = [photo(32, 32), photo(32, 50), photo(50, 50)]
    results = list(explain_images(classifier, images, [[TopClasses(1)]] * 3, ExplainOptions(fit="whole")))
    assert [type(result) for result in results] == [ImageResult, ModelError, ImageResult]
    assert "--fit crop" in str(results[1])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        torch.zeros((8, 8, 3), dtype=torch.uint8),
        None,
        3,
    ],
    ids=lambda wrong: f"{type(wrong).__name__}{getattr(wrong, 'shape', '')}",
)
def test_only_images_are_accepted(wrong):
    with pytest.raises(UsageError, match=r"^The image must be .*, got .*\. Give .*\(H, W, 3\) uint8 RGB array\."):
        cam.explain(wrapped(), wrong)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("b", "target 'b' is not among the labels; they are 0 'class 0'"),
        (1.0, "target must be a class index or a label, got 1.0"),
        (-1, "The class index must be from 0 to 4, or a label, got -1"),
        (5, "got 5"),
    ],
)
def test_a_class_index_must_be_an_integer_in_range(wrong, problem):
    with pytest.raises(UsageError, match=problem):
        cam.explain(wrapped(), photo(32, 32), wrong)


def test_a_class_may_be_given_by_its_label():
    explanation = cam.explain(wrapped(), photo(32, 32), "class 1", evidence="contrast", against="class 3")
    assert (explanation.class_idx, explanation.against.class_idx) == (1, 3)
    with pytest.raises(UsageError, match="against 'cat' is not among the labels"):
        cam.explain(wrapped(), photo(32, 32), evidence="contrast", against="cat")


def test_a_network_and_one_file_are_not_a_classifier_and_a_list():
    with pytest.raises(UsageError, match=r"classifier must be a cam\.Classifier, got Image.*cam\.wrap"):
        cam.explain(Image.new("RGB", (32, 32)), photo(32, 32))
    with pytest.raises(UsageError, match=r"photos must be a list of images, got 'five\.png'"):
        next(cam.explain_all(wrapped(), "five.png"))


def test_a_bad_file_is_an_error_after_the_files_before_it(tmp_path):
    explanations = cam.explain_all(wrapped(), [photo(32, 32), photo(40, 32), tmp_path / "none.jpg", photo(32, 32)])
    assert next(explanations).image.shape == (32, 32, 3)
    assert next(explanations).image.shape == (40, 32, 3)
    with pytest.raises(ImageError, match=r"none\.jpg"):
        next(explanations)


def test_errors_are_also_built_in_errors(tmp_path):
    with pytest.raises(OSError, match=r"^'.*none\.jpg' does not exist\. Check the path\.$"):
        cam.explain(wrapped(), tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, got 0"):
        next(cam.explain_all(wrapped(), [], batch_size=0))


@pytest.mark.parametrize("kind", [UsageError, ImageError, ModelError])
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("It is wrong", "Change it")))
    assert (type(error), str(error), error.remedy) == (kind, "It is wrong. Change it.", "Change it")


def test_memory_is_for_one_batch():
    read = []

    def photos():
        for number in range(100):
            read.append(number)
            yield photo(32, 32)

    next(cam.explain_all(wrapped(), photos(), batch_size=3))
    assert len(read) <= 3


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return cam.wrap(three_classes(), input_size=32)


def images(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8) for seed in range(count)]


def with_memory_for(classifier: Classifier, most: int, sizes: list[int]) -> Classifier:
    """A device whose memory holds at most so many images."""

    def engine(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(classifier.network, classifier.head.site, inputs)

    return replace(classifier, engine=engine)


def test_a_batch_that_does_not_fit_in_memory_is_run_in_halves(classifier):
    sizes: list[int] = []
    results = run_forward(with_memory_for(classifier, 2, sizes), images(7), classifier.preprocessing)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    for result, image in zip(results, images(7), strict=True):
        (alone,) = run_forward(classifier, [image], classifier.preprocessing)
        torch.testing.assert_close(result_or_raise(result).logits, result_or_raise(alone).logits)


def test_an_image_that_does_not_fit_in_memory_is_an_error(classifier):
    results = run_forward(with_memory_for(classifier, 0, []), images(3), classifier.preprocessing)
    assert all(isinstance(result, ModelError) for result in results)
    assert "out of memory" in str(results[0])


def test_maps_of_a_smaller_copy_lie_in_the_photograph(classifier):
    y, x = np.mgrid[:400, :600]
    photo = np.stack([x / 3, y / 2, 255 - x / 3], 2).astype(np.uint8)
    small = resize(photo, (200, 300))
    (((one,), _),) = explain_images(classifier, [photo], [(TopClasses(1),)])
    (((two,), _),) = explain_images(classifier, [small], [(TopClasses(1),)], photos=[(400, 600)])
    assert two.frame == one.frame
    assert two.heat().shape == (400, 600)
    assert two.class_idx == one.class_idx
    assert two.logit == pytest.approx(one.logit, abs=0.02)
    np.testing.assert_allclose(two.cam, one.cam, atol=0.1 * one.vmax)
    assert max(abs(a - b) for a, b in zip(two.peak, one.peak, strict=True)) <= 2
    assert two.overlay().shape == (200, 300, 3)
    assert one.overlay(max_side=150).shape == (100, 150, 3)


class Viewing(nn.Module):
    """Pools what it takes for the memory of contiguous features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features, self.classes = nn.Conv2d(channels, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        return self.classes(x.view(2 * len(x), 2, -1).mean(2).view(len(x), 4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_features_have_the_memory_layout_that_the_network_expects(channels, mirrored):
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, (32, 32), mean=(0.5,) * channels, std=(0.25,) * channels)
    classifier = cam.wrap(Viewing(channels), preprocessing=preprocessing)
    results = run_forward(classifier, images(3), classifier.preprocessing, mirrored=mirrored)
    inputs = torch.stack([classifier.preprocessing.prepare(image)[0] for image in images(3)])
    expected = classifier.network((inputs.flip(3) if mirrored else inputs).contiguous())
    torch.testing.assert_close(torch.stack([result_or_raise(result).logits for result in results]), expected.detach())


def test_inputs_that_cannot_be_moved_to_the_device_are_errors(classifier, monkeypatch):
    def full(*_):
        raise RuntimeError("MPS backend out of memory")

    monkeypatch.setattr("cam.explanations.forward.to_device", full)
    results = run_forward(classifier, images(2), classifier.preprocessing)
    assert [str(result)[:93] for result in results] == [
        "Inputs of shape (2, 32, 32, 3) cannot be moved to cpu: MPS backend out of memory. Use a small"
    ] * 2


def test_a_network_that_ignores_the_batch_dimension_is_an_error(classifier):
    def engine(inputs):
        return classifier.forward(inputs[:1])[:2]

    for_one = replace(classifier, engine=engine)
    (alone,) = run_forward(for_one, images(1), classifier.preprocessing)
    assert result_or_raise(alone).logits.shape == (3,)
    results = run_forward(for_one, images(2), classifier.preprocessing)
    assert "gives 1 results and 1 features for 2 inputs. Give one image at a time (--batch-size 1)" in str(results[1])
