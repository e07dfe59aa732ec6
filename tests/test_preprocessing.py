"""Preprocessing makes what torchvision makes of a photograph, and records where it lies."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification

from cam.classifiers.load import load_network
from cam.classifiers.preprocessing import Preprocessing, multi_scale
from cam.errors import UsageError

IMAGENET = Preprocessing()
SIZES = {
    "landscape": (101, 160),
    "portrait": (160, 101),
    "square": (96, 96),
    "odd": (97, 99),
    "tiny": (5, 7),
    "one-pixel": (1, 1),
    "one-pixel-high": (1, 40),
    "one-pixel-wide": (40, 1),
    "panorama": (12, 300),
}


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


LEVEL = 1 / 255 / 0.224  # one of 255, after the normalization


def assert_within_two_levels(inputs: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(inputs, expected, rtol=0, atol=2.01 * LEVEL)
    differing = ((inputs - expected).abs() > 0.5 * LEVEL).float().mean()
    assert differing < 0.02  # of noise, the hardest there is; of photographs 0.003


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(73, 64), (64, 64), (48, 64)], ids=["crops", "fits", "pads"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_crop_is_torchvisions_of_a_tensor_and_within_two_levels_of_a_pillow_image(size, resize, crop, interpolation):
    mode = InterpolationMode(interpolation)
    scale, normalize = v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET.mean, IMAGENET.std)
    of_tensor = v2.Compose([v2.Resize(resize, mode), v2.CenterCrop(crop), scale, normalize])
    of_pillow = ImageClassification(crop_size=crop, resize_size=resize, interpolation=mode, antialias=True)
    inputs, frame = Preprocessing(resize, (crop, crop), interpolation=interpolation).prepare(photo(size))
    assert frame.input == (crop, crop)
    expected = of_tensor(torch.from_numpy(photo(size)).permute(2, 0, 1))
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-5)
    assert_within_two_levels(inputs, of_pillow(Image.fromarray(photo(size))))


@pytest.mark.parametrize("name", ["ResNet50_Weights", "EfficientNet_B0_Weights", "Inception_V3_Weights"])
def test_the_presets_of_published_weights_are_used(name):
    entry = getattr(torchvision.models, name).DEFAULT
    model = name.removesuffix("_Weights").lower()
    preprocessing = load_network(model, random_weights=True).preprocessing
    inputs, _ = preprocessing.prepare(photo((300, 260)))
    assert_within_two_levels(inputs, entry.transforms()(Image.fromarray(photo((300, 260)))))


def test_a_read_only_image_is_not_changed():
    image = photo((40, 50))
    expected, _ = Preprocessing(24, (24, 24)).prepare(image.copy())
    image.flags.writeable = False
    assert torch.equal(Preprocessing(24, (24, 24)).prepare(image)[0], expected)
    assert np.array_equal(image, photo((40, 50)))


@pytest.mark.parametrize("view", [np.s_[..., ::-1], np.s_[::-1], np.s_[:, ::2]], ids=["bgr", "upside-down", "thinned"])
def test_a_view_of_an_image_is_prepared_as_its_copy(view):
    seen = photo((40, 50))[view]
    preprocessing = Preprocessing(24, (24, 24))
    assert torch.equal(preprocessing.prepare(seen)[0], preprocessing.prepare(np.ascontiguousarray(seen))[0])


def test_nearest_is_torchvisions_of_a_pillow_image():
    theirs = ImageClassification(crop_size=24, resize_size=24, interpolation=InterpolationMode.NEAREST, antialias=True)
    inputs, _ = Preprocessing(24, (24, 24), interpolation="nearest").prepare(photo((40, 50)))
    torch.testing.assert_close(inputs, theirs(Image.fromarray(photo((40, 50)))), rtol=0, atol=1e-5)


def test_the_whole_image_contains_the_crop_at_the_same_scale():
    preprocessing = Preprocessing(64, (48, 48))
    crop, cut = preprocessing.prepare(photo((80, 120)), "crop")
    whole, frame = preprocessing.prepare(photo((80, 120)), "whole")
    assert whole.shape == (3, 64, 96)
    assert frame.seen == (0, 0, 120, 80)
    top, left = cut.offset
    assert torch.equal(whole[:, top : top + 48, left : left + 48], crop)


def test_the_models_fit_is_the_default():
    preprocessing = Preprocessing(32, (24, 24), fit="whole")
    assert preprocessing.prepare(photo((40, 80)))[0].shape == (3, 32, 64)
    assert preprocessing.prepare(photo((40, 80)), "crop")[0].shape == (3, 24, 24)


def test_one_channel_is_the_luminance():
    preprocessing = Preprocessing(2, (2, 2), mean=(0.5,), std=(0.25,))
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [200, 200, 200]]], np.uint8)
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    inputs, _ = preprocessing.prepare(image)
    assert inputs.shape == (1, 2, 2)
    np.testing.assert_allclose(inputs[0].numpy(), (gray / 255 - 0.5) / 0.25, atol=1e-5)


def test_padding_is_black():
    inputs, frame = Preprocessing(4, (8, 8), mean=(0, 0, 0), std=(1, 1, 1)).prepare(np.full((4, 4, 3), 255, np.uint8))
    assert frame.offset == (-2, -2)
    expected = torch.zeros(3, 8, 8)
    expected[:, 2:6, 2:6] = 1
    assert torch.equal(inputs, expected)


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize("size", [(1, 60000), (60000, 1)])
def test_a_line_of_pixels_does_not_fill_the_memory(size, fit):
    preprocessing = Preprocessing(224, (224, 224), mean=(0, 0, 0), std=(1, 1, 1))
    inputs, frame = preprocessing.prepare(np.full((*size, 3), 255, np.uint8), fit)  # resized at once: 12 GB
    assert inputs.shape[1:] == frame.input
    assert inputs.min() == inputs.max() == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_long_images_are_within_a_gray_level_of_torchvision(interpolation, monkeypatch):
    image = photo((9, 200))
    preprocessing = Preprocessing(60, (64, 64), mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation)
    expected, _ = preprocessing.prepare(image)
    monkeypatch.setattr("cam.classifiers.preprocessing._MAX_PIXELS", 0)
    inputs, _ = preprocessing.prepare(image)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5)}, "(0.5, 0.5)"),
        ({"mean": (), "std": ()}, "()"),
        ({"std": (0.2, 0, 0.2)}, "(0.2, 0, 0.2)"),
        ({"std": (0.2, -1, 0.2)}, "(0.2, -1, 0.2)"),
        ({"std": (0.2, float("nan"), 0.2)}, "nan"),
        ({"std": (0.2, float("inf"), 0.2)}, "inf"),
        ({"mean": (0.2, float("nan"), 0.2)}, "nan"),
        ({"resize": 0}, "resize must be pixels, and crop (H, W) in pixels, got 0"),
        ({"resize": (96, 96, 3)}, "got (96, 96, 3) and"),
        ({"resize": (96, 0)}, "got (96, 0) and"),
        ({"fit": "squash"}, "fit must be one of crop, whole, stretch, got 'squash'"),
        ({"crop": (4, -1)}, "crop (H, W) in pixels, got 224 and (4, -1)"),
        ({"crop": 96}, "crop (H, W) in pixels, got 224 and 96"),
        ({"mean": 0.5}, "got 0.5 and (0.229, 0.224, 0.225)"),
        ({"interpolation": "best"}, "'best'"),
    ],
)
def test_invalid_values_are_refused(changes, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Preprocessing(**changes).prepare(photo((20, 30)))


def test_sizes_are_rounded_as_torchvision_does():
    image = photo((59, 59))
    inputs, frame = Preprocessing(59, (64, 64), mean=(0,), std=(1,)).prepare(image)
    assert frame.offset == (-2, -2)
    padded = v2.CenterCrop(64)(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(inputs[0] > 0, padded.any(0))
    assert Preprocessing(64, (59, 60)).frame((64, 64)).offset == (2, 2)  # 2.5 and 2, to even


def test_scaled_inputs_have_the_nearest_whole_size():
    assert IMAGENET.scaled(1.15).crop == (258, 258)  # 257.6
    assert replace(IMAGENET, resize=256).scaled(1.15).resize == 294  # 294.4
    (finer,) = multi_scale(IMAGENET, 230, tta=False)
    assert (finer.resize, finer.crop) == (230, (230, 230))
    (finer,) = multi_scale(Preprocessing(256, (224, 448)), 230, tta=False)
    assert (finer.resize, finer.crop) == (263, (230, 460))  # 262.9
    assert [size.crop[0] for size in multi_scale(IMAGENET, None, tta=True)] == [448, 336, 224]
