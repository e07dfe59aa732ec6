"""Files that are not images, or damaged, too large or hostile: one error, which names the file."""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import photograph, png, save
from PIL import Image
from refusals import check_message

from cam.errors import ImageError
from cam.images import read_image

FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]


def check_refused(path: Path, message: str, **options: int) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path, **options)
    assert repr(str(path)) in str(caught.value)
    check_message(str(caught.value))


@cache
def valid_file(form: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("PNG", "JPEG", "WEBP") else {}
    height, width = (32, 24) if options else (24, 32)
    Image.fromarray(photograph(height, width)).save(file, form, **options)
    return file.getvalue()


# Bad files


def test_files_that_are_not_images(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Python")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "x.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    check_refused(tmp_path / "missing.jpg", "does not exist. Check the path")
    check_refused(tmp_path / "empty.jpg", "is empty. Copy the file again")
    check_refused(tmp_path / "text.jpg", "is not an image in a supported format")
    check_refused(tmp_path / "page.eps", "is not an image in a supported format")
    check_refused(tmp_path / "phone.jpg", r"supported format\. Run pip install 'gapcam\[heic\]', or convert|is damaged")
    check_refused(tmp_path / "x.jpg", "is a folder, not an image")
    check_refused(tmp_path / "pipe.jpg", "is a pipe or a device")
    check_refused(tmp_path / "empty.jpg" / "a.jpg", "cannot be opened")
    check_refused(tmp_path / ("n" * 300), "cannot be opened")
    check_refused(tmp_path / "null\0.jpg", "cannot be opened")


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    check_refused(path, "does not exist")
    assert read_image(save(path, photograph())).shape == (24, 32, 3)


def test_a_file_without_permission_to_read_it(tmp_path):
    """Root, who may read everything, becomes another user."""
    path = save(tmp_path / "a.png", photograph())
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        check_refused(path, r"cannot be opened \(Permission denied\)\. Check the path and the permissions")
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_files(tmp_path, form):
    path = tmp_path / "cut.img"
    path.write_bytes(valid_file(form)[: len(valid_file(form)) * 2 // 3])
    check_refused(path, "is damaged or cut short")


def test_an_image_without_pixels(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 0 7 255\n")
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.pgm")


# The limit on pixels


def test_the_pixel_limit_is_checked_on_the_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20000, 20000, 1, 0, b""))  # 400 million pixels that the file does not have
    check_refused(path, "has 20000 x 20000 pixels, over the limit of 100000000. .*--max-pixels")
    check_refused(path, "is damaged or cut short", max_pixels=400_000_000)  # within the limit, it is decoded


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF"])
def test_max_pixels_replaces_the_limit_of_pillow(tmp_path, monkeypatch, form):
    """Pillow warns above its limit and refuses above twice of it; both would raise here."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    path = tmp_path / "a.img"
    path.write_bytes(valid_file(form))
    assert read_image(path, max_pixels=768).shape == (24, 32, 3)
    check_refused(path, "has (32 x 24|24 x 32) pixels, over the limit of 767", max_pixels=767)
    assert Image.MAX_IMAGE_PIXELS == 300


# Hostile files


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("form", [*FORMATS, "PPM", "JPEG2000", "AVIF", "HEIF"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255), st.booleans()), max_size=8))
@example(cut=1.0, flips=[])
def test_hostile_files_give_an_array_or_an_image_error(tmp_path, form, cut, flips):
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    data = bytearray(valid_file(form))
    for position, mask, in_header in flips:
        data[int(position * (min(len(data), 200) - 1 if in_header else len(data) - 1))] ^= mask
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
def test_errors_that_are_not_of_the_file_are_raised(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    path = save(tmp_path / "a.png", photograph())
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(error):
        read_image(path)
