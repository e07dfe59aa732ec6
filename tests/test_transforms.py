"""Preprocessing by a callable: the same pixels as the callable, and heat where the callable put the image."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from small import photo
from torch import nn
from torchvision import transforms
from torchvision.models import ResNet18_Weights
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import hflip, rotate, to_tensor

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.transforms import MeasuredPreprocessing, as_preprocessing
from cam.errors import ModelError, UsageError
from cam.maps.geometry import Frame

NORMALIZE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SIZES = (120, 90), (61, 200), (80, 80)


def compose(*steps):
    return transforms.Compose([*steps, transforms.ToTensor(), NORMALIZE])


def letterbox(image):
    """Pad to a square with gray, then resize: no Preprocessing does that."""
    side = max(image.size)
    return to_tensor(ImageOps.pad(image, (side, side), color=(124, 116, 104)).resize((64, 64)))


PLAIN = {
    "crop": (compose(transforms.Resize(48), transforms.CenterCrop(32)), 48, (32, 32), "bilinear", "crop"),
    "squash": (compose(transforms.Resize((40, 56))), (40, 56), (40, 56), "bilinear", "crop"),
    "squash and crop": (
        compose(transforms.Resize((40, 56), InterpolationMode.BICUBIC), transforms.CenterCrop(32)),
        (40, 56),
        (32, 32),
        "bicubic",
        "crop",
    ),
    "lanczos": (
        compose(transforms.Resize(40, InterpolationMode.LANCZOS), transforms.CenterCrop(40)),
        40,
        (40, 40),
        "lanczos",
        "crop",
    ),
    "preset": (ResNet18_Weights.IMAGENET1K_V1.transforms(), 256, (224, 224), "bilinear", "crop"),
    "whole": (compose(transforms.Resize(48)), 48, (48, 48), "bilinear", "whole"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_transform_becomes_a_preprocessing_with_the_same_pixels(name):
    transform, resize, crop, interpolation, fit = PLAIN[name]
    preprocessing = as_preprocessing(transform)
    assert preprocessing == Preprocessing(resize, crop, interpolation=interpolation, fit=fit, backend="pillow")
    for size in SIZES:
        image = photo(*size)
        expected = transform(Image.fromarray(image))
        np.testing.assert_allclose(preprocessing.prepare(image)[0], expected, atol=1e-5)


def test_transforms_of_tensors_resize_as_torch_does():
    steps = [v2.ToImage(), v2.Resize(48), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize([0.5], [0.25])])
    preprocessing = as_preprocessing(transform)
    assert preprocessing == Preprocessing(48, (32, 32), (0.5,) * 3, (0.25,) * 3)
    np.testing.assert_allclose(
        preprocessing.prepare(photo(99, 70))[0], transform(Image.fromarray(photo(99, 70))), atol=1e-5
    )


def test_transforms_may_take_tensors_or_arrays():
    steps = v2.Resize(48), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True)
    expected = Preprocessing(48, (32, 32), (0.0,) * 3, (1.0,) * 3)
    assert as_preprocessing(v2.Compose(steps)) == expected  # leaves Pillow images as they are
    shrink = cv2.INTER_AREA

    def for_arrays(image):
        return (
            torch.from_numpy(cv2.resize(image[..., ::-1].copy(), (40, 40), interpolation=shrink)).permute(2, 0, 1) / 255
        )

    measured = as_preprocessing(for_arrays)
    assert isinstance(measured, MeasuredPreprocessing)
    tensor, frame = measured.prepare(photo(80, 120))
    assert tensor.equal(for_arrays(photo(80, 120)))
    assert frame == Frame((80, 120), (40, 40), (0, 0), (40, 40))


OWN = {
    "letterbox": (letterbox, (60, 120), Frame((60, 120), (32, 64), (-16, 0), (64, 64))),
    "bands in another order": (
        lambda image: to_tensor(image.resize((40, 40)))[[2, 1, 0]],
        (60, 120),
        Frame((60, 120), (40, 40), (0, 0), (40, 40)),
    ),
    "box cut out": (
        lambda image: to_tensor(image.crop((20, 10, 100, 50)).resize((40, 40))),
        (60, 120),
        Frame((60, 120), (60, 60), (10, 10), (40, 40)),
    ),
    "floats": (
        transforms.Compose([transforms.ToTensor(), transforms.Resize(30), transforms.CenterCrop(20)]),
        (60, 120),
        Frame((60, 120), (30, 60), (5, 20), (20, 20)),
    ),
    "gray": (
        transforms.Compose([transforms.Grayscale(), transforms.Resize((30, 30)), transforms.ToTensor()]),
        (60, 120),
        Frame((60, 120), (30, 30), (0, 0), (30, 30)),
    ),
    "a mapping with a batch": (
        lambda image: {"pixel_values": [to_tensor(image.resize((40, 40))).numpy() * 2 - 1.5]},
        (60, 120),
        Frame((60, 120), (40, 40), (0, 0), (40, 40)),
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_frames_are_where_the_transform_put_the_image(name):
    transform, size, frame = OWN[name]
    assert as_preprocessing(transform).frame(size) == frame


@pytest.mark.parametrize("name", ["letterbox", "bands in another order", "floats", "gray"])
def test_another_transform_is_run_itself(name):
    transform = OWN[name][0]
    preprocessing = as_preprocessing(transform)
    assert isinstance(preprocessing, MeasuredPreprocessing)
    tensor, frame = preprocessing.prepare(photo(60, 120))
    assert tensor.equal(transform(Image.fromarray(photo(60, 120))))
    assert frame == OWN[name][2]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (compose(transforms.RandomResizedCrop(32)), "preprocessing is random"),
        (compose(transforms.RandomHorizontalFlip(), transforms.Resize((32, 32))), "preprocessing is random"),
        (lambda image: to_tensor(hflip(image)), "turns, mirrors or bends"),
        (lambda image: to_tensor(rotate(image.resize((64, 64)), 20)), "turns, mirrors or bends"),
        (lambda image: to_tensor(image).transpose(1, 2), "turns, mirrors or bends"),
        (lambda image: to_tensor(image) / to_tensor(image).std(), "turns, mirrors or bends"),
        (transforms.Resize(32), "fails on a Image|must give (channels, H, W) floats"),
        (transforms.PILToTensor(), "must give (channels, H, W) floats, got (3, 300, 400) torch.uint8"),
        (Preprocessing, "must be a cam.Preprocessing or a callable, got type"),
    ],
)
def test_what_cannot_be_placed_is_refused(transform, message):
    with pytest.raises((UsageError, ModelError), match="|".join(map(re.escape, message.split("|")))):
        as_preprocessing(transform)


def brightest(side=16):
    """A network whose map is the brightness of its input."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0] = 1
        network[3].weight[0, 0] = 3
    return network.eval()


def test_heat_lies_where_a_letterboxed_image_is_bright():
    image = np.zeros((60, 120, 3), np.uint8)
    image[10:20, 90:110] = 255
    classifier = cam.wrap(brightest(), preprocessing=letterbox)
    explanation = cam.explain(classifier, image, 0)
    assert explanation.heat().shape == (60, 120)
    y, x = np.unravel_index(np.nanargmax(explanation.heat()), (60, 120))
    assert 10 <= y < 20
    assert 90 <= x < 110
    assert classifier.notes[0] == "input 64x64, by function, run for each image: as given"
    with pytest.raises(UsageError, match="fit 'whole' is not possible with preprocessing by function"):
        cam.explain(classifier, image, 0, fit="whole")
    with pytest.raises(UsageError, match="another resolution is not possible"):
        cam.explain(classifier, image, 0, resolution=128)


def test_logits_are_those_of_the_users_own_code():
    transform = compose(transforms.Resize((20, 28)))
    network = brightest()
    image = photo(60, 120)
    with torch.inference_mode():
        expected = network(transform(Image.fromarray(image))[None])[0]
    for preprocessing in (transform, lambda picture: transform(picture)):  # a lambda is measured the same way
        explanation = cam.explain(cam.wrap(network, preprocessing=preprocessing), image, 0)
        assert explanation.logit == pytest.approx(expected[0].item(), abs=1e-5)


def test_an_image_on_which_the_transform_fails_costs_only_itself():
    def transform(image):
        if image.getpixel((0, 0))[0] == 7:
            raise ValueError("seven")
        return to_tensor(ImageOps.mirror(ImageOps.mirror(image)).resize((40, 40)))[[2, 1, 0]]

    classifier = cam.wrap(brightest(), preprocessing=transform)
    good, bad = photo(60, 120), np.full((60, 120, 3), 7, np.uint8)
    results = cam.explain_all(classifier, [good, bad])
    assert next(results).cam.shape == (40, 40)
    with pytest.raises(ModelError, match="preprocessing function fails on a Image: seven"):
        next(results)


def test_run_json_is_the_same_in_every_process():
    found = as_preprocessing(letterbox).to_json()["transform"]
    assert (found.split()[:2], " at 0x" in found) == (["<function", "letterbox>"], False)
