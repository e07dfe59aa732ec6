"""`cam explain` on bad images: a bad one costs one line and changes no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pictures import png
from PIL import Image
from refusals import check_message
from runs import DIGITS, FIVE, lines


def write_truncated(path: Path) -> None:
    Image.open(FIVE).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-2000])


# Name, how to make it, part of its error.
BAD = [
    ("none.jpg", lambda path: None, "does not exist"),
    ("empty.jpg", Path.touch, "is empty"),
    ("truncated.jpg", write_truncated, "damaged or cut short"),
    ("text.jpg", lambda path: path.write_text("text"), "not an image"),
    ("script.jpg", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
    ("x.jpg", Path.mkdir, "is a folder"),
    ("huge.png", lambda path: path.write_bytes(png(20000, 20000, 8, 2, b"")), "20000 x 20000"),
    ("pipe.jpg", os.mkfifo, "pipe"),
    ("loop.jpg", lambda path: path.symlink_to(path), "cannot be opened"),
    ("a\nb.jpg", Path.touch, r"a\nb.jpg"),
    (os.fsdecode(b"\xff.jpg"), Path.touch, r"\udcff"),
]


def test_bad_images_cost_a_line_each_and_change_no_other(run, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    good = [inputs / "0.png", inputs / "z.png"]
    for path in good:
        path.write_bytes(FIVE.read_bytes())
    options = *DIGITS, "--engine", "eager", "--batch-size", 1  # the same rounding for any number of images
    assert run("explain", *good, *options, "-o", tmp_path / "without").exit_code == 0
    for name, make, _ in BAD:
        make(inputs / name)
    bad = [inputs / name for name, *_ in BAD if name != "x.jpg"]  # a named folder is an input itself
    result = run("explain", good[0], bad[0], good[1], *bad[1:], *options, "-o", tmp_path / "named")
    assert result.exit_code == 3, result.output
    assert len(result.stderr.splitlines()) == 2 + len(bad)  # what the input is, and a heading
    first, _, second, *_ = lines(tmp_path / "named")
    assert [first, {**second, "index": 1}] == lines(tmp_path / "without")

    assert run("explain", inputs, *DIGITS, "-o", tmp_path / "folder").exit_code == 3
    failed = {Path(line["path"]).name: line for out in ("named", "folder") for line in lines(tmp_path / out)}
    for name, _, message in BAD:
        line = failed[name]
        assert (line["path"], line["status"], line["size"]) == (str(inputs / name), "failed", None)
        assert line["targets"] == []
        assert message in line["error"]
        check_message(line["error"])


def test_a_real_process_ends_without_a_traceback(tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    arguments = "-m", "cam", "explain", "bad.jpg", "-m", "digits", "-o", "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    note, *failures = (line.rstrip() for line in done.stderr.splitlines())
    assert note.startswith("input 72x72")
    assert failures == [
        "failed   why",
        "bad.jpg  'bad.jpg' is not an image in a supported format. "
        "Convert it to JPEG or PNG, or copy it again if it should be one.",
    ]
