"""One small body under three heads: an average over positions forgets the position, a flattened map does not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

HeadName = Literal["gap-linear", "flatten-linear", "flatten-mlp"]
PaddingMode = Literal["zeros", "circular", "reflect"]
LAYERS = ((16, 2), (32, 1), (32, 2), (64, 1), (64, 2))  # channels and stride of the convolutions
HIDDEN = 64  # units of the hidden layer of `flatten-mlp`


class SmallConvNet(nn.Module):
    """Five 3x3 convolutions, each with batch normalization and ReLU, and one of three heads.

    The head `gap-linear` averages each feature map (Lin et al. 2014, section 3.2), `flatten-linear` has a weight for
    every position of every map, `flatten-mlp` two linear layers with dropout (Hinton et al. 2012). The convolutions pad
    with `zeros`, which reveal where the border is (Islam et al. 2020), with the opposite side (`circular`) or with the
    mirrored image (`reflect`). Images have `size` (H, W); `gap-linear` takes any other size too.
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
            convolution = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False, padding_mode=padding_mode)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU()))
            channels, cells = out_channels, (-(-cells[0] // stride), -(-cells[1] // stride))
        self.features = nn.Sequential(*layers)
        self.head = _head(head, channels, cells[0] * cells[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of normalized RGB images (N, 3, H, W)."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits


def _head(name: HeadName, channels: int, cells: int, num_classes: int) -> nn.Sequential:
    if name == "gap-linear":
        linear = nn.Linear(channels, num_classes)
        return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=linear))
    values = channels * cells
    if name == "flatten-linear":
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(values, num_classes)))
    # Without BatchNorm it predicts one class for all images, at the learning rate that the other heads need.
    hidden = nn.Sequential(nn.Linear(values, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=hidden, linear=nn.Linear(HIDDEN, num_classes)))
