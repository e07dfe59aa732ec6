"""The real command, killed, starved of room and fed with garbage: what is there is whole, and nothing is lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import runs
from garbage import garbage
from memory import ENVIRONMENT, megabytes

from cam.images.io import read_image, write_image

PICTURES = 90
STOPPING = "\nStopping, when the pictures in hand are done.\n"


def command(folder: Path, out: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cam",
        "explain",
        str(folder),
        "-m",
        "digits",
        "--device",
        "cpu",
        "-o",
        str(out),
        "--quiet",
        *arguments,
    ]


def started(folder: Path, out: Path) -> subprocess.Popen[str]:
    """As from a terminal: a shell has jobs in the background ignore SIGINT, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command(folder, out), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(folder: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, out, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def contents(out: Path) -> dict[str, bytes]:
    """All files, without the folder's own name, which run.json tells."""
    return {name: data.replace(str(out).encode(), b"OUT") for name, data in runs.contents(out).items()}


def check_whole(out: Path) -> int:
    """Every line of the manifest is whole, and so is every file that lies under its final name; the lines."""
    manifest = out / "manifest.jsonl"
    lines = manifest.read_text().splitlines() if manifest.exists() else []
    for line in lines:
        for target in json.loads(line)["targets"]:
            assert read_image(out / target["files"]["overlay"]).shape[0] > 60
    for overlay in out.glob("*.jpg"):
        assert overlay.read_bytes().endswith(b"\xff\xd9")
    return len(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        write_image(folder / f"{number}.png", np.kron(coarse, np.ones((40, 40 + number % 5, 1), np.uint8)))
    (folder / "33.png").write_bytes(b"torn")
    return folder


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """What a run that nothing gets in the way of leaves, and the seconds it takes."""
    out = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    assert finish(folder, out).returncode == 3
    return contents(out), time.monotonic() - began


def kill_and_resume(folder: Path, unbroken: tuple[dict[str, bytes], float], room: Path, kills: int) -> list[int]:
    """Kill the command at random moments until it has been killed so often, each time going on; the lines it had."""
    whole, seconds = unbroken
    chance = random.Random(kills)
    killed: list[int] = []
    for number in range(kills):
        out = room / str(number // 3)  # three kills to a run, then it may end
        with started(folder, out) as process:
            time.sleep(chance.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
            assert "Traceback" not in errors
        killed.append(check_whole(out) if out.exists() else 0)
        if number % 3 == 2 or number == kills - 1:
            assert finish(folder, out).returncode == 3
            assert contents(out) == whole
    return killed


def test_a_killed_run_goes_on(folder, unbroken, tmp_path):
    assert len(kill_and_resume(folder, unbroken, tmp_path, 3)) == 3


@pytest.mark.slow
def test_a_run_killed_at_thirty_random_moments_goes_on(folder, tmp_path):
    """A long run, so that some moments are in the middle."""
    many = tmp_path / "many"
    for copy in range(9):
        (many / str(copy)).mkdir(parents=True)
        for path in folder.iterdir():
            (many / str(copy) / path.name).hardlink_to(path)
    began = time.monotonic()
    assert finish(many, tmp_path / "whole").returncode == 3
    whole = contents(tmp_path / "whole"), time.monotonic() - began
    lines = kill_and_resume(many, whole, tmp_path, 30)
    assert any(0 < count < 9 * PICTURES for count in lines)


def test_a_run_stopped_before_its_first_picture_does_not_claim_any(folder, tmp_path):
    """As soon as it has begun: its color scale needs the first pictures before one is written."""
    with started(folder, tmp_path / "out") as process:
        while not (tmp_path / "out" / "run.json").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"{STOPPING}Stopped. Nothing is done yet.\n"
    assert not [*(tmp_path / "out").glob("manifest*.jsonl")]


def stopped(folder: Path, out: Path, how: signal.Signals, times: int = 1) -> tuple[int, str]:
    """Exit status and words of a run that is asked to stop, once or more, when its first picture is there."""
    with started(folder, out) as process:
        while not any(out.glob("*.jpg")):
            assert process.poll() is None
            time.sleep(0.01)
        for _ in range(times):
            process.send_signal(how)
            time.sleep(0.02 * (times - 1))
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize(("how", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 4)])
def test_a_request_to_stop_is_followed_in_order(folder, unbroken, tmp_path, how, times):
    code, errors = stopped(folder, tmp_path / "out", how, times)
    assert code == 130
    done = f"Finished images are in {str(tmp_path / 'out')!r}; run the same command to continue.\n"
    assert errors.startswith(STOPPING)
    assert errors.endswith(f"Stopped. {done}")
    failed = [line["path"] for line in runs.lines(tmp_path / "out") if line["status"] == "failed"]
    table = errors.removeprefix(STOPPING).splitlines()[:-1]  # of what failed up to then
    assert [line.split()[0] for line in table] == (["failed", *failed] if failed else [])
    assert check_whole(tmp_path / "out") < PICTURES
    assert finish(folder, tmp_path / "out").returncode == 3
    assert contents(tmp_path / "out") == unbroken[0]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("a small file system may not be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_ends_the_run_and_it_goes_on_with_more_room(folder, unbroken, small_disk):
    out = small_disk / "out"
    ended = finish(folder, out)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "No space left on device" in ended.stderr
    assert "free space" in ended.stderr
    assert check_whole(out) < PICTURES  # the lines of the last seconds need room, too
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    assert finish(folder, out).returncode == 3
    assert contents(out) == unbroken[0]


@pytest.mark.parametrize(("count", "size"), [(150, 4), pytest.param(1000, 1, marks=pytest.mark.slow)])
def test_garbage_costs_a_line_each_and_changes_nothing_else(folder, tmp_path, count, size):
    good = sorted(folder.glob("1*.png"))
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    for path in good:
        for place in (mixed, alone):
            place.mkdir(exist_ok=True)
            (place / path.name).write_bytes(path.read_bytes())
    for name, data in garbage(count):
        (mixed / name).write_bytes(data)
    options = "-m", "digits", "--device", "cpu", "--scale", "9", "--quiet", "--batch-size", str(size), "--format", "png"
    options += "--engine", "eager"  # the other takes its memory once, however many pictures there are
    memory, status, errors = megabytes("explain", str(mixed), "-o", str(tmp_path / "out"), *options)
    without, _, _ = megabytes("explain", str(alone), "-o", str(tmp_path / "without"), *options)
    assert status == 3, errors
    assert "Traceback" not in errors
    assert memory < without + 100
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert len(lines) == count + len(good)
    assert sum(line["status"] == "failed" for line in lines) > count / 2
    for line in lines:
        assert (line["error"] is None) == (line["status"] == "ok")
    overlays = [path.name for path in (tmp_path / "without").glob("*.png")]
    assert len(overlays) == len(good)
    for name in overlays:
        ours, theirs = (read_image(tmp_path / out / name).astype(int) for out in ("out", "without"))
        assert np.abs(ours - theirs).max() <= (0 if size == 1 else 1)  # what shares a pass shares its rounding
