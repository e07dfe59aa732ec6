"""`cam inspect`, `cam models`, the help, and every way to start the program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner
from runs import CARD, SAMPLES

from cam.cli.main import main
from cam.version import VERSION

ROOT = Path(__file__).parents[1]
SIDES = [side // 4 for side in CARD["preprocessing"]["crop"]]  # of the embedded model's map


def program(*command: str, cwd: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_inspect_as_json(run):
    result = run("inspect", "digits", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    wanted = ["kind", "exact", "feature_layer", "grid", "stride", "offset", "classes", "completeness_error", "reason"]
    assert set(wanted) <= facts.keys()
    assert (facts["kind"], facts["exact"], facts["classes"], facts["grid"]) == ("gap-linear", True, 10, SIDES)
    assert facts["stride"] == [4, 4]
    assert facts["reason"] is None
    assert facts["completeness_error"] < 1e-5
    assert facts["completeness_error_float64"] < 1e-5  # the head is kept in float32


def test_inspect_tells_why_a_network_has_no_map(run):
    result = run("inspect", "alexnet", "--no-weights", "--json", "--input-size", "96")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (facts["kind"], facts["exact"], facts["completeness_error"]) == ("not-gap", False, None)
    assert len(facts["reason"]) > 20


def test_inspect_for_people(run):
    result = run("inspect", "digits")
    assert re.search(r"^kind +gap-linear *$", result.stdout, re.MULTILINE)
    assert re.search(rf"^grid +{SIDES[0]} x {SIDES[1]} *$", result.stdout, re.MULTILINE)


def test_models(run):
    listed = json.loads(run("models", "--json").stdout)
    names = [model["name"] for model in listed]
    assert {"digits", "cifar-resnet20", "resnet50", "squeezenet1_1"} <= set(names)
    table = run("models").stdout
    assert all(name in table for name in names)


def test_help_of_every_command(run):
    assert {"explain", "inspect", "models"} <= set(re.findall(r"^  (\w+) ", run("--help").stdout, re.MULTILINE))
    for command in ("explain", "inspect", "models"):
        result = run(command, "-h")
        assert result.exit_code == 0
        assert f"Example: cam {command}" in result.stdout


def test_help_waits_for_no_torch():
    code = """
import sys
from click.testing import CliRunner
from cam.cli.main import main
print([CliRunner().invoke(main, line.split()).exit_code for line in ("--help", "explain --help", "--version")])
print(sorted({"torch", "torchvision", "cv2", "PIL", "numpy"} & set(sys.modules)))
"""
    begin = time.perf_counter()
    done = program(sys.executable, "-c", code)
    assert done.stdout == "[0, 0, 0]\n[]\n", done.stderr
    assert time.perf_counter() - begin < 5


def test_the_three_ways_to_start_are_one_program(tmp_path):
    installed = shutil.which("cam", path=str(Path(sys.executable).parent))
    ways = [[sys.executable, "-m", "cam"], [sys.executable, "cli.py"], *([[installed]] if installed else [])]
    helps = [program(*way, "explain", "--help") for way in ways]
    assert {done.returncode for done in helps} == {0}
    assert len({done.stdout for done in helps}) == 1
    assert helps[0].stdout.startswith("Usage: cam explain [OPTIONS] INPUT...")
    assert {program(*way, "--version").stdout for way in ways} == {f"cam, version {VERSION}\n"}


def test_a_pipe_gets_no_progress_and_no_colors(tmp_path):
    arguments = "-m", "cam", "explain", str(SAMPLES / "five.png"), "-m", "digits", "-o", str(tmp_path / "out")
    done = program(sys.executable, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith(f"1 explained, 0 failed: {tmp_path / 'out'}\n")
    assert max(map(len, done.stdout.splitlines())) > 10


def test_a_network_of_gray_pictures_is_inspected(tmp_path, monkeypatch):
    (tmp_path / "gray.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *pooled, nn.Linear(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["inspect", "gray:make", "--mean", "0.5", "--std", "0.5", "--input-size", "16", "--json"]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["kind"], found["input"], found["grid"]) == ("gap-linear", [1, 16, 16], [14, 14])
