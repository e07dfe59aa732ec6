"""Bands are colors, opacity if the file declares it, or chosen by the caller."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from pictures import check_refused, gray, photograph, png, read, save, tiff
from PIL import Image
from runs import explain_into, lines
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ImageError, UsageError
from cam.images import read_image
from cam.images.io import resize
from cam.images.samples import ReadOptions


@pytest.mark.parametrize("dtype", ["<u1", "<u2", ">u2", "<f4"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize(
    ("photometric", "bands", "extra"),
    [
        (2, 4, None),
        (2, 4, (0,)),
        (2, 5, (0, 0)),
        (2, 5, None),
        (2, 5, (2, 0)),
        (2, 13, (0,) * 10),
        (1, 2, None),
        (1, 2, (0,)),
        (1, 3, (0, 0)),
        (1, 4, None),
        (1, 8, (2, 0, 0, 0, 0, 0, 0)),
        (3, 2, (0,)),
        (5, 5, (0,)),
        (6, 4, None),
        (8, 4, (0,)),
    ],
)
def test_more_bands_than_colors_are_chosen_or_refused(tmp_path, dtype, apart, squeeze, photometric, bands, extra):
    stored = np.random.default_rng(0).integers(0, 256, (6, 7, bands)).astype(dtype)
    squeeze = squeeze and dtype != "<f4"  # differences are of whole numbers
    data = tiff(stored, photometric=photometric, extra=extra, apart=apart, squeeze=squeeze)
    remedy = r"more than its colors\. Choose the bands to show, such as --bands 1,2,3, or"
    check_refused(tmp_path, data, f"has {bands} bands, {remedy}")
    span = (0, 255)
    last = read(tmp_path, data, bands=(bands,), value_range=span)
    assert np.array_equal(last, stored[..., -1:].repeat(3, 2))
    if bands > 2:
        mixed = read(tmp_path, data, bands=(3, 1, bands), value_range=span)
        assert np.array_equal(mixed, stored[..., [2, 0, bands - 1]])
    check_refused(tmp_path, data, f"has {bands} bands, and --bands names {bands + 1}", bands=(bands + 1,))


def test_bands_of_other_files(tmp_path):
    image = photograph()
    for name in ("a.png", "a.tiff", "a.ppm"):
        assert np.array_equal(read_image(save(tmp_path / name, image), bands=(3, 2, 1)), image[..., ::-1])
        assert np.array_equal(read_image(tmp_path / name, bands=(2,)), image[..., [1, 1, 1]])
    rgba = np.dstack([image, image[..., 0]])
    assert np.array_equal(read_image(save(tmp_path / "b.png", rgba), bands=(4, 1, 2)), rgba[..., [3, 0, 1]])
    with pytest.raises(ImageError, match="has 1 band, and --bands names 3"):
        read_image(save(tmp_path / "c.png", image[..., 0]), bands=(1, 2, 3))
    palette = Image.fromarray(image).quantize(16)
    palette.save(tmp_path / "d.png")
    assert np.array_equal(read_image(tmp_path / "d.png", bands=(1, 2, 3)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("dtype", ["<u1", "<u2"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("photometric", "colors"), [(0, 1), (1, 1), (2, 3)])
def test_declared_opacity_lies_over_white(tmp_path, dtype, apart, photometric, colors):
    """A fifth of black, or of white where white is zero."""
    top = np.iinfo(dtype).max
    stored = np.array([[[0] * colors + [top // 5], [0] * colors + [0]]] * 2, dtype)
    front = 255 if photometric == 0 else 0
    for extra in (1, 2):
        data = tiff(stored, photometric=photometric, extra=(extra,), apart=apart)
        assert gray(tmp_path, data) == [204 + front // 5 if extra == 2 or not front else 255, 255]


def test_opacity_of_floats_is_one_at_most(tmp_path):
    stored = np.array([[[0, 0.2], [10, 1], [10, 0], [0, 1]]] * 2, "<f4")
    assert gray(tmp_path, tiff(stored, extra=(2,)), value_range=(0, 10)) == [204, 255, 255, 0]


def test_opacity_of_sixteen_bits_in_a_png(tmp_path):
    stored = np.array([[32768, 65535], [65535, 65535], [0, 13107]], ">u2")
    data = png(3, 1, 16, 4, zlib.compress(b"\0" + stored.tobytes()))
    assert gray(tmp_path, data) == [128, 255, 204]
    key = struct.pack(">H", 32768), zlib.compress(b"\0" + stored[:, 0].tobytes())
    assert gray(tmp_path, png(3, 1, 16, 0, key[1], (b"tRNS", key[0]))) == [255, 255, 0]


def test_a_fourth_band_of_a_jpeg_2000_is_opacity_only_if_declared(tmp_path):
    file = io.BytesIO()
    Image.new("RGBA", (32, 32), (200, 0, 0, 0)).save(file, "JPEG2000")
    assert read(tmp_path, file.getvalue())[0, 0].tolist() == [255, 255, 255]
    undeclared = file.getvalue().replace(b"\0\3\0\1", b"\0\3\xff\xff")  # the kind of channel 3
    check_refused(tmp_path, undeclared, "has 4 bands, more than its colors")
    assert read(tmp_path, undeclared, bands=(1, 2, 3))[0, 0].tolist() == [200, 0, 0]


def test_the_first_page_counts(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (40000, 50000)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "a.tiff")[0, 0, 0] == 40000 >> 8


def test_orientation_of_deep_files(tmp_path):
    stored = np.array([[0, 65535, 65535], [65535] * 3], "<u2")
    image = read(tmp_path, tiff(stored, tags={274: ("H", 6)}))  # turned clockwise
    assert image.shape == (3, 2, 3)
    assert image[..., 0].tolist() == [[255, 0], [255, 255], [255, 255]]


# As the channels of a network


def five_channels() -> Classifier:
    """The first class is the mean of band 5, the second that of band 2, both in thousandths of 255."""
    network = nn.Sequential(nn.Conv2d(5, 5, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(5)[:, :, None, None])
        network[3].weight.zero_()
        network[3].weight[0, 4] = network[3].weight[1, 1] = 1
        network[3].bias.zero_()
    return cam.wrap(network.eval(), preprocessing=Preprocessing(8, (8, 8), (0.0,) * 5, (0.001,) * 5))


def test_bands_are_the_channels_of_a_network_that_takes_as_many(tmp_path):
    stored = (10 * np.arange(1, 7, dtype=np.uint8)) + np.zeros((8, 8, 6), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(stored))
    read_options = ReadOptions(bands=(6, 5, 4, 3, 2))  # 20 is last, 50 second
    explain_into(tmp_path / "out", five_channels(), tmp_path / "a.tif", read=read_options)
    (line,) = lines(tmp_path / "out")
    assert line["targets"][0]["class_idx"] == 1
    assert line["targets"][0]["logit"] == pytest.approx(1000 * 50 / 255, rel=1e-5)
    image = read_image(tmp_path / "a.tif", bands=(6, 5, 4, 3, 2))
    explanation = cam.explain(five_channels(), image, 0)
    assert explanation.logit == pytest.approx(1000 * 20 / 255, rel=1e-5)
    assert explanation.image[0, 0].tolist() == [60, 50, 40]  # drawn on the first three


@pytest.mark.parametrize("bands", [None, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_another_number_of_bands_is_refused_before_the_run(tmp_path, bands):
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((8, 8, 6), np.uint8)))
    count = 3 if bands is None or len(bands) == 1 else len(bands)
    with pytest.raises(UsageError, match=f"takes 5 channels, and images have {count}. Name its bands with --bands"):
        explain_into(tmp_path / "out", five_channels(), tmp_path / "a.tif", read=ReadOptions(bands=bands))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="takes 5 channels" if bands is None else "must be"):
        cam.explain(five_channels(), save(tmp_path / "b.png", photograph()) if bands is None else photograph())


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_many_bands_are_resized_one_by_one(interpolation):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 6), np.uint8)
    expected = [resize(image[..., start : start + 3], (7, 9), interpolation) for start in (0, 3)]
    assert np.array_equal(resize(image, (7, 9), interpolation), np.concatenate(expected, 2))
