from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification

from cam.classifiers.preprocessing import Preprocessing
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
CASES = [
    pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"]),
    pytest.mark.parametrize(("resize", "crop"), [(73, 64), (64, 64), (48, 64)], ids=["crops", "fits", "pads"]),
    pytest.mark.parametrize("size", SIZES.values(), ids=SIZES),
]


def each_case(test):
    for mark in CASES:
        test = mark(test)
    return test


def assert_within_two_levels(made: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(made, expected, rtol=0, atol=2.01 * LEVEL)
    differing = ((made - expected).abs() > 0.5 * LEVEL).float().mean()
    assert differing < 0.02  # of noise, the hardest there is; of photographs 0.003


@each_case
def test_crop_is_torchvisions_own_of_a_tensor(size, resize, crop, interpolation):
    theirs = v2.Compose(
        [
            v2.Resize(resize, InterpolationMode(interpolation)),
            v2.CenterCrop(crop),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    made, frame = Preprocessing(resize, (crop, crop), interpolation=interpolation).prepare(photo(size))
    assert frame.input == (crop, crop)
    expected = theirs(torch.from_numpy(photo(size)).permute(2, 0, 1))
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@each_case
def test_crop_is_within_two_levels_of_torchvisions_own_of_a_picture(size, resize, crop, interpolation):
    theirs = ImageClassification(
        crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation), antialias=True
    )
    made, _ = Preprocessing(resize, (crop, crop), interpolation=interpolation).prepare(photo(size))
    assert_within_two_levels(made, theirs(Image.fromarray(photo(size))))


@pytest.mark.parametrize("name", ["ResNet50_Weights", "EfficientNet_B0_Weights", "Inception_V3_Weights"])
def test_presets_of_published_weights_are_taken_over(name):
    import torchvision

    from cam.classifiers.sources.registry import build_network

    entry = getattr(torchvision.models, name).DEFAULT
    model = name.removesuffix("_Weights").lower()
    looks = build_network(model, random_weights=True).preprocessing
    made, _ = looks.prepare(photo((300, 260)))
    assert_within_two_levels(made, entry.transforms()(Image.fromarray(photo((300, 260)))))


def test_a_picture_that_must_not_be_written_to_is_left_alone():
    image = photo((40, 50))
    expected, _ = Preprocessing(24, (24, 24)).prepare(image.copy())
    image.flags.writeable = False
    assert torch.equal(Preprocessing(24, (24, 24)).prepare(image)[0], expected)
    assert np.array_equal(image, photo((40, 50)))


@pytest.mark.parametrize("view", [np.s_[..., ::-1], np.s_[::-1], np.s_[:, ::2]], ids=["bgr", "upside-down", "thinned"])
def test_a_view_of_a_picture_is_the_picture_that_it_shows(view):
    seen = photo((40, 50))[view]
    looks = Preprocessing(24, (24, 24))
    assert torch.equal(looks.prepare(seen)[0], looks.prepare(np.ascontiguousarray(seen))[0])


def test_nearest_is_torchvisions_own_of_a_picture():
    theirs = ImageClassification(crop_size=24, resize_size=24, interpolation=InterpolationMode.NEAREST, antialias=True)
    made, _ = Preprocessing(24, (24, 24), interpolation="nearest").prepare(photo((40, 50)))
    torch.testing.assert_close(made, theirs(Image.fromarray(photo((40, 50)))), rtol=0, atol=1e-5)


def test_whole_at_the_same_scale_holds_the_crop():
    looks = Preprocessing(64, (48, 48))
    crop, cut = looks.prepare(photo((80, 120)), "crop")
    whole, frame = looks.prepare(photo((80, 120)), "whole")
    assert whole.shape == (3, 64, 96)
    assert frame.seen == (0, 0, 120, 80)
    top, left = cut.offset
    assert torch.equal(whole[:, top : top + 48, left : left + 48], crop)


def test_own_fit_is_the_default():
    looks = Preprocessing(32, (24, 24), fit="whole")
    assert looks.prepare(photo((40, 80)))[0].shape == (3, 32, 64)
    assert looks.prepare(photo((40, 80)), "crop")[0].shape == (3, 24, 24)


def test_one_channel_is_the_luminance():
    looks = Preprocessing(2, (2, 2), mean=(0.5,), std=(0.25,))
    image = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [200, 200, 200]]], np.uint8)
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    made, _ = looks.prepare(image)
    assert made.shape == (1, 2, 2)
    np.testing.assert_allclose(made[0].numpy(), (gray / 255 - 0.5) / 0.25, atol=1e-5)


def test_padding_is_black():
    made, frame = Preprocessing(4, (8, 8), mean=(0, 0, 0), std=(1, 1, 1)).prepare(np.full((4, 4, 3), 255, np.uint8))
    assert frame.offset == (-2, -2)
    expected = torch.zeros(3, 8, 8)
    expected[:, 2:6, 2:6] = 1
    assert torch.equal(made, expected)


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize("size", [(1, 60000), (60000, 1)])
def test_a_line_of_pixels_does_not_fill_the_memory(size, fit):
    looks = Preprocessing(224, (224, 224), mean=(0, 0, 0), std=(1, 1, 1))
    made, frame = looks.prepare(np.full((*size, 3), 255, np.uint8), fit)  # resized at once: 12 GB
    assert made.shape[1:] == frame.input
    assert made.min() == made.max() == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_long_pictures_are_within_a_gray_level_of_torchvision(interpolation, monkeypatch):
    image = photo((9, 200))
    looks = Preprocessing(60, (64, 64), mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation)
    expected, _ = looks.prepare(image)
    monkeypatch.setattr("cam.classifiers.preprocessing._MAX_PIXELS", 0)
    made, _ = looks.prepare(image)
    torch.testing.assert_close(made, expected, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"mean": (0.5, 0.5)}, "(0.5, 0.5)"),
        ({"mean": (0.5, 0.5), "std": (0.5, 0.5)}, "(0.5, 0.5)"),
        ({"std": (0.2, 0, 0.2)}, "(0.2, 0, 0.2)"),
        ({"std": (0.2, -1, 0.2)}, "(0.2, -1, 0.2)"),
        ({"std": (0.2, float("nan"), 0.2)}, "nan"),
        ({"std": (0.2, float("inf"), 0.2)}, "inf"),
        ({"mean": (0.2, float("nan"), 0.2)}, "nan"),
        ({"resize": 0}, "at least 1 pixel, got 0"),
        ({"crop": (4, -1)}, "at least 1 pixel, got -1"),
        ({"interpolation": "best"}, "'best'"),
    ],
)
def test_figures_that_cannot_be_right_are_refused(changes, found):
    with pytest.raises(UsageError) as refusal:
        Preprocessing(**changes).prepare(photo((20, 30)))
    assert found in str(refusal.value)
