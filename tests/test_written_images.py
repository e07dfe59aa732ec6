"""Pictures are encoded close to what they were, and written whole or not at all."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import numpy as np
import pytest
from pictures import photograph
from PIL import Image

from cam.errors import OutputError, UsageError
from cam.files import write_whole
from cam.images.io import encode, write_image


def test_png_keeps_every_pixel_and_the_order_of_colors(tmp_path: Path) -> None:
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
    with pytest.raises(UsageError, match=r"'\.gif' is not a format that can be written\. Use \.jpg, \.png, \.webp"):
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


@pytest.mark.parametrize("method", ["replace", "open"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    write_whole(tmp_path / "a", b"old")
    original = Path.open

    def fail(self: Path, *mode: str) -> None:
        if method == "open":
            with original(self, "wb") as file:
                file.write(b"ne")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\). Choose another"):
        write_whole(tmp_path / "a", b"new")
    monkeypatch.undo()
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
