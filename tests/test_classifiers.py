"""A classifier has the preprocessing, labels and device that the caller gave, in any autograd mode."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cam.classifiers.inspection import inspect_model
from cam.classifiers.load import load_classifier, wrap
from cam.errors import OutOfMemoryError, UsageError
from cam.tensors import pick_device


class Shifted(nn.Module):
    """Cells of 4 x 4 pixels whose evidence is their upper left pixel, perhaps with checkpointing."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight[:, :, 1:] = 0
            self.conv.weight[:, :, :, 1:] = 0

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = checkpoint(self.features, x, use_reentrant=False) if self.checkpointed else self.features(x)
        return self.fc(features.mean((2, 3)))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("made_in_mode", [True, False])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_the_grid_is_measured_in_any_mode(empty_cache, device, mode, made_in_mode, checkpointed):
    network = Shifted(checkpointed).to(device)
    with mode():
        classifier = wrap(Shifted(checkpointed).to(device) if made_in_mode else network, input_size=32)
    assert classifier.grid.method == "measured"
    assert classifier.grid.stride == (4, 4)
    assert classifier.grid.offset == pytest.approx((0, 0), abs=1e-3)  # stretching says 1.5
    assert len([path for path in empty_cache.rglob("*") if path.is_file()]) == 1
    assert classifier.network.training


@pytest.mark.parametrize(
    "name", ["nonsense", "cuda:99", "cuda:-1", "cuda:1000000", "", "meta", "cpu:3", "mps:5", "cuda:x"]
)
def test_a_missing_device_is_a_usage_error(name):
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        pick_device(name)


def test_the_callers_preprocessing_reaches_the_classifier():
    classifier = load_classifier("digits", input_size=40, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), device="cpu")
    assert classifier.preprocessing.crop == (40, 40)
    assert classifier.preprocessing.mean == (0.1, 0.2, 0.3)
    with pytest.raises(UsageError, match="mean and std must have a number for each channel"):
        load_classifier("digits", mean=(0.1,), device="cpu")


def test_every_class_needs_a_label():
    with pytest.raises(UsageError, match="2 labels for the 10 classes"):
        load_classifier("digits", labels=["a", "b"], device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "resnet18"}, "network must be a torch.nn.Module, got 'resnet18'"),
        ({"preprocessing": 256}, "preprocessing must be a cam.Preprocessing or a callable, got int"),
        ({"input_size": (96, 96)}, "--input-size must be from 1 to 4096 pixels, got .96, 96."),
        ({"input_size": 10_000_000}, "--input-size must be from 1 to 4096 pixels, got 10000000"),
        ({"labels": {1: "a", 2: "b"}}, "labels has 2 labels but none for class 0"),
    ],
)
def test_a_wrong_argument_of_wrap_is_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        wrap(**{"network": Shifted(), "input_size": 32, **arguments})


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("load", "copies"),
    [
        (lambda: load_classifier("digits", device="cpu"), 1),
        (lambda: wrap(Shifted(), input_size=32), 1),
        (lambda: inspect_model("digits"), 2),  # one for the proof in float64
    ],
    ids=["load_classifier", "wrap", "inspect_model"],
)
def test_loading_copies_the_network_once(empty_cache, monkeypatch, load, copies, cached):
    torch.manual_seed(0)
    if cached:
        load()
        torch.manual_seed(0)
    copied: list[object] = []
    deepcopy = copy.deepcopy

    def counting(value, memo=None, *rest):
        if isinstance(value, nn.Module) and memo is None:
            copied.append(value)
        return deepcopy(value, memo, *rest)

    monkeypatch.setattr(copy, "deepcopy", counting)
    load()
    assert len(copied) == copies - cached


def test_a_network_that_does_not_fit_into_the_memory_of_its_device(monkeypatch):
    classifier = wrap(Shifted(), input_size=16)

    def fail(*arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(nn.Module, "to", fail)
    with pytest.raises(OutOfMemoryError, match=r"Out of memory for the model on --device cpu\. Use fewer --processes"):
        classifier.to(torch.device("cpu"))
