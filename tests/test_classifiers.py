"""A classifier is what its owner asked for, on a device that is there, whatever mode torch is in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cam.classifiers.load import load_classifier, wrap
from cam.errors import CamError, UsageError
from cam.tensors import pick_device


class Shifted(nn.Module):
    """Cells of 4 x 4 pixels whose evidence is their upper left pixel, checkpointed if wanted."""

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
def nothing_remembered(tmp_path, monkeypatch) -> Path:
    """The cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("made_in_mode", [True, False])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_the_grid_is_measured_in_any_mode(nothing_remembered, device, mode, made_in_mode, checkpointed):
    network = Shifted(checkpointed).to(device)
    with mode():
        classifier = wrap(Shifted(checkpointed).to(device) if made_in_mode else network, input_size=32)
    assert classifier.grid.method == "measured"
    assert classifier.grid.stride == (4, 4)
    assert classifier.grid.offset == pytest.approx((0, 0), abs=1e-6)  # stretching says 1.5
    assert len([path for path in nothing_remembered.rglob("*") if path.is_file()]) == 1
    assert classifier.network.training


@pytest.mark.parametrize(
    "name", ["nonsense", "cuda:99", "cuda:-1", "cuda:1000000", "", "meta", "cpu:3", "mps:5", "cuda:x"]
)
def test_a_device_that_is_not_there_is_a_usage_error(name):
    with pytest.raises(UsageError) as refusal:
        pick_device(name)
    assert repr(name) in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_asked_for_and_absent():
    with pytest.raises(UsageError, match=r"'cuda'.*--device auto or cpu"):
        load_classifier("digits", device="cuda")


def test_adjusted_preprocessing_reaches_the_classifier():
    classifier = load_classifier("digits", input_size=40, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), device="cpu")
    assert classifier.preprocessing.crop == (40, 40)
    assert classifier.preprocessing.mean == (0.1, 0.2, 0.3)
    with pytest.raises(UsageError, match="do not go together"):
        load_classifier("digits", mean=(0.1,), device="cpu")


def test_labels_must_be_as_many_as_the_classes():
    with pytest.raises(UsageError, match="2 labels for the 10 classes"):
        load_classifier("digits", labels=["a", "b"], device="cpu")


def test_a_model_that_takes_no_color_is_an_error_of_ours():
    with pytest.raises(CamError, match="does not run"):
        load_classifier("digits", mean=(0.5,), std=(0.5,), device="cpu")
