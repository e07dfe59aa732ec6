"""Pictures that are bad cost a line of their own and change no other; those that are unusual are seen as they look."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from garbage import chunk
from PIL import Image
from refusals import one_sentence
from runs import DIGITS, FIVE


def photo() -> Image.Image:
    return Image.open(FIVE).convert("RGB")


def missing(path: Path) -> None:
    pass


def truncated(path: Path) -> None:
    photo().save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-2000])


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    """20000 x 20000 by its header, in some 60 bytes."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def pipe(path: Path) -> None:
    os.mkfifo(path)


BAD = {
    "missing": ("none.jpg", missing, "does not exist"),
    "empty": ("empty.jpg", Path.touch, "is empty"),
    "truncated": ("torn.jpg", truncated, "damaged or cut short"),
    "text": ("text.jpg", lambda path: path.write_text("not an image"), "not an image"),
    "script": ("script.jpg", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
    "folder": ("x.jpg", folder, "is a folder"),
    "huge": ("huge.png", huge, "20000 x 20000"),
    "pipe": ("pipe.jpg", pipe, "pipe"),
    "looping link": ("loop.jpg", lambda path: path.symlink_to(path), "cannot be opened"),
    "a line break in its name": ("a\nb.jpg", Path.touch, r"a\nb.jpg"),
    "not utf-8 in its name": (os.fsdecode(b"\xff.jpg"), Path.touch, r"\udcff"),
}


@pytest.mark.parametrize(("name", "make", "found"), BAD.values(), ids=BAD)
def test_a_bad_picture_is_a_line_of_its_own_and_changes_no_other(run, tmp_path, name, make, found):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for copy in ("0.png", "z.png"):
        (inputs / copy).write_bytes(FIVE.read_bytes())
    good = [inputs / "0.png", inputs / "z.png"]
    assert run("explain", *good, *DIGITS, "-o", tmp_path / "without").exit_code == 0
    make(inputs / name)
    result = run("explain", good[0], inputs / name, good[1], *DIGITS, "-o", tmp_path / "with")
    assert result.exit_code == 3, result.output
    assert len(result.stderr.splitlines()) == 2
    without, mixed = (
        [json.loads(line) for line in (tmp_path / out / "manifest.jsonl").read_text().splitlines()]
        for out in ("without", "with")
    )
    assert [mixed[0], {**mixed[2], "index": 1}] == without
    bad = mixed[1]
    assert (bad["path"], bad["status"], bad["size"], bad["targets"]) == (str(inputs / name), "failed", None, [])
    assert found in bad["error"]
    one_sentence(bad["error"])
    if name != "none.jpg":  # found in the folder, too
        assert run("explain", inputs, *DIGITS, "-o", tmp_path / "folder").exit_code == 3
    assert run("explain", inputs / name, *DIGITS, "-o", tmp_path / "alone").exit_code == (2 if name == "" else 1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_picture_that_may_not_be_read(run, tmp_path):
    (tmp_path / "secret.png").write_bytes(FIVE.read_bytes())
    (tmp_path / "secret.png").chmod(0)
    result = run("explain", FIVE, tmp_path / "secret.png", *DIGITS, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "is not readable" in result.stderr


def cmyk(path: Path) -> None:
    photo().convert("CMYK").save(path.with_suffix(".jpg"))


def sixteen(path: Path) -> None:
    Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257).save(path)


def gray(path: Path) -> None:
    photo().convert("L").save(path)


def palette(path: Path) -> None:
    """The digit in a palette, with one color transparent that it does not use."""
    indexed = photo().quantize(200)
    indexed.save(path, transparency=255)


def animated(path: Path) -> None:
    frames = [photo().convert("P"), Image.new("P", photo().size), Image.new("P", photo().size, 3)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=95)


@pytest.mark.parametrize("make", [cmyk, sixteen, gray, palette, animated, rotated], ids=lambda make: make.__name__)
def test_unusual_pictures_are_seen_as_they_look(run, tmp_path, make):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "picture.png")
    result = run("explain", tmp_path / "in", *DIGITS, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "manifest.jsonl").read_text())
    (target,) = record["targets"]
    assert target["class_idx"] == 5
    assert record["size"] == [photo().height, photo().width]
    y, x = target["peak"]
    ((x0, y0, x1, y1),) = json.loads(FIVE.with_name("samples.json").read_text())["samples"]["five.png"]["boxes"]
    assert x0 <= x < x1
    assert y0 <= y < y1


def test_a_real_process_ends_without_a_traceback(tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    arguments = "-m", "cam", "explain", "bad.jpg", "-m", "digits", "-o", "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert [line.rstrip() for line in done.stderr.splitlines()] == [
        "failed   why",
        "bad.jpg  'bad.jpg' is not an image in a supported format. "
        "Convert it to JPEG or PNG, or copy it again if it should be one.",
    ]
