"""`cam explain --processes`: the results of one process, whatever ends in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from memory import ENVIRONMENT
from runs import KILLER, assert_same_results, explain_into, lines, write_noise

from cam.classifiers.load import load_classifier
from cam.images.io import write_image


def command(*arguments: Path | str) -> list[str]:
    words = map(str, arguments)
    return [sys.executable, "-m", "cam", "explain", *words, "--format", "png", "--processes", "2", "--device", "cpu"]


def finish(*arguments: Path | str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr
    return done


def test_results_are_those_of_one_process(folder, tmp_path):
    done = finish(folder, "-m", "digits", "-o", tmp_path / "two", "--batch-size", "2")
    assert done.returncode == 0, done.stderr
    explain_into(tmp_path / "one", load_classifier("digits", device="cpu"), folder)
    assert_same_results(tmp_path / "two", tmp_path / "one")
    infos = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("two", "one")]
    assert infos[0]["settings"] == infos[1]["settings"]


def test_an_image_that_ends_its_process_costs_one_line(tmp_path):
    (tmp_path / "net.py").write_text(KILLER)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, value in {"black": 0, "dark": 40, "gray": 90, "white": 255}.items():
        write_image(folder / f"{name}.png", np.full((64, 64, 3), value, np.uint8))
    model = "-m", "net.py:make", "--input-size", "64", "--no-weights"
    done = finish(folder, *model, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    failed = [line for line in lines(tmp_path / "out") if line["status"] == "failed"]
    assert [line["name"] for line in failed] == ["white.png"]
    assert "twice ended the process that explained it" in failed[0]["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_no_process_outlives_the_command(tmp_path):
    folder = write_noise(tmp_path / "photos", 400)
    with subprocess.Popen(
        command(folder, "-m", "digits", "-o", tmp_path / "out", "--quiet"), env=ENVIRONMENT, start_new_session=True
    ) as process:
        while not (tmp_path / "out" / "manifest.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        assert len(members(process.pid)) >= 3
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process.pid) == []
    assert finish(folder, "-m", "digits", "-o", tmp_path / "out").returncode == 3  # one is no image
    assert len(lines(tmp_path / "out")) == 400


def members(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(number) == session and state != "Z":
            found.append(path.parent.name)
    return found


def test_processes_and_ray_are_refused_together(run, folder, tmp_path):
    result = run("explain", folder, "-m", "digits", "-o", tmp_path, "--processes", "2", "--ray")
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        "Error: --processes is for this machine. Leave it out with --ray.",
    )
