"""One small body under three heads: what an average over places forgets, and a flattened map remembers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from cam.networks.global_average_pooling import global_average_pool

HeadName = Literal["gap-linear", "flatten-linear", "flatten-mlp"]
PaddingMode = Literal["zeros", "circular", "reflect"]

LAYERS = ((16, 2), (32, 1), (32, 2), (64, 1), (64, 2))
"""Channels and stride of the body's convolutions: together one cell for 8 x 8 pixels."""
HIDDEN = 64
"""Width of the layer between the two that are fully connected."""


class HeadsCompared(nn.Module):
    """Five 3x3 convolutions, each with batch normalization and ReLU, and one of three heads.

    Args:
        head: `gap-linear` averages each feature map (Lin et al. 2014, section 3.2), `flatten-linear` has a weight
            for every place of every map, and `flatten-mlp` two fully connected layers with dropout (Hinton et al.
            2012), as networks had before.
        padding_mode: what the convolutions see beyond the border: `zeros`, which tell where it is (Islam et al.
            2020), the opposite side (`circular`), or the picture mirrored (`reflect`).
        num_classes: number of class scores.
        size: (H, W) of the pictures, pixels; `gap-linear` takes any other too.

    Example:
        >>> HeadsCompared("flatten-linear")(torch.zeros(2, 3, 32, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        head: HeadName = "gap-linear",
        padding_mode: PaddingMode = "zeros",
        num_classes: int = 10,
        size: tuple[int, int] = (32, 64),
    ) -> None:
        super().__init__()
        layers, channels, cells = [], 3, size
        for out_channels, stride in LAYERS:
            layers.append(_layer(channels, out_channels, stride, padding_mode))
            channels, cells = out_channels, (-(-cells[0] // stride), -(-cells[1] // stride))
        self.features = nn.Sequential(*layers)
        self.head = _head(head, channels, cells[0] * cells[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (logits), (N, num_classes), of normalized RGB pictures, (N, 3, H, W)."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits


class GlobalAveragePool(nn.Module):
    """`global_average_pool` as a layer: (N, K, h, w) to (N, K)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Average every map, (N, K, h, w), over its places: (N, K)."""
        return global_average_pool(features)


def _layer(in_channels: int, out_channels: int, stride: int, padding_mode: PaddingMode) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False, padding_mode=padding_mode)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def _head(name: HeadName, channels: int, places: int, num_classes: int) -> nn.Sequential:
    if name == "gap-linear":
        return nn.Sequential(OrderedDict(pool=GlobalAveragePool(), linear=nn.Linear(channels, num_classes)))
    values = channels * places
    if name == "flatten-linear":
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(values, num_classes)))
    # Without the normalization it gives one answer to all pictures, at the learning rate that the other heads need.
    hidden = nn.Sequential(nn.Linear(values, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=hidden, linear=nn.Linear(HIDDEN, num_classes)))
