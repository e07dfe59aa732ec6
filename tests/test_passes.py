from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import three_classes
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError
from cam.explanations.explain import explain_images
from cam.explanations.forward import result_or_raise, run_forward
from cam.explanations.options import TopClasses
from cam.heads.hooks import forward
from cam.images.io import resize


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return cam.wrap(three_classes(), input_size=32)


def pictures(count: int) -> list[np.ndarray]:
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
    results = run_forward(with_memory_for(classifier, 2, sizes), pictures(7), classifier.preprocessing)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    for result, image in zip(results, pictures(7), strict=True):
        (alone,) = run_forward(classifier, [image], classifier.preprocessing)
        torch.testing.assert_close(result_or_raise(result).logits, result_or_raise(alone).logits)


def test_an_image_that_does_not_fit_in_memory_is_an_error(classifier):
    results = run_forward(with_memory_for(classifier, 0, []), pictures(3), classifier.preprocessing)
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
    results = run_forward(classifier, pictures(3), classifier.preprocessing, mirrored=mirrored)
    inputs = torch.stack([classifier.preprocessing.prepare(picture)[0] for picture in pictures(3)])
    expected = classifier.network((inputs.flip(3) if mirrored else inputs).contiguous())
    torch.testing.assert_close(torch.stack([result_or_raise(result).logits for result in results]), expected.detach())


def test_inputs_that_cannot_be_moved_to_the_device_are_errors(classifier, monkeypatch):
    def full(*_: object) -> None:
        raise RuntimeError("MPS backend out of memory")

    monkeypatch.setattr("cam.explanations.forward.put", full)
    results = run_forward(classifier, pictures(2), classifier.preprocessing)
    assert [str(result)[:93] for result in results] == [
        "Inputs of shape (2, 32, 32, 3) cannot be moved to cpu: MPS backend out of memory. Use a small"
    ] * 2


def test_a_network_that_ignores_the_batch_dimension_is_an_error(classifier):
    def engine(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return classifier.forward(inputs[:1])[:2]

    for_one = replace(classifier, engine=engine)
    (alone,) = run_forward(for_one, pictures(1), classifier.preprocessing)
    assert result_or_raise(alone).logits.shape == (3,)
    results = run_forward(for_one, pictures(2), classifier.preprocessing)
    assert "gives 1 results and 1 features for 2 inputs. Give one image at a time (--batch-size 1)" in str(results[1])
