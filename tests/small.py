"""Networks and photographs small enough for any test."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import cam
from cam.classifiers import Classifier


class ConvGap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.classes = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        return self.classes(self.body(x).relu()).relu().mean((2, 3))


class GapNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        return self.linear(self.norm(self.body(x).relu().mean((2, 3))))


def gap_linear(classes: int = 5) -> nn.Module:
    body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


NETWORKS = {
    "gap-linear": gap_linear,
    "conv-gap": ConvGap,
    "gap-norm-linear": GapNorm,
    "one-logit": lambda: gap_linear(1),
}


def wrapped(kind: str = "gap-linear", device: torch.device | str = "cpu", **changes) -> Classifier:
    torch.manual_seed(3)
    network = NETWORKS[kind]().to(device)
    for parameter in network.parameters():  # biases that matter, class scores far apart
        nn.init.normal_(parameter, std=0.7)
    return cam.wrap(network, input_size=32, **changes)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]
