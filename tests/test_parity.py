"""cam explain gives the same whatever way it takes: batches, devices, engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import DIGITS, PNG, classes, lines

from cam.drawing.colormaps import lookup, to_color_indices
from cam.engines import eager
from cam.images.io import read_image


def assert_same_drawn(out: Path, other: Path) -> None:
    """The same heat to a thousandth of a color's step, and the same pixels but where that is between two colors."""
    vmax = json.loads((other / "run.json").read_text())["scale"]
    for ours, theirs in zip(lines(out), lines(other), strict=True):
        files = [line["targets"][0]["files"] for line in (ours, theirs)]
        one, two = (
            to_color_indices(np.load(place / each["heat"]), vmax)
            for place, each in zip((out, other), files, strict=True)
        )
        assert np.abs(one - two).max() <= 1e-3
        between = np.abs(one % 1 - 0.5) <= 1e-3
        assert between.mean() < 0.01
        images = [
            read_image(place / each["overlay"]).astype(int) for place, each in zip((out, other), files, strict=True)
        ]
        height, width = one.shape
        difference = np.abs(images[0] - images[1])
        assert difference[:height, :width][~between].max() == 0
        assert difference.max() <= np.abs(np.diff(lookup("signed")[1:].astype(int), axis=0)).max() / 2 + 1


@pytest.mark.parametrize("size", [1, 32])
def test_batches_of_any_size_give_the_same(run, folder, whole, tmp_path, size):
    result = run("explain", folder, *PNG, "-o", tmp_path / "out", "--batch-size", size)
    assert result.exit_code == 0, result.output
    assert classes(tmp_path / "out") == classes(whole)
    assert_same_drawn(tmp_path / "out", whole)


def test_devices_give_the_same(run, folder, whole, tmp_path, device):
    result = run("explain", folder, *PNG, "--device", device.type, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for ours, theirs in zip(lines(tmp_path / "out"), lines(whole), strict=True):
        (mine,), (other,) = ours["targets"], theirs["targets"]
        assert mine["class_idx"] == other["class_idx"]
        assert mine["logit"] == pytest.approx(other["logit"], abs=1e-3)
    assert_same_drawn(tmp_path / "out", whole)


def test_convolutions_do_not_use_tf32_during_a_run(run, folder, tmp_path, monkeypatch):
    seen = []
    before = torch.backends.cudnn.allow_tf32
    plain = eager.EagerEngine.run

    def take(self, *args):
        seen.append(torch.backends.cudnn.allow_tf32)
        return plain(self, *args)

    monkeypatch.setattr(eager.EagerEngine, "run", take)
    assert run("explain", folder, *DIGITS, "--engine", "eager", "-o", tmp_path / "out").exit_code == 0
    assert set(seen) == {False}
    assert torch.backends.cudnn.allow_tf32 == before


def test_engines_give_the_same(run, folder, whole, tmp_path):
    pytest.importorskip("onnxruntime")
    engine = "--engine", "onnxruntime"
    result = run("explain", folder, *PNG, "-o", tmp_path / "out", *engine)
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1  # what the input is; it did not fall back
    for ours, theirs in zip(lines(tmp_path / "out"), lines(whole), strict=True):
        (mine,), (other,) = ours["targets"], theirs["targets"]
        assert mine["class_idx"] == other["class_idx"]
        assert mine["logit"] == pytest.approx(other["logit"], abs=1e-3)
        assert mine["peak"] == other["peak"]
        one, two = (
            read_image(place / target["files"]["overlay"]).astype(int)
            for place, target in ((tmp_path / "out", mine), (whole, other))
        )
        assert np.abs(one - two).max() <= 4  # one step of the color map
