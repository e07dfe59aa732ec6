from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import three_classes

import cam
from cam.classifiers import Classifier
from cam.errors import ModelError
from cam.features import forward
from cam.images import resize
from cam.passes import run_network, sound
from cam.pipeline import explain_images
from cam.targets import TopClasses


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return cam.wrap(three_classes(), input_size=32)


def pictures(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8) for seed in range(count)]


def with_room_for(classifier: Classifier, most: int, sizes: list[int]) -> Classifier:
    """A device whose memory holds so many pictures."""

    def engine(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(classifier.network, classifier.head.site, inputs)

    return replace(classifier, engine=engine)


def test_a_batch_without_room_is_run_in_halves(classifier):
    sizes: list[int] = []
    found = run_network(with_room_for(classifier, 2, sizes), pictures(7), classifier.preprocessing)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    for ours, alone in zip(found, pictures(7), strict=True):
        (theirs,) = run_network(classifier, [alone], classifier.preprocessing)
        torch.testing.assert_close(sound(ours).logits, sound(theirs).logits)


def test_a_picture_without_room_is_its_own_error(classifier):
    results = run_network(with_room_for(classifier, 0, []), pictures(3), classifier.preprocessing)
    assert all(isinstance(result, ModelError) for result in results)
    assert "out of memory" in str(results[0])


def test_a_smaller_copy_of_a_photograph_keeps_the_photographs_pixels(classifier):
    y, x = np.mgrid[:400, :600]
    photo = np.stack([x / 3, y / 2, 255 - x / 3], 2).astype(np.uint8)
    small = resize(photo, (200, 300))
    ((one,),) = explain_images(classifier, [photo], [(TopClasses(1),)])
    ((two,),) = explain_images(classifier, [small], [(TopClasses(1),)], photos=[(400, 600)])
    assert two.frame == one.frame
    assert two.heat().shape == (400, 600)
    assert two.class_idx == one.class_idx
    assert two.logit == pytest.approx(one.logit, abs=0.02)
    np.testing.assert_allclose(two.cam, one.cam, atol=0.1 * one.limit)
    assert max(abs(a - b) for a, b in zip(two.peak, one.peak, strict=True)) <= 2
    assert two.overlay().shape == (200, 300, 3)
    assert one.overlay(max_side=150).shape == (100, 150, 3)
