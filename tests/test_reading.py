"""Reading one picture within limits."""

from __future__ import annotations

import io
import math
import os
import threading
import time
import tracemalloc
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

import cam.images.read
from cam.errors import ImageError
from cam.images.content import open_regular, read_content
from cam.images.find import Picture, find_pictures
from cam.images.io import read_image, write_image
from cam.images.read import Limits, read_picture


def picture(path: Path) -> Picture:
    return Picture(path, PurePosixPath(path.name))


@pytest.fixture
def photo(tmp_path: Path) -> Picture:
    write_image(tmp_path / "a.jpg", np.full((480, 640, 3), 7, np.uint8))
    return picture(tmp_path / "a.jpg")


def test_a_picture_is_read_as_read_image_reads_it(photo: Picture) -> None:
    found = read_picture(photo, Limits())
    assert np.array_equal(found.image, read_image(photo.path))
    assert found.image.shape == (480, 640, 3)
    assert found.size == (480, 640)
    assert read_picture(photo, Limits(), at_least=40).image.shape == (120, 160, 3)
    assert read_picture(photo, Limits(), at_least=40).size == (480, 640)


@pytest.mark.parametrize(
    "name", ["a b.png", "new\nline.png", "\N{CAT FACE}.png", os.fsdecode(b"caf\xe9.png"), "-x.png"]
)
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "p" / name, np.full((3, 3, 3), 7, np.uint8))
    (found,) = find_pictures([tmp_path / "p"])
    assert str(found.name) == name
    assert read_picture(found, Limits()).image[0, 0, 0] == 7
    found.path.write_bytes(b"nonsense")
    with pytest.raises(ImageError, match="is not a picture") as caught:
        read_picture(found, Limits())
    assert "\n" not in str(caught.value)


# Limits


def test_the_size_of_a_file_is_limited(photo: Picture) -> None:
    size = photo.path.stat().st_size
    assert read_picture(photo, Limits(max_bytes=size)).size == (480, 640)
    with pytest.raises(
        ImageError, match=f"has {size} bytes, over the limit of {size - 1}. Make it smaller, or raise --max-"
    ):
        read_picture(photo, Limits(max_bytes=size - 1))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(10**12)
    tracemalloc.start()
    for read in (lambda: read_picture(picture(tmp_path / "a.jpg"), Limits()), lambda: read_image(tmp_path / "a.jpg")):
        with pytest.raises(ImageError, match="has 1000000000000 bytes, over the limit of 500000000"):
            read()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_number_of_pixels_is_limited(photo: Picture) -> None:
    assert read_picture(photo, Limits(max_pixels=640 * 480)).size == (480, 640)
    with pytest.raises(ImageError, match="has 640 x 480 pixels, over the limit of 307199"):
        read_picture(photo, Limits(max_pixels=640 * 480 - 1), at_least=10)


def test_a_decoder_that_hangs_costs_its_picture_only(photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    decode = cam.images.read.decode_image

    def hang(file: io.BytesIO, path: str, *limits: Any) -> Any:
        if path.endswith("bad.jpg"):
            release.wait(30)
        return decode(file, path, *limits)

    monkeypatch.setattr(cam.reading, "decode_image", hang)
    bad = photo.path.with_name("bad.jpg")
    bad.write_bytes(photo.path.read_bytes())
    started = time.monotonic()
    with pytest.raises(
        ImageError, match=r"bad\.jpg' could not be read within 0\.1 seconds\. .* raise --timeout if you"
    ):
        read_picture(picture(bad), Limits(seconds=0.1))
    assert 0.1 <= time.monotonic() - started < 10
    assert read_picture(photo, Limits(seconds=20)).size == (480, 640)
    release.set()
    assert read_picture(picture(bad), Limits(seconds=math.inf)).size == (480, 640)


def test_what_goes_wrong_in_the_thread_comes_out(photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, expected in ((MemoryError(), ImageError), (SystemError("a mistake"), SystemError)):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(cam.reading, "decode_image", fail)
        with pytest.raises(expected, match=r"does not fit into the memory\. Make it smaller|a mistake"):
            read_picture(photo, Limits())


# Files that do not stay as they were listed


def test_files_that_vanish_or_change_after_they_were_listed(tmp_path: Path) -> None:
    for name in "abcd":
        write_image(tmp_path / f"{name}.png", np.full((9, 9, 3), 7, np.uint8))
    gone, folder, empty, cut = find_pictures([tmp_path])
    for found in (gone, folder):
        found.path.unlink()
    folder.path.mkdir()
    empty.path.write_bytes(b"")
    cut.path.write_bytes(cut.path.read_bytes()[:60])
    for found, saying in ((gone, "does not exist"), (folder, "a folder"), (empty, "is empty"), (cut, "cut short")):
        with pytest.raises(ImageError, match=saying):
            read_picture(found, Limits())


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_image(path, np.full((9, 9, 3), 7, np.uint8))
    whole, status = path.read_bytes(), os.fstat

    def grow(number: int) -> os.stat_result:
        found = status(number)
        with path.open("ab") as file:
            file.write(bytes(1_000_000))
        return found

    monkeypatch.setattr(os, "fstat", grow)
    assert read_content(path, max_bytes=len(whole)) == whole
    monkeypatch.undo()
    with pytest.raises(ImageError, match=r"has 1000[0-9]+ bytes, over the limit of"):
        read_content(path, max_bytes=len(whole))


def test_a_disk_that_fails_costs_its_picture_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"light")

    class Broken(io.BytesIO):
        def fileno(self) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(cam.content, "open_regular", lambda path: Broken(b"light"))
    with pytest.raises(ImageError, match=r"a\.jpg' cannot be read \(Input/output error\)\. Copy it again, or check"):
        read_picture(picture(tmp_path / "a.jpg"), Limits())


def test_files_are_closed(photo: Picture, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nonsense")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_picture(photo, Limits())
        with pytest.raises(ImageError):
            read_picture(picture(tmp_path / "bad.jpg"), Limits())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    with open_regular(photo.path) as file:
        assert file.read(2) == b"\xff\xd8"
