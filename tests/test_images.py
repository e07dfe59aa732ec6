"""Images of every form are read as they look, resized as by torchvision, and written whole or not at all."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import photograph, png, save
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from cam.errors import OutputError, UsageError
from cam.files import write_whole
from cam.images import find_pictures
from cam.images.io import encode, read_image, resize, write_image

# Reading


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", photograph()))
    assert np.array_equal(image, photograph())
    assert image.flags.writeable
    assert image.flags.c_contiguous
    assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, "00"), (2, "01"), (3, "11"), (4, "10"), (5, "00"), (6, "01"), (7, "11"), (8, "10")]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, corner, suffix):
    """A red marker stored at the top left belongs, by the EXIF standard, at `corner` (bottom, right)."""
    stored = np.full((16, 32, 3), 255, np.uint8)
    stored[:4, :6] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_image(save(tmp_path / f"a.{suffix}", stored, exif=exif))
    assert upright.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    red = {f"{bottom}{right}" for bottom in (0, 1) for right in (0, 1) if upright[-bottom, -right, 1] < 128}
    assert red == {corner}


def test_broken_exif_does_not_spoil_sound_pixels(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((8, 8, 3), 200, np.uint8), exif=b"Exif\0\0no TIFF header at all")
    assert np.array_equal(read_image(path), np.full((8, 8, 3), 200))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, suffix):
    gray = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", gray))
    assert image[0].tolist() == [[value] * 3 for value in (0, 0, 1, 128, 255)]


def test_sixteen_bit_color_is_scaled_as_gray_is(tmp_path):
    rows = b"\0" + b"".join(struct.pack(">HHH", *[value] * 3) for value in (0, 255, 256, 32768, 65535))
    (tmp_path / "a.png").write_bytes(png(5, 1, 16, 2, zlib.compress(rows)))
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 0, 1, 128, 255]


def test_gray_and_one_bit_become_three_channels(tmp_path):
    assert read_image(save(tmp_path / "a.png", np.array([[0, 77]], np.uint8))).tolist() == [[[0] * 3, [77] * 3]]
    assert read_image(save(tmp_path / "b.png", np.array([[False, True]]))).tolist() == [[[0] * 3, [255] * 3]]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg")[4, 4].tolist()
    assert red < 5
    assert min(green, blue) > 250


def test_transparency_lies_over_white(tmp_path):
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    image = read_image(save(tmp_path / "a.png", rgba))
    assert image.tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]  # 255 - 51
    la = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert read_image(save(tmp_path / "b.png", la)).tolist() == [[[10] * 3, [255] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    for suffix in ("png", "gif"):
        palette.save(tmp_path / f"c.{suffix}", transparency=1)
        assert read_image(tmp_path / f"c.{suffix}").tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 0, 255))]
    options: dict[str, object] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert read_image(tmp_path / f"a.{suffix}")[0, 0].tolist() == [255, 0, 0]


def test_heic_is_read_with_its_extra(tmp_path):
    """A phone stores the turned sensor's pixels, and how to turn them."""
    heif = pytest.importorskip("pillow_heif")
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:32, :48] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.from_pillow(Image.fromarray(stored)).save(tmp_path / "a.heic", quality=100, exif=exif.tobytes())
    image = read_image(find_pictures([tmp_path])[0].path)
    assert image.shape == (96, 64, 3)
    assert (image[[10, 10, -10, -10], [10, -10, 10, -10], 1] > 128).tolist() == [False, True, False, False]


def test_the_content_counts_not_the_suffix(tmp_path):
    path = save(tmp_path / "a.png", photograph(5, 7)).rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(path), photograph(5, 7))


# Resizing


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(7, 9), (24, 11), (61, 50)])
def test_resize_equals_torchvision(interpolation, size):
    expected = F.resize(Image.fromarray(photograph()), list(size), InterpolationMode(interpolation))
    assert np.array_equal(resize(photograph(), size, interpolation), np.asarray(expected))


def test_resize_refuses_unknown_interpolations():
    with pytest.raises(UsageError, match=r"interpolation must be one of .*bicubic.*, got 'cubic'"):
        resize(photograph(), (2, 2), "cubic")


# Writing


def test_png_keeps_every_pixel_and_the_order_of_colors(tmp_path):
    write_image(tmp_path / "new" / "folder" / "a.png", photograph())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "folder" / "a.png")), photograph())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_close(suffix):
    image = photograph(240, 320)
    decoded = Image.open(io.BytesIO(encode(image, suffix)))
    assert decoded.format == {".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    assert np.abs(np.asarray(decoded.convert("RGB")).astype(int) - image).mean() < 2
    assert len(encode(image, suffix, quality=20)) < len(encode(image, suffix))


def test_images_that_cannot_be_encoded():
    with pytest.raises(UsageError, match=r"'\.gif' is not a format that can be written\. Use \.jpg, \.png, \.webp"):
        encode(photograph(), ".gif")
    with pytest.raises(OutputError, match=r"a \.webp file cannot hold 16384 x 1 pixels\. Use \.png"):
        encode(np.zeros((1, 16384, 3), np.uint8), ".webp")


@pytest.mark.parametrize(("suffix", "longest"), [(".jpg", 65500), (".webp", 16383), (".png", 1_000_000)])
def test_the_longest_sides_can_be_encoded(suffix, longest):
    assert Image.open(io.BytesIO(encode(np.zeros((1, longest, 3), np.uint8), suffix))).size == (longest, 1)


def test_written_files_have_default_permissions_and_replace_older_ones(tmp_path):
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "plain"]


@pytest.mark.parametrize("method", ["replace", "open"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, method, error):
    write_whole(tmp_path / "a", b"old")
    original = Path.open

    def fail(self, *mode):
        if method == "open":
            with original(self, "wb") as file:
                file.write(b"ne")
        raise error

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        write_whole(tmp_path / "a", b"new")
    monkeypatch.undo()
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device). Choose another" in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("n" * 300), tmp_path / "nu\0ll"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_whole(path, b"data")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(("largest", "value"), [(255, 255), (256, 1)])
def test_a_palette_of_sixteen_bits_has_a_color_over_255(tmp_path, largest, value):
    palette = Image.new("P", (2, 2), 3)
    palette.putpalette([0, 0, 0] * 3 + [0, 0, 171])
    palette.save(tmp_path / "a.tiff")
    head, stored, tail = (tmp_path / "a.tiff").read_bytes().rpartition(struct.pack("<H", 171 << 8))
    assert stored
    data = head + struct.pack("<H", largest) + tail
    (tmp_path / "a.tiff").write_bytes(data)
    assert read_image(tmp_path / "a.tiff")[0, 0].tolist() == [0, 0, value]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0, 0].tolist() == [value, 0, 0]
