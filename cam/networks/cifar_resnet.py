"""Residual networks for small images (He et al. 2015, section 4.2): GAP, then one linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cam.errors import UsageError
from cam.networks.global_average_pooling import global_average_pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of He et al. 2015).

    A block that halves the map and adds channels takes every second position in the shortcut, and pads the new channels
    with zeros, half of them on each side.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        before = self.new_channels // 2
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """A residual network of three stages at full, half and quarter resolution (He et al. 2015, section 4.2).

    The parameters have the names of published checkpoints: `conv1`, `bn1`, `layer1..3.N.{conv1,bn1,conv2,bn2}` and
    `linear`. There are `depth` layers with weights, 6n + 2 with n >= 1, else it is a UsageError. The first stage has
    `width` channels, the second twice and the third four times as many. `stem_stride`, of the first convolution, is 2
    for images larger than CIFAR's.
    """

    def __init__(self, depth: int, num_classes: int = 10, width: int = 16, stem_stride: int = 1) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise UsageError(f"depth must be 6n + 2 with n >= 1, got {depth!r}", "Choose 8, 14, 20, 32, 44 or 56")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, 1, blocks)
        self.layer2 = _stage(width, 2 * width, 2, blocks)
        self.layer3 = _stage(2 * width, 4 * width, 2, blocks)
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps (N, 4 * width, h, w), >= 0, of images (N, 3, H, W): a quarter of their size, rounded up."""
        x = F.relu(self.bn1(self.conv1(x)))
        features: torch.Tensor = self.layer3(self.layer2(self.layer1(x)))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of normalized RGB images (N, 3, H, W) of any size."""
        logits: torch.Tensor = self.linear(global_average_pool(self.features(x)))
        return logits


def _stage(in_channels: int, out_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))
