"""The real command, killed, out of disk space and with garbage as input: files are whole and no result is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from garbage import garbage
from memory import ENVIRONMENT, megabytes
from runs import assert_same_results, lines, write_noise

from cam.images.io import read_image

PICTURES = 90
STOPPING = "\nStopping after the images in progress.\n"


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
        "--format",
        "png",
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


def check_whole(out: Path) -> int:
    """All lines of the manifest and all files under their final names are whole; return the number of lines."""
    records = lines(out) if (out / "manifest.jsonl").exists() else []
    for record in records:
        for target in record["targets"]:
            assert read_image(out / target["files"]["overlay"]).shape[0] > 60
    for overlay in out.glob("*.png"):
        assert overlay.read_bytes().endswith(b"IEND\xaeB`\x82")
    return len(records)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_noise(tmp_path_factory.mktemp("pictures"), PICTURES)


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory) -> tuple[Path, float]:
    """The results of an undisturbed run, and the seconds it takes."""
    out = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    assert finish(folder, out).returncode == 3
    return out, time.monotonic() - began


def kill_and_resume(folder: Path, unbroken: tuple[Path, float], room: Path, kills: int) -> list[int]:
    """Kill the command at random moments, three times a run; return how many lines it had each time."""
    whole, seconds = unbroken
    chance = random.Random(kills)
    killed: list[int] = []
    for number in range(kills):
        out = room / str(number // 3)
        with started(folder, out) as process:
            time.sleep(chance.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
            assert "Traceback" not in errors
        killed.append(check_whole(out) if out.exists() else 0)
        if number % 3 == 2 or number == kills - 1:
            assert finish(folder, out).returncode == 3
            assert_same_results(out, whole)
    return killed


def test_a_killed_run_is_resumed(folder, unbroken, tmp_path):
    assert len(kill_and_resume(folder, unbroken, tmp_path, 3)) == 3


@pytest.mark.slow
def test_a_run_killed_at_thirty_random_moments_is_resumed(folder, tmp_path):
    """A long run, so that some moments are in the middle."""
    many = tmp_path / "many"
    for copy in range(9):
        (many / str(copy)).mkdir(parents=True)
        for path in folder.iterdir():
            (many / str(copy) / path.name).hardlink_to(path)
    began = time.monotonic()
    assert finish(many, tmp_path / "whole").returncode == 3
    whole = tmp_path / "whole", time.monotonic() - began
    counts = kill_and_resume(many, whole, tmp_path, 30)
    assert any(0 < count < 9 * PICTURES for count in counts)


def test_a_run_stopped_before_its_first_image_has_no_manifest(folder, tmp_path):
    """Its color scale needs the first images before one is written."""
    with started(folder, tmp_path / "out") as process:
        while not (tmp_path / "out").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"{STOPPING}Stopped. Run the same command to continue in {str(tmp_path / 'out')!r}.\n"
    assert not [*(tmp_path / "out").glob("manifest*.jsonl")]


def stopped(folder: Path, out: Path, how: signal.Signals, times: int = 1) -> tuple[int, str]:
    """Exit status and messages of a run that gets one or more signals once its first image is done."""
    with started(folder, out) as process:
        while not any(out.glob("*.png")):
            assert process.poll() is None
            time.sleep(0.01)
        for _ in range(times):
            process.send_signal(how)
            time.sleep(0.02 * (times - 1))
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize(("how", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 4)])
def test_a_request_to_stop_finishes_the_images_in_progress(folder, unbroken, tmp_path, how, times):
    code, errors = stopped(folder, tmp_path / "out", how, times)
    assert code == 130
    assert errors.startswith(STOPPING)
    assert errors.endswith(f"Stopped. Run the same command to continue in {str(tmp_path / 'out')!r}.\n")
    failed = [line["path"] for line in lines(tmp_path / "out") if line["status"] == "failed"]
    table = errors.removeprefix(STOPPING).splitlines()[:-1]  # of what failed up to then
    assert [line.split()[0] for line in table] == (["failed", *failed] if failed else [])
    assert check_whole(tmp_path / "out") < PICTURES
    assert finish(folder, tmp_path / "out").returncode == 3
    assert_same_results(tmp_path / "out", unbroken[0])


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


def test_a_full_disk_ends_the_run_and_it_is_resumed_with_more_space(folder, unbroken, small_disk):
    out = small_disk / "out"
    ended = finish(folder, out)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "No space left on device" in ended.stderr
    assert "free disk space" in ended.stderr
    assert check_whole(out) < PICTURES
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    assert finish(folder, out).returncode == 3
    assert_same_results(out, unbroken[0])


@pytest.mark.parametrize(("count", "size"), [(150, 4), pytest.param(1000, 1, marks=pytest.mark.slow)])
def test_garbage_costs_a_line_each(folder, tmp_path, count, size):
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
    records = lines(tmp_path / "out")
    assert len(records) == count + len(good)
    assert sum(line["status"] == "failed" for line in records) > count / 2
    for line in records:
        assert (line["error"] is None) == (line["status"] == "ok")
    overlays = [path.name for path in (tmp_path / "without").glob("*.png")]
    assert len(overlays) == len(good)
    for name in overlays:
        ours, theirs = (read_image(tmp_path / out / name).astype(int) for out in ("out", "without"))
        assert np.abs(ours - theirs).max() <= (0 if size == 1 else 1)  # what shares a pass shares its rounding
