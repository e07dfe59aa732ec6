"""A wrong argument is one clear sentence, never a traceback."""

from __future__ import annotations

import os

import pytest
import torch
from refusals import refused
from runs import DIGITS, FIVE


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_may_not_be_entered(run, tmp_path):
    (tmp_path / "out").mkdir(mode=0)
    refused(run("explain", FIVE, *DIGITS, "-o", tmp_path / "out"), 1, "cannot be written")


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["-m", "position-flatten", "--exact-only"], 1, ["(not-gap)", "resnet50"]),
        (["-m", "resnet5"], 1, ["'resnet5'", "resnet50"]),
        (["-m", "nowhere:make"], 1, ["'nowhere:make'"]),
        (["-m", "nowhere.py:make"], 1, ["--model 'nowhere.py:make'", "No such file"]),
        (["-m", "./best.pth"], 1, ["--model './best.pth' does not exist", "Check the path"]),
        (["--input-size", "10000000"], 2, ["--input-size must be from 1 to 4096 pixels, got 10000000"]),
        (["--resolution", "999x"], 2, ["--resolution must be", "got 999x"]),
        (["--colormap", "jett"], 2, ["'jett'", "Use --colormap jet."]),
        (["list.txt"], 2, ["INPUT 'list.txt'", "--list list.txt"]),
        (["--device", "cuda:99"], 2, ["'cuda:99'", "--device auto or cpu"]),
        (["--device", "nonsense"], 2, ["'nonsense'", "auto, cpu, cuda"]),
        (["--scale", "big"], 2, ["run, image or a number above 0, got 'big'"]),
        (["--scale", "0"], 2, ["above 0, got '0'"]),
        (["--scale", "-3"], 2, ["above 0, got '-3'"]),
        (["--scale", "nan"], 2, ["'nan'"]),
        (["--scale", "inf"], 2, ["'inf'"]),
        (["--save", "overlay,heatmap"], 2, ["'overlay,heatmap'", "overlay,heat,cam"]),
        (["--save", ""], 2, ["''"]),
        (["--mean", "a,b,c"], 2, ["'a,b,c'", "0.5,0.5,0.5"]),
        (["--mean", "0.5,0.5"], 2, ["(0.5, 0.5)"]),
        (["--mean", "nan,0,0"], 2, ["nan"]),
        (["--std", "0,0,0"], 2, ["(0.0, 0.0, 0.0)"]),
        (["--opacity", "nan"], 2, ["nan"]),
        (["--target", "12"], 2, ["--target must be from 0 to 9, or a label, got 12"]),
        (["--target", "-1"], 2, ["--target must be from 0 to 9, or a label, got -1"]),
        (["--target", "top0"], 2, ["'top0'"]),
        (["--target", "cat"], 2, ["'cat'"]),
        (["--target", ""], 2, ["''"]),
        (["--labels", "nowhere.txt"], 2, ["'nowhere.txt'"]),
        (["--weights", "nowhere.pt"], 1, ["'nowhere.pt'"]),
        (["--weights", str(FIVE)], 1, ["five.png", "not in the format of torch.save"]),
        (["--weights", "."], 1, ["folder"]),
        (["--mean", "0.5", "--std", "0.5"], 1, ["does not run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_sentence(run, tmp_path, arguments, status, parts):
    model = [] if "-m" in arguments else ["-m", "digits"]
    refused(run("explain", FIVE, "-o", tmp_path / "out", *model, *arguments), status, *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_on_a_machine_without_a_gpu(run, tmp_path):
    refused(run("explain", FIVE, "-m", "digits", "-o", tmp_path / "out", "--device", "cuda"), 2, "'cuda'", "cpu")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [str(FIVE)],
        [str(FIVE), "-o", "out", "--fit", "fill"],
        [str(FIVE), "-o", "out", "--batch-size", "0"],
        [str(FIVE), "-o", "out", "--opacity", "2"],
        [str(FIVE), "-o", "out", "--format", "gif"],
        [str(FIVE), "-o", "out", "--max-pixels", "0"],
        [str(FIVE), "-o", "out", "--input-size", "0"],
        [str(FIVE), "-o", "out", "--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_prints_the_usage(run, arguments):
    result = run("explain", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Error: " in result.stderr


def test_inputs_without_images(run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run("explain", tmp_path / "empty", *DIGITS, "-o", tmp_path / "out"), 2, "holds no image")
    refused(run("explain", tmp_path / "*.jpg", *DIGITS, "-o", tmp_path / "out"), 2, "matches no image")


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_output_folder_that_is_a_file(run, tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    refused(run("explain", FIVE, *DIGITS, "-o", tmp_path / where), 2, "is a file, not a folder")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("out", ["in", "in/out"])
def test_an_output_inside_the_input(run, tmp_path, out):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(FIVE.read_bytes())
    refused(run("explain", tmp_path / "in", *DIGITS, "-o", tmp_path / out), 2, "outside it")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def test_a_cache_of_weights_that_cannot_be_written(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    refused(run("explain", FIVE, "-m", "resnet18", "-o", tmp_path / "out"), 1, "TORCH_HOME")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["resnet5"], "resnet50"), (["cifar-resnet20"], "--weights"), (["nowhere:make"], "nowhere")],
)
def test_inspect_an_unknown_model(run, arguments, part):
    refused(run("inspect", *arguments), 1, part)
    result = run("inspect", *arguments, "--json")
    assert result.stdout == ""
