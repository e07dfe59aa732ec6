"""Real weights on real photographs; skipped where they are absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from placements import Pasted, paste, placement_errors, recognised

import cam
from cam.scenes import compose, uci_digits

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> cam.Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_data / "torch_home"))
        return cam.load_classifier("squeezenet1_0")


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "imagenet" / "images").iterdir())


def cifar_resnet(shared_data: Path, depth: int) -> cam.Classifier:
    (weights,) = (shared_data / "cifar10" / "weights").glob(f"resnet{depth}-*")
    return cam.load_classifier(f"cifar-resnet{depth}", weights=weights)


def test_squeezenet_on_photographs(squeezenet: cam.Classifier, photographs: list[Path]) -> None:
    explanations = list(cam.explain_all(squeezenet, photographs))
    right = sum(explanation.class_idx == 10 * index for index, explanation in enumerate(explanations))
    assert 56 <= right <= 66
    assert max(explanation.completeness_error for explanation in explanations) <= 1e-4
    named = sum(e.label.replace(" ", "_") in p.name for e, p in zip(explanations, photographs, strict=True))
    assert named >= right - 5  # some names are spelt differently


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnets_on_their_pictures(shared_data: Path, depth: int) -> None:
    classifier = cifar_resnet(shared_data, depth)
    files = sorted((shared_data / "cifar10" / "images").glob("*/*.jpg"))
    explanations = list(cam.explain_all(classifier, files, batch_size=100))
    right = sum(e.label == file.parent.name for e, file in zip(explanations, files, strict=True))
    assert right / len(files) >= 0.75
    assert max(explanation.completeness_error for explanation in explanations) <= 1e-4


def assert_measured_is_best(errors: dict[str, NDArray[np.float64]]) -> None:
    """Not above the better of the two others by more than the scenes can tell: two standard errors."""
    better = min(("arithmetic", "stretched"), key=lambda name: errors[name].mean())
    difference = errors["measured"] - errors[better]
    assert difference.mean() <= 2 * difference.std() / len(difference) ** 0.5, {k: v.mean() for k, v in errors.items()}


def test_measured_centres_place_squeezenet(squeezenet: cam.Classifier, photographs: list[Path]) -> None:
    """Objects of 72 pixels in 224, of those pictures that are still recognised when they are so small."""
    classifier = replace(squeezenet, preprocessing=replace(squeezenet.preprocessing, resize=224))
    grey = (124, 116, 104)
    tried = recognised(classifier, paste(photographs, range(0, 1000, 10), 224, 72, 1, grey))
    classes = sorted({scene.class_idx for _, scene in tried})
    found = recognised(classifier, paste([photographs[c // 10] for c in classes], classes, 224, 72, 12, grey))
    errors = placement_errors(classifier, found)
    assert len(found) >= 100
    assert_measured_is_best(errors)
    assert errors["measured"].mean() <= 0.9 * errors["stretched"].mean()


@pytest.mark.parametrize("depth", [20, 56])
def test_measured_centres_place_cifar_resnets(shared_data: Path, depth: int) -> None:
    """Objects of 32 pixels in 64, on black, where the networks recognise most of them."""
    classifier = cifar_resnet(shared_data, depth)
    classifier = replace(classifier, preprocessing=replace(classifier.preprocessing, resize=64, crop=(64, 64)))
    files = sorted((shared_data / "cifar10" / "images").glob("*/*.jpg"))[::5]
    classes = [CIFAR.index(file.parent.name) for file in files]
    found = recognised(classifier, paste(files, classes, 64, 32, 4, (0, 0, 0)))
    errors = placement_errors(classifier, found)
    assert len(found) >= 400
    assert_measured_is_best(errors)


def test_measured_centres_place_digits() -> None:
    classifier = cam.load_classifier("digits", device="cpu")
    glyphs, classes = uci_digits("test")
    rng = np.random.default_rng(5)
    scenes = []
    for index in rng.integers(len(glyphs), size=400):
        scene = compose([glyphs[index]], [int(classes[index])], classifier.preprocessing.crop, rng)
        x0, y0, x1, y1 = scene.boxes[0]
        scenes.append(Pasted(scene.image, int(classes[index]), ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2)))
    errors = placement_errors(classifier, recognised(classifier, scenes))
    assert_measured_is_best(errors)
    assert errors["measured"].mean() < 0.95 * errors["stretched"].mean()
