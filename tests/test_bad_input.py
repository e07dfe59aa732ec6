"""Whatever a user gives that is wrong costs one clear sentence, never a traceback and never another picture."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import urllib.error
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

SAMPLE = Path(__file__).parents[1] / "samples" / "five.png"
DIGITS = "-m", "digits", "--device", "cpu"


def one_sentence(text: str) -> None:
    """What was found, then what to do about it."""
    assert "\n" not in text
    assert "Traceback" not in text
    assert re.search(r"\. [A-Z].*\.$", text), text


def refused(result: Result, status: int, *found: str) -> None:
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    message = result.stderr.strip().splitlines()[-1].removeprefix("Error: ")
    one_sentence(message)
    for part in found:
        assert part in message


def photo() -> Image.Image:
    return Image.open(SAMPLE).convert("RGB")


def missing(path: Path) -> None:
    pass


def truncated(path: Path) -> None:
    photo().save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-2000])


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    """20000 x 20000 by its header, in some 60 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def pipe(path: Path) -> None:
    os.mkfifo(path)


BAD = {
    "missing": ("none.jpg", missing, "does not exist"),
    "empty": ("empty.jpg", Path.touch, "is empty"),
    "truncated": ("torn.jpg", truncated, "damaged or cut short"),
    "text": ("text.jpg", lambda path: path.write_text("not a picture"), "not a picture"),
    "script": ("script.jpg", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not a picture"),
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
        (inputs / copy).write_bytes(SAMPLE.read_bytes())
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
    (tmp_path / "secret.png").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "secret.png").chmod(0)
    result = run("explain", SAMPLE, tmp_path / "secret.png", *DIGITS, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "may not be read" in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_may_not_be_entered(run, tmp_path):
    (tmp_path / "out").mkdir(mode=0)
    refused(run("explain", SAMPLE, *DIGITS, "-o", tmp_path / "out"), 1, "cannot be written")


def cmyk(path: Path) -> None:
    photo().convert("CMYK").save(path.with_suffix(".jpg"))


def sixteen(path: Path) -> None:
    Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257).save(path)


def grey(path: Path) -> None:
    photo().convert("L").save(path)


def palette(path: Path) -> None:
    """The digit in a palette, with one colour transparent that it does not use."""
    indexed = photo().quantize(200)
    indexed.save(path, transparency=255)


def animated(path: Path) -> None:
    frames = [photo().convert("P"), Image.new("P", photo().size), Image.new("P", photo().size, 3)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=95)


@pytest.mark.parametrize("make", [cmyk, sixteen, grey, palette, animated, rotated], ids=lambda make: make.__name__)
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
    ((x0, y0, x1, y1),) = json.loads(SAMPLE.with_name("samples.json").read_text())["samples"]["five.png"]["boxes"]
    assert x0 <= x < x1
    assert y0 <= y < y1


@pytest.mark.parametrize(
    ("arguments", "status", "found"),
    [
        (["-m", "vgg11", "--no-weights", "--input-size", "64"], 1, ["(not-gap)", "resnet50"]),
        (["-m", "resnet5"], 1, ["'resnet5'", "resnet50"]),
        (["-m", "nowhere:make"], 1, ["'nowhere:make'"]),
        (["--device", "cuda:99"], 2, ["'cuda:99'", "--device auto or cpu"]),
        (["--device", "nonsense"], 2, ["'nonsense'", "auto, cpu, cuda"]),
        (["--colormap", "virids"], 2, ["'virids'", "viridis"]),
        (["--scale", "big"], 2, ["'big'", "Give run, image"]),
        (["--scale", "0"], 2, ["'0'", "above 0"]),
        (["--scale", "-3"], 2, ["'-3'", "above 0"]),
        (["--scale", "nan"], 2, ["'nan'"]),
        (["--scale", "inf"], 2, ["'inf'"]),
        (["--save", "overlay,heatmap"], 2, ["'overlay,heatmap'", "overlay,heat,cam"]),
        (["--save", ""], 2, ["''"]),
        (["--mean", "a,b,c"], 2, ["'a,b,c'", "0.5,0.5,0.5"]),
        (["--mean", "0.5,0.5"], 2, ["(0.5, 0.5)"]),
        (["--mean", "nan,0,0"], 2, ["nan"]),
        (["--std", "0,0,0"], 2, ["(0.0, 0.0, 0.0)"]),
        (["--opacity", "nan"], 2, ["nan"]),
        (["--target", "12"], 2, ["no class 12 among 10", "0 to 9"]),
        (["--target", "-1"], 2, ["no class -1"]),
        (["--target", "top0"], 2, ["'top0'"]),
        (["--target", "cat"], 2, ["'cat'"]),
        (["--target", ""], 2, ["''"]),
        (["--labels", "nowhere.txt"], 2, ["'nowhere.txt'"]),
        (["--weights", "nowhere.pt"], 1, ["'nowhere.pt'"]),
        (["--weights", str(SAMPLE)], 1, ["five.png", "not a checkpoint"]),
        (["--weights", "."], 1, ["folder"]),
        (["--mean", "0.5", "--std", "0.5"], 1, ["does not run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_sentence(run, tmp_path, arguments, status, found):
    model = [] if "-m" in arguments else ["-m", "digits"]
    refused(run("explain", SAMPLE, "-o", tmp_path / "out", *model, *arguments), status, *found)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_asked_for_and_absent(run, tmp_path):
    refused(run("explain", SAMPLE, "-m", "digits", "-o", tmp_path / "out", "--device", "cuda"), 2, "'cuda'", "cpu")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [str(SAMPLE)],
        [str(SAMPLE), "-o", "out", "--fit", "stretch"],
        [str(SAMPLE), "-o", "out", "--batch-size", "0"],
        [str(SAMPLE), "-o", "out", "--opacity", "2"],
        [str(SAMPLE), "-o", "out", "--format", "gif"],
        [str(SAMPLE), "-o", "out", "--max-pixels", "0"],
        [str(SAMPLE), "-o", "out", "--input-size", "0"],
        [str(SAMPLE), "-o", "out", "--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_by_click(run, arguments):
    result = run("explain", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Error: " in result.stderr


def test_inputs_that_hold_no_picture(run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run("explain", tmp_path / "empty", *DIGITS, "-o", tmp_path / "out"), 2, "holds no picture")
    refused(run("explain", tmp_path / "*.jpg", *DIGITS, "-o", tmp_path / "out"), 2, "holds no picture")


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_output_with_a_file_in_the_way(run, tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    refused(run("explain", SAMPLE, *DIGITS, "-o", tmp_path / where), 1, "file", "cannot be written")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("out", ["in", "in/out"])
def test_an_output_inside_the_input(run, tmp_path, out):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(SAMPLE.read_bytes())
    refused(run("explain", tmp_path / "in", *DIGITS, "-o", tmp_path / out), 2, "outside it")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def test_no_network_for_weights(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def unreachable(*_, **__):
        raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    result = run("explain", SAMPLE, "-m", "resnet18", "-o", tmp_path / "out")
    refused(result, 1, "resnet18-f37072fd.pth", str(tmp_path / "torch" / "hub" / "checkpoints"), "-m digits")


def test_a_cache_of_weights_that_cannot_be_written(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    refused(run("explain", SAMPLE, "-m", "resnet18", "-o", tmp_path / "out"), 1, "TORCH_HOME")


def test_a_cache_that_cannot_be_used_does_no_harm(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run("explain", SAMPLE, *DIGITS, "-o", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["resnet5"], "resnet50"), (["cifar-resnet20"], "--weights"), (["nowhere:make"], "nowhere")],
)
def test_inspect_of_what_is_not_there(run, arguments, found):
    refused(run("inspect", *arguments), 1, found)
    result = run("inspect", *arguments, "--json")
    assert result.stdout == ""


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
        "bad.jpg  'bad.jpg' is not a picture in a format known here. "
        "Convert it to JPEG or PNG, or copy it again if it should be one.",
    ]
