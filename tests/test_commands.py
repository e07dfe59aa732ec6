"""`cam inspect`, `cam models`, help, wrong options, and the process: its start, memory and end."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import CARD, DIGITS, SAMPLES, lines

from cam.cli.main import main
from cam.cli.process import importing
from cam.version import VERSION

ROOT = Path(__file__).parents[1]
GRID = [side // 4 for side in CARD["preprocessing"]["crop"]]  # of the embedded model
GROUPS = ["Inputs", "Model", "What to explain", "Picture", "Clips", "Speed", "Run", "Limits"]


def program(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_inspect_prints_facts_as_json(run):
    result = run("inspect", "digits", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert {"feature_layer", "offset"} <= facts.keys()
    assert (facts["kind"], facts["exact"], facts["classes"], facts["grid"]) == ("gap-linear", True, 10, GRID)
    assert facts["stride"] == [4, 4]
    assert facts["labels"] == list("0123456789")
    assert facts["reason"] is None
    assert facts["completeness_error"] < 1e-5
    assert facts["completeness_error_float64"] < 1e-5  # the head is in float32


def test_inspect_gives_the_reason_if_a_network_has_no_map(run):
    result = run("inspect", "position-flatten", "--exact-only", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (facts["kind"], facts["exact"], facts["completeness_error"]) == ("not-gap", False, None)
    assert len(facts["reason"]) > 20


def test_inspect_prints_a_table(run):
    result = run("inspect", "digits")
    assert re.search(r"^kind +gap-linear *$", result.stdout, re.MULTILINE)
    assert "labels" not in result.stdout  # there may be thousands
    assert re.search(rf"^grid +{GRID[0]} x {GRID[1]} *$", result.stdout, re.MULTILINE)


def test_inspect_takes_a_network_for_gray_images(run, tmp_path, monkeypatch):
    (tmp_path / "gray.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *pooled, nn.Linear(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = run("inspect", "gray:make", "--mean", "0.5", "--std", "0.5", "--input-size", "16", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["input"], facts["grid"]) == ("gap-linear", [1, 16, 16], [14, 14])


def test_models_lists_names(run):
    names = [model["name"] for model in json.loads(run("models", "--json").stdout)]
    assert {"digits", "cifar-resnet20", "resnet50", "squeezenet1_1"} <= set(names)
    table = run("models").stdout
    assert all(name in table for name in names)


def help_of(command: str) -> str:
    """The help on a terminal of 80 columns, of which click leaves two empty."""
    return CliRunner().invoke(main, [*command.split(), "-h"], prog_name="cam", terminal_width=78).stdout


def test_help_of_explain_has_groups_and_one_line_for_each_option():
    text = help_of("explain")
    assert re.findall(r"^(\S.+):$", text, re.MULTILINE) == GROUPS
    options = text[text.index("\nInputs:") :].splitlines()
    assert all(re.match(r"  -|\S.+:$|$", line) for line in options), options
    columns = {len(re.match(r"  -.+?  +", line)[0]) for line in options if line.startswith("  -")}
    assert len(columns) == 1  # one column of help texts over all groups


@pytest.mark.parametrize("command", ["compare", "merge", "report", "models", "inspect", "invariance", "evaluate grid"])
def test_help_of_every_command_is_short(command):
    text = help_of(command)
    assert "Example: cam " + command in text
    assert not re.findall(r"^ {8,}\S", text, re.MULTILINE)  # a second line of an option


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("explain", "cam explain [OPTIONS] -o FOLDER INPUT..."),
        ("compare", "cam compare [OPTIONS] -o FOLDER RUN_A RUN_B"),
        ("invariance", "cam invariance [OPTIONS] -o FOLDER INPUT"),
        ("evaluate grid", "cam evaluate grid [OPTIONS] FOLDER"),
        ("audit", "cam audit [OPTIONS] OUT"),
    ],
)
def test_the_usage_line_has_what_is_required(command, usage):
    assert help_of(command).splitlines()[0] == f"Usage: {usage}"


def test_the_list_of_commands_shows_whole_sentences():
    commands = help_of("").partition("Commands:")[2].split("\n")[1:-1]
    assert len(commands) == 10
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_help_imports_no_torch_and_takes_no_time():
    code = """
import sys
from click.testing import CliRunner
from cam.cli.main import main
print([CliRunner().invoke(main, line.split()).exit_code for line in ("--help", "explain --help", "--version")])
print(sorted({"torch", "torchvision", "cv2", "PIL", "numpy"} & set(sys.modules)))
"""
    start = time.perf_counter()
    result = program(sys.executable, "-c", code)
    assert result.stdout == "[0, 0, 0]\n[]\n", result.stderr
    assert time.perf_counter() - start < 5  # on a busy machine


@pytest.mark.parametrize(
    ("option", "suggestion"),
    [
        ("--alpha", "Did you mean --opacity?"),
        ("--alpha=0.3", "Did you mean --opacity?"),
        ("--class", "Did you mean --target?"),
        ("--img", "Did you mean INPUT?"),
        ("--image-path", "Did you mean INPUT?"),
        ("--cmap", "Did you mean --colormap?"),
        ("--arch", "Did you mean --model?"),
        (
            "--target-layer",
            "No layer is needed: cam inspect shows the one found; --layer takes an earlier one.",
        ),
        ("--opacty", "Did you mean --opacity?"),
        ("--nonsense", "See cam explain --help."),
    ],
)
def test_a_wrong_option_is_answered_with_the_right_one(run, option, suggestion):
    result = run("explain", "dog.jpg", "-o", "out", option)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such option: {option.partition('=')[0]}. {suggestion}\n")


def test_an_option_of_another_command_is_not_suggested(run):
    result = run("evaluate", "grid", "photos", "--alpha", "1")
    assert result.stderr.endswith("Error: No such option: --alpha. See cam evaluate grid --help.\n")
    assert "Did you mean INPUT?" in run("invariance", "-o", "out", "--img", "dog.jpg").stderr


@pytest.mark.parametrize(
    ("option", "value", "must_be"),
    [
        ("--opacity", "1.5", "a number from 0 to 1"),
        ("--channels", "-1", "a whole number of 0 or more"),
        ("--batch-size", "many", "a whole number of 1 or more"),
        ("--mean", "0,5;1", "numbers separated by commas, such as 0.5,0.5,0.5"),
        ("--scale", "0", "run, image or a number above 0"),
        ("--scale", "nan", "run, image or a number above 0"),
        ("--save", "heat,maps", "some of overlay,heat,cam"),
        ("--save", "", "some of overlay,heat,cam"),
        ("--shard", "4/3", "a part such as 1/3, 2/3 or 3/3"),
    ],
)
def test_a_wrong_value_is_answered_with_the_right_ones(run, tmp_path, option, value, must_be):
    result = run("explain", SAMPLES, *DIGITS, "-o", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: {option} must be {must_be}, got {value!r}.\n")
    assert not (tmp_path / "out").exists()


def test_all_ways_to_start_are_one_program():
    installed = shutil.which("cam", path=str(Path(sys.executable).parent))
    commands = [[sys.executable, "-m", "cam"], [sys.executable, "cli.py"], *([[installed]] if installed else [])]
    helps = [program(*command, "explain", "--help") for command in commands]
    assert {result.returncode for result in helps} == {0}
    assert len({result.stdout for result in helps}) == 1
    assert helps[0].stdout.startswith("Usage: cam explain [OPTIONS] -o FOLDER INPUT...")
    assert {program(*command, "--version").stdout for command in commands} == {f"cam, version {VERSION}\n"}


def test_a_pipe_gets_no_progress_bar_and_no_colors(tmp_path):
    arguments = "-m", "cam", "explain", str(SAMPLES / "five.png"), "-m", "digits", "-o", str(tmp_path / "out")
    result = program(sys.executable, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("input 72x72, whole image resized to shorter side 72")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stdout
    assert result.stdout.endswith(f"1 explained, 0 failed: {tmp_path / 'out'}\n")


def test_a_stopped_run_shows_its_failures(run, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_text("text")
    inputs = SAMPLES / "five.png", tmp_path / "bad.png"
    assert run("explain", *inputs, *DIGITS, "-o", tmp_path / "out").exit_code == 3

    def stop(classifier, pictures, out, options, arguments, report, left_out, cluster):
        for line in lines(out):
            report(line)
        raise KeyboardInterrupt

    monkeypatch.setattr("cam.runs.run.explain_folder", stop)
    result = run("explain", *inputs, *DIGITS, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (130, "")
    _, heading, failed, stopped = result.stderr.splitlines()
    assert heading.split() == ["failed", "why"]
    assert failed.startswith(f"{tmp_path / 'bad.png'}  '{tmp_path / 'bad.png'}' is not an image")
    assert stopped == f"Stopped. Run the same command to continue in {str(tmp_path / 'out')!r}."


def test_any_command_can_be_stopped(run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cam.classifiers.inspection.inspect_model", stop)
    result = run("inspect", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_a_narrow_terminal_cuts_no_name(run, tmp_path, monkeypatch):
    folder = tmp_path / "a very long folder of photographs of the year"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"photograph-number-{number}.jpg").write_text("text")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = run("explain", folder, *DIGITS, "-o", tmp_path / "out").stderr
    assert "…" not in table
    for number in (1, 2):
        assert table.count(f"number-{number}") == 2  # in its column, and in the reason


def test_a_full_disk_behind_standard_output_is_one_sentence(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cam.cli.printing.show_models", full)
    result = run("models")
    assert (result.exit_code, result.stdout) == (1, "")
    message = "Standard output cannot be written (No space left on device)."
    assert result.stderr == f"Error: {message} Free disk space, or send the output elsewhere.\n"


BLOCK = 40_000_000
COUNT_PAGE_FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size on every machine
from cam.cli.process import keep_memory
{}
for number in range(12):
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * {}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
IMPORT = """
import gc
from cam.cli.process import importing
with importing():
    assert not gc.isenabled()
    import torch
assert gc.isenabled()
print(gc.get_freeze_count() > 10_000)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="another C library")
def test_freed_memory_is_used_again():
    pages = 10 * BLOCK / resource.getpagesize()
    tuned, usual = (
        int(program(sys.executable, "-c", COUNT_PAGE_FAULTS.format(first, BLOCK)).stdout)
        for first in ("assert keep_memory()", "")
    )
    assert tuned < 0.01 * pages < 0.9 * pages < usual


def test_garbage_collection_skips_imported_objects():
    assert program(sys.executable, "-c", IMPORT).stdout == "True\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_changes_if_torch_is_imported_already(enabled):
    frozen = gc.get_freeze_count()
    if not enabled:
        gc.disable()
    try:
        with importing():
            assert gc.isenabled() == enabled
        assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, frozen)
    finally:
        gc.enable()
