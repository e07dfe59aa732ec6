"""Reading one image within limits of size and time."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from cam.errors import ImageError
from cam.images import Limits, Picture, content, read, read_image, write_image
from cam.images.read import read_picture


@pytest.fixture
def photo(tmp_path: Path) -> Picture:
    write_image(tmp_path / "a.jpg", np.full((480, 640, 3), 7, np.uint8))
    return Picture(tmp_path / "a.jpg", PurePosixPath("a.jpg"))


def test_an_image_is_read_as_read_image_reads_it(photo):
    loaded = read_picture(photo, Limits())
    assert np.array_equal(loaded.image, read_image(photo.path))
    assert loaded.size == (480, 640)
    assert loaded.fingerprint == (photo.path.stat().st_size, photo.path.stat().st_mtime)
    small = read_picture(photo, Limits(), at_least=40)
    assert (small.image.shape, small.size) == ((120, 160, 3), (480, 640))


# Limits


def test_bytes_and_pixels_are_limited(photo):
    size = photo.path.stat().st_size
    assert read_picture(photo, Limits(max_bytes=size, max_pixels=640 * 480)).size == (480, 640)
    message = f"has {size} bytes, over the limit of {size - 1}. Make it smaller, or raise --max-bytes"
    with pytest.raises(ImageError, match=message):
        read_picture(photo, Limits(max_bytes=size - 1))
    with pytest.raises(ImageError, match="has 640 x 480 pixels, over the limit of 307199"):
        read_picture(photo, Limits(max_pixels=640 * 480 - 1), at_least=10)


def test_a_huge_file_is_not_read(photo):
    with photo.path.open("wb") as file:
        file.truncate(10**12)
    tracemalloc.start()
    with pytest.raises(ImageError, match="has 1000000000000 bytes, over the limit of 500000000"):
        read_image(photo.path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_decoder_that_hangs_fails_its_image_only(photo, monkeypatch):
    release = threading.Event()
    decode = read.decode_image

    def hang(data, path, *limits):
        if path.endswith("bad.jpg"):
            release.wait(30)
        return decode(data, path, *limits)

    monkeypatch.setattr(read, "decode_image", hang)
    bad = Picture(photo.path.with_name("bad.jpg"), PurePosixPath("bad.jpg"))
    bad.path.write_bytes(photo.path.read_bytes())
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"bad\.jpg' could not be read within 0\.1 seconds\. .* raise --timeout if"):
        read_picture(bad, Limits(seconds=0.1))
    assert 0.1 <= time.monotonic() - started < 10
    assert read_picture(photo, Limits(seconds=20)).size == (480, 640)
    release.set()
    assert read_picture(bad, Limits(seconds=math.inf)).size == (480, 640)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (MemoryError(), ImageError, r"does not fit into memory\. Make it smaller"),
    ],
)
def test_an_error_in_the_thread_is_raised_in_the_caller(photo, monkeypatch, error, expected, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(read, "decode_image", fail)
    with pytest.raises(expected, match=message):
        read_picture(photo, Limits())


def test_a_decoder_that_hangs_does_not_keep_the_program_from_ending(photo):
    program = f"""
import time
from cam.images import Limits, find_pictures, read
read.decode_image = lambda *_: time.sleep(600)
try: read.read_picture(find_pictures([{str(photo.path)!r}])[0], Limits(seconds=0.1))
except OSError: print(7)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("7\n", "")


# Files that change after they were listed


def test_a_file_that_grows_while_it_is_read_is_read_up_to_its_first_size(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, np.full((9, 9, 3), 7, np.uint8))
    whole, fstat = path.read_bytes(), os.fstat

    def grow(number):
        status = fstat(number)
        with path.open("ab") as file:
            file.write(bytes(1_000_000))
        return status

    monkeypatch.setattr(os, "fstat", grow)
    assert content.read_content(path, max_bytes=len(whole)) == whole


def test_a_disk_that_fails_costs_its_image_only(photo, monkeypatch):
    class Broken(io.FileIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(content, "open_regular", Broken)
    with pytest.raises(ImageError, match=r"a\.jpg' cannot be read \(Input/output error\)\. Copy it again, or check"):
        read_picture(photo, Limits())


def test_files_are_closed(photo):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_picture(photo, Limits())
        with pytest.raises(ImageError):
            read_picture(photo, Limits(max_bytes=1))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
