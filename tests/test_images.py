"""Pictures of every form are read as they look, and resized as torchvision does it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pictures import photograph, png, save
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from cam.errors import UsageError
from cam.images.io import read_image, resize

# What is read


def test_lossless_formats_come_back_to_the_bit(tmp_path: Path) -> None:
    array = photograph()
    for suffix in ("png", "bmp", "tiff", "ppm"):
        assert np.array_equal(read_image(save(tmp_path / f"a.{suffix}", array)), array)


def test_the_array_is_writable_and_contiguous(tmp_path: Path) -> None:
    array = read_image(save(tmp_path / "a.png", photograph()))
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.dtype == np.uint8


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "00"), (2, "01"), (3, "11"), (4, "10"), (5, "00"), (6, "01"), (7, "11"), (8, "10")],
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_exif_orientations_are_undone(tmp_path: Path, orientation: int, corner: str, suffix: str) -> None:
    """A red marker stored at the top left belongs, by the EXIF standard, at `corner` (bottom, right)."""
    stored = np.full((16, 32, 3), 255, np.uint8)
    stored[:4, :6] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_image(save(tmp_path / f"a.{suffix}", stored, exif=exif))
    assert upright.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    found = {
        f"{int(bottom)}{int(right)}"
        for bottom in (False, True)
        for right in (False, True)
        if upright[-1 if bottom else 0, -1 if right else 0, 1] < 128
    }
    assert found == {corner}


def test_broken_exif_does_not_spoil_sound_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.full((8, 8, 3), 200, np.uint8), exif=b"Exif\0\0no TIFF header at all")
    assert np.array_equal(read_image(path), np.full((8, 8, 3), 200))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    gray = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", gray))
    assert image[0].tolist() == [[value] * 3 for value in (0, 0, 1, 128, 255)]


def test_sixteen_bit_color_agrees_with_sixteen_bit_gray(tmp_path: Path) -> None:
    values = (0, 255, 256, 32768, 65535)
    rows = b"\0" + b"".join(struct.pack(">HHH", value, value, value) for value in values)
    (tmp_path / "a.png").write_bytes(png(5, 1, 16, 2, rows))
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 0, 1, 128, 255]


def test_gray_and_one_bit_become_three_channels(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.png", np.array([[0, 77]], np.uint8))).tolist() == [[[0] * 3, [77] * 3]]
    assert read_image(save(tmp_path / "b.png", np.array([[False, True]]))).tolist() == [[[0] * 3, [255] * 3]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg")[4, 4].tolist()
    assert red < 5
    assert min(green, blue) > 250


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    image = read_image(save(tmp_path / "a.png", rgba))
    assert image.tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]  # 255 - 51
    la = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert read_image(save(tmp_path / "b.png", la)).tolist() == [[[10] * 3, [255] * 3]]


def test_transparent_palette_entries_lie_over_white(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    for suffix in ("png", "gif"):
        picture.save(tmp_path / f"a.{suffix}", transparency=1)
        assert read_image(tmp_path / f"a.{suffix}").tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 0, 255))]
    options: dict[str, object] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert read_image(tmp_path / f"a.{suffix}")[0, 0].tolist() == [255, 0, 0]


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(5, 7))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), photograph(5, 7))


# Resizing


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(7, 9), (24, 11), (61, 50)])
def test_resize_is_that_of_torchvision(interpolation: str, size: tuple[int, int]) -> None:
    image = photograph()
    theirs = F.resize(Image.fromarray(image), list(size), InterpolationMode(interpolation))
    assert np.array_equal(resize(image, size, interpolation), np.asarray(theirs))


def test_resize_refuses_unknown_interpolations() -> None:
    with pytest.raises(UsageError, match=r"interpolation must be one of .*bicubic.*, got 'cubic'"):
        resize(photograph(), (2, 2), "cubic")
