"""What the tests of files with networks share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cam

PHOTO = np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)


class Net(nn.Module):
    """Features are a convolution with a ReLU; the class scores are a linear layer on their mean."""

    def __init__(self, classes: int = 4, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.fc = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU()), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class WithSizes(Net):
    """The batch and the size of the image are in its operations, and a mask is written in place through a view."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x).view(x.shape[0], 2, 4, 8, 8).transpose(1, 2).reshape(x.shape[0], 8, 8, 8)
        mask = x.new_ones(8, 8)
        mask[2:4, 1:3].zero_()
        return self.fc((features * mask).mean((2, 3)))


def export(network: nn.Module, file: Path, batch: int | None = None, side: int = 64, channels: int = 3) -> Path:
    shapes = ({0: torch.export.Dim.DYNAMIC},) if batch is None else None
    inputs = torch.zeros(batch or 2, channels, side, side)
    torch.export.save(torch.export.export(network.eval(), (inputs,), dynamic_shapes=shapes), file)
    return file


def script(network: nn.Module, file: Path, kind: str = "scripted", side: int = 64) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; people still have such files
        if kind == "traced":
            module = torch.jit.trace(network.eval(), torch.zeros(1, 3, side, side))
        else:
            module = torch.jit.script(network.eval())
        torch.jit.save(torch.jit.freeze(module) if kind == "frozen" else module, file)
    return file


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], compression: int = ZIP_STORED) -> Path:
    """A copy of a zip file with other contents of its members."""
    with ZipFile(source) as old, ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def check_like(classifier: cam.Classifier, network: nn.Module, side: int = 64) -> None:
    """Logits, maps and places are those of the plain module."""
    plain = cam.wrap(network, input_size=side)
    inputs = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(inputs), network(inputs), rtol=1e-4, atol=1e-5)
    assert classifier.head.kind == plain.head.kind
    np.testing.assert_allclose(
        classifier.grid.offset + classifier.grid.stride, plain.grid.offset + plain.grid.stride, 1e-4
    )
    expected, actual = cam.explain(plain, PHOTO, 3), cam.explain(classifier, PHOTO, 3)
    scale = np.abs(expected.evidence_map).max()
    np.testing.assert_allclose(actual.evidence_map, expected.evidence_map, rtol=0, atol=1e-4 * scale)
    assert actual.logit == pytest.approx(expected.logit, rel=1e-4, abs=1e-5)
