"""Networks and streams that misbehave: standard output has results only, and the exit status is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from memory import ENVIRONMENT
from refusals import refused
from runs import FIVE, lines

import cam
from cam.errors import ModelError
from cam.images.io import write_image

HOSTILE = """
import os, sys, torch
from torch import nn

print("imported")

class Fatal(BaseException):
    pass

class Network(nn.Sequential):
    first = None
    def forward(self, x):
        print("forward")
        if self.first:
            self.first(x)
        return super().forward(x)

def make(first=None):
    print("made")
    os.system("echo from a child")
    torch.manual_seed(0)
    network = Network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network.first = first
    return network

def on_gray(end):
    def first(x):
        if x.std((2, 3)).max() < 1e-6 and x.abs().max() > 0.01:  # not at what is made up to find the head
            end()
    return first

def replaces_streams():
    sys.stdout.close()
    sys.stderr.close()
    sys.stdout = sys.stderr = open(os.devnull, "w")
    return make()

def moves():
    os.chdir("/")
    sys.path.pop()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    with torch.device("cpu"):
        return make()

def fatal():
    raise Fatal("no")

def exits():
    exit(9)

def interrupts():
    raise KeyboardInterrupt

def fatal_later(**arguments):
    if arguments:
        raise Fatal("no")
    return make()

always_exits = lambda: make(lambda x: exit(9))
always_fatal = lambda: make(lambda x: (_ for _ in ()).throw(Fatal("no")))
sometimes_exits = lambda: make(on_gray(exit))
sometimes_fatal = lambda: make(on_gray(fatal))
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """A folder with the networks, as the working directory, and three images, of which the second is gray."""
    monkeypatch.chdir(tmp_path)
    Path("hostile.py").write_text(HOSTILE)
    for name in "ac":
        Path(f"{name}.png").write_bytes(FIVE.read_bytes())
    write_image(Path("b.png"), np.full((40, 40, 3), 128, np.uint8))
    return tmp_path


def model(name: str) -> list[str]:
    return ["-m", f"hostile.py:{name}", "--input-size", "32"]


@pytest.mark.parametrize("name", ["make", "moves"])
def test_the_output_is_json_whatever_a_network_prints_and_changes(run, hostile, name):
    path = [*sys.path]
    result = run("explain", "a.png", *model(name), "-o", "out", "--json")
    assert (result.exit_code, json.loads(result.stdout)["explained"]) == (0, 1)
    assert result.stderr.startswith("imported\nmade\nforward\n")
    assert (Path.cwd(), sys.path, torch.empty(0).dtype) == (hostile, path, torch.float32)
    assert str(torch.empty(0).device) == "cpu"
    assert lines(hostile / "out")[0]["status"] == "ok"


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "hostile.py:make", "--input-size", "32"],
        ["evaluate", "sanity", "a.png", *model("make"), "--stages", "2"],
        ["invariance", "a.png", *model("make"), "-o", "out", "--steps", "2", "--canvas", "40"],
    ],
    ids=lambda command: command[0],
)
def test_other_commands_print_json_only(run, hostile, command):
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)
    assert "forward\n" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fatal", "'hostile.py:fatal' failed: Fatal: no. Fix the factory."),
        ("exits", "'hostile.py:exits' failed: SystemExit: 9. Fix the factory."),
        ("always_exits", "The model's code ended the command (SystemExit: 9). Remove the call of exit() from it"),
        ("always_fatal", "The model's code ended the command (Fatal: no)."),
    ],
)
def test_code_that_ends_the_command_is_one_sentence(run, hostile, name, message):
    refused(run("explain", "a.png", *model(name), "-o", "out"), 1, message)


def test_an_interrupt_is_the_users(run, hostile):
    result = run("explain", "a.png", *model("interrupts"), "-o", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "imported\nStopped. Run the same command to continue in 'out'.\n"


def test_a_factory_may_fail_when_it_is_called_again_for_the_classes_of_a_checkpoint(run, hostile):
    state = {"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}
    torch.save({**state, "4.weight": torch.zeros(5, 4), "4.bias": torch.zeros(5)}, "five.pt")
    result = run("explain", "a.png", *model("fatal_later"), "-o", "out", "--weights", "five.pt")
    refused(result, 1, "failed: Fatal: no")


@pytest.mark.parametrize(
    ("name", "reason"), [("sometimes_exits", "SystemExit: None"), ("sometimes_fatal", "Fatal: no")]
)
def test_what_ends_a_thread_at_one_image_costs_its_line_only(run, hostile, name, reason):
    result = run("explain", ".", *model(name), "-o", f"../{name}", "--batch-size", "1", "--json")
    assert result.exit_code == 3
    remedy = "Remove what raises it, such as a call of exit()."
    assert json.loads(result.stdout)["errors"] == {
        "b.png": f"The code of 'hostile.py:{name}' raises {reason}. {remedy}"
    }


def test_an_exit_in_the_main_thread_of_a_program_may_be_its_own(hostile):
    """As from its handler of a signal, which Python runs in the main thread, in the middle of a forward pass."""
    classifier = cam.load_classifier("hostile.py:sometimes_exits", input_size=32, device="cpu")
    inputs = torch.full((1, 3, 32, 32), 0.5)
    with pytest.raises(SystemExit):
        classifier.forward(inputs)
    caught: list[BaseException] = []

    def forward():
        try:
            classifier.forward(inputs)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=forward)
    thread.start()
    thread.join()
    assert isinstance(caught[0], ModelError)


def shell(*command: str, redirections: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in a shell with redirections."""
    words = "sh", "-c", f'"$@" {redirections}', "sh", sys.executable, *command
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(cam.__file__).parents[1])}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


def test_child_processes_and_changed_streams_leave_the_results_alone(hostile):
    result = shell("-m", "cam", "inspect", "hostile.py:replaces_streams", "--input-size", "32", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["classes"] == 2
    assert "from a child\n" in result.stderr


def test_readers_that_go_away_change_nothing(hostile):
    Path("bad.png").write_text("text")
    command = "-m", "cam", "explain", "a.png", "bad.png", "-m", "digits", "-o", "out", "--report"
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(cam.__file__).parents[1])}
    assert subprocess.run([sys.executable, *command], env=environment, stdout=writer, stderr=writer).returncode == 3
    os.close(writer)
    assert Path("out/report.html").exists()


STREAMS = """
import os, sys
from contextlib import suppress
from cam.cli.process import own_streams
with own_streams():
    assert sys.stdin.read() == ""
    assert os.open(os.devnull, os.O_WRONLY) > 2  # no stream would write to it
    with suppress(OSError):  # the disk is full
        os.write(1, b"from a child, ")
    print("a message", file=sys.stderr, flush=True)
    print("the result")
print("the end")
"""


@pytest.mark.parametrize(
    ("redirections", "expected"),
    [
        ("</dev/null", ("the result\n", "from a child, a message\nthe end\n")),
        ("<&- 2>&-", ("the result\n", "")),
        ("<&- >&- 2>&-", ("", "")),
        ("</dev/null 2>/dev/full", ("the result\n", "")),
    ],
)
def test_closed_streams(redirections, expected):
    result = shell("-c", STREAMS, redirections=redirections)
    assert (result.returncode, result.stdout, result.stderr) == (0, *expected)


@pytest.mark.parametrize(("arguments", "status"), [("--help", 1), ("--nonsense", 2)])
def test_a_full_disk_behind_a_stream(arguments, status):
    result = shell("-m", "cam", arguments, redirections=">/dev/full" if status == 1 else "2>/dev/full")
    assert result.returncode == status
    assert result.stderr.count("\n") == (status == 1)
