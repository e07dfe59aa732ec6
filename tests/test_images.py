from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from cam.errors import ImageError, OutputError, UsageError
from cam.files import write_whole
from cam.images import encode, read_image, resize, write_image

FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]


def photograph(height: int = 24, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (width, height)))


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(width: int, height: int, bits: int = 1, colour_type: int = 0, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


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
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", grey))
    assert image[0].tolist() == [[value] * 3 for value in (0, 0, 1, 128, 255)]


def test_sixteen_bit_colour_agrees_with_sixteen_bit_grey(tmp_path: Path) -> None:
    values = (0, 255, 256, 32768, 65535)
    rows = b"\0" + b"".join(struct.pack(">HHH", value, value, value) for value in values)
    (tmp_path / "a.png").write_bytes(png(5, 1, bits=16, colour_type=2, rows=rows))
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 0, 1, 128, 255]


def test_grey_and_one_bit_become_three_channels(tmp_path: Path) -> None:
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
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options: dict[str, object] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert read_image(tmp_path / f"a.{suffix}")[0, 0].tolist() == [255, 0, 0]


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photograph(5, 7))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), photograph(5, 7))


# What is refused


def refused(path: Path, saying: str, **options: int) -> None:
    with pytest.raises(ImageError, match=saying) as caught:
        read_image(path, **options)
    text = str(caught.value)
    assert repr(str(path)) in text
    assert text.endswith(".")
    assert "\n" not in text


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Python is not a picture")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "x.jpg").mkdir()
    refused(tmp_path / "missing.jpg", "does not exist. Check the path")
    refused(tmp_path / "empty.jpg", "is empty. Copy the file again")
    refused(tmp_path / "text.jpg", "is not a picture in a format known here")
    refused(tmp_path / "page.eps", "is not a picture in a format known here")
    refused(tmp_path / "x.jpg", "is a folder, not a picture")
    refused(tmp_path / "empty.jpg" / "a.jpg", "cannot be opened")
    refused(tmp_path / ("n" * 300), "cannot be opened")
    refused(tmp_path / "null\0.jpg", "cannot be opened")


def test_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "is a pipe or a device")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    refused(path, "does not exist")
    assert read_image(save(path, photograph())).shape == (24, 32, 3)


@pytest.fixture
def private_file(tmp_path: Path) -> Iterator[Path]:
    """A file that not even its owner may read, without the rights of the superuser, whom nothing stops."""
    path = save(tmp_path / "a.png", photograph())
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield path
    os.seteuid(user)


def test_a_file_that_may_not_be_read(private_file: Path) -> None:
    refused(private_file, r"may not be read\. Change its permissions")


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_files(tmp_path: Path, form: str) -> None:
    data = valid(form)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: len(data) * 2 // 3])
    refused(path, "is damaged or cut short")


def test_floating_point_pictures_have_no_known_white(tmp_path: Path) -> None:
    refused(save(tmp_path / "a.tiff", np.array([[0.5]], np.float32)), "float32 values whose black and white")
    refused(save(tmp_path / "b.tiff", np.array([[70000]], np.int32)), "int32 values whose black and white")


def test_zero_size(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 0 7 255\n")
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.pgm")


# The limit


def test_the_pixel_limit_is_checked_on_the_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20000, 20000))  # 400 million pixels that are not even there
    refused(path, "has 20000 x 20000 pixels, over the limit of 100000000. .*--max-pixels")
    refused(path, "is damaged or cut short", max_pixels=400_000_000)  # past the limit, it is decoded


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF"])
def test_ours_is_the_only_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Pillow warns above its limit and refuses above twice of it; both would raise here."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    path = tmp_path / "a.img"
    path.write_bytes(valid(form))
    assert read_image(path).shape == (24, 32, 3)
    assert Image.MAX_IMAGE_PIXELS == 300
    refused(path, "has (32 x 24|24 x 32) pixels, over the limit of 767", max_pixels=767)
    assert read_image(path, max_pixels=768).shape == (24, 32, 3)


def test_the_limit_of_pillow_survives_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    path = save(tmp_path / "a.png", photograph())
    shapes: list[tuple[int, ...]] = []
    threads = [
        threading.Thread(target=lambda: shapes.extend(read_image(path).shape for _ in range(20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(24, 32, 3)] * 80
    assert Image.MAX_IMAGE_PIXELS == 300


# Hostile files


@cache
def valid(form: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("PNG", "JPEG", "WEBP") else {}
    height, width = (32, 24) if options else (24, 32)
    Image.fromarray(photograph(height, width)).save(file, form, **options)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("form", [*FORMATS, "PPM", "JPEG2000", "AVIF"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255), st.booleans()), max_size=8),
)
@example(cut=1.0, flips=[])
def test_hostile_files_give_an_array_or_an_image_error(
    tmp_path: Path, form: str, cut: float, flips: list[tuple[float, int, bool]]
) -> None:
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    data = bytearray(valid(form))
    for place, mask, in_header in flips:
        data[int(place * (min(len(data), 200) - 1 if in_header else len(data) - 1))] ^= mask
    path = tmp_path / "hostile"
    path.write_bytes(data[: max(1, round(cut * len(data)))])
    try:
        image = read_image(path, max_pixels=1_000_000)
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert 0 < image.size <= 3_000_000


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_not_the_files_fault_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = save(tmp_path / "a.png", photograph())
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(error):
        read_image(path)


# Resizing


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(7, 9), (24, 11), (61, 50)])
def test_resize_is_that_of_torchvision(interpolation: str, size: tuple[int, int]) -> None:
    image = photograph()
    theirs = F.resize(Image.fromarray(image), list(size), InterpolationMode(interpolation))
    assert np.array_equal(resize(image, size, interpolation), np.asarray(theirs))


def test_resize_refuses_unknown_interpolations() -> None:
    with pytest.raises(UsageError, match=r"'cubic' is not an interpolation\. Use one of .*bicubic"):
        resize(photograph(), (2, 2), "cubic")


# Writing


def test_png_keeps_every_pixel_and_the_order_of_colours(tmp_path: Path) -> None:
    write_image(tmp_path / "new" / "folder" / "a.png", photograph())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "folder" / "a.png")), photograph())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_close(suffix: str) -> None:
    picture = Image.open(io.BytesIO(encode(photograph(240, 320), suffix)))
    assert picture.format == {".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    error = np.asarray(picture.convert("RGB")).astype(int) - photograph(240, 320)
    assert np.abs(error).mean() < 2
    assert len(encode(photograph(240, 320), suffix, quality=20)) < len(encode(photograph(240, 320), suffix))


def test_what_cannot_be_encoded() -> None:
    with pytest.raises(UsageError, match=r"'\.gif' is not a format written here\. Use one of \.jpg, \.png, \.webp"):
        encode(photograph(), ".gif")
    with pytest.raises(OutputError, match=r"a \.webp file cannot hold 16384 x 1 pixels\. Use \.png"):
        encode(np.zeros((1, 16384, 3), np.uint8), ".webp")


@pytest.mark.parametrize(("suffix", "longest"), [(".jpg", 65500), (".webp", 16383), (".png", 1_000_000)])
def test_the_longest_sides_can_be_encoded(suffix: str, longest: int) -> None:
    assert Image.open(io.BytesIO(encode(np.zeros((1, longest, 3), np.uint8), suffix))).size == (longest, 1)


def test_written_files_have_ordinary_permissions_and_replace_older_ones(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "plain"]


@pytest.mark.parametrize("method", ["replace", "write_bytes"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    write_whole(tmp_path / "a", b"old")
    written = Path.write_bytes

    def fail(self: Path, _: object) -> None:
        if method == "write_bytes":
            written(self, b"ne")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\). Choose another"):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("n" * 300), tmp_path / "nu\0ll"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_whole(path, b"data")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
