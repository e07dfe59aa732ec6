"""Networks and photographs small enough for any test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.heads.copies import random_inputs
from cam.heads.head import Head
from cam.maps.geometry import Grid

BATCH = random_inputs(3, (3, 32, 32), 5)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
WHITE = np.full((32, 32, 3), 255, np.uint8)


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


def three_classes() -> nn.Module:
    """Cells of 4 x 4 pixels and always the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


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


def engine_parts(classifier: Classifier) -> tuple[nn.Module, Head, tuple[int, int, int]]:
    """Network, head and input shape, which engines are made of."""
    return classifier.network, classifier.head, classifier.preprocessing.input_shape


def seeing_white() -> cam.Classifier:
    """Evidence for white is the sum of each 4 x 4 window of three channels: 48 where all of it is white."""
    convolution, linear = nn.Conv2d(3, 1, 4, 4, bias=False), nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        convolution.weight.fill_(1)
        linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    network = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    plain = Preprocessing(32, (32, 32), **PLAIN)
    classifier = cam.wrap(network, preprocessing=plain, labels=["black", "white"])
    return replace(classifier, grid=Grid((1.5, 1.5), (4, 4), "measured"))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]
