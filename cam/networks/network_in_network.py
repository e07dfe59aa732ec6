"""Network in Network (Lin et al. 2014): no linear layer, the scores are averages of class maps."""

from __future__ import annotations

import torch
from torch import nn

from cam.networks.global_average_pooling import global_average_pool


class NetworkInNetwork(nn.Module):
    """Three mlpconv blocks for 32x32 images, the last with one map per class (Lin et al. 2014, section 3).

    The layers have the widths of the paper for CIFAR-10. The class map is the output of the last layer, with ReLU as in
    the paper, so no class score is below 0. The softmax belongs to the loss.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.block1 = _mlpconv(3, 192, 160, 96, kernel=5)
        self.block2 = _mlpconv(96, 192, 192, 192, kernel=5)
        self.block3 = _mlpconv(192, 192, 192, num_classes, kernel=3)
        self.shrink = nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), nn.Dropout(0.5))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Class maps (N, num_classes, h, w), >= 0, of images (N, 3, H, W): a quarter of their size, rounded up."""
        x = self.shrink(self.block1(x))
        x = self.shrink(self.block2(x))
        features: torch.Tensor = self.block3(x)
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of normalized RGB images (N, 3, H, W) of any size."""
        return global_average_pool(self.features(x))


def _mlpconv(in_channels: int, width: int, hidden: int, out_channels: int, kernel: int) -> nn.Sequential:
    """A convolution and two 1x1 ones: the same small perceptron at every position (Lin et al. 2014, eq. 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.Conv2d(width, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, out_channels, 1),
        nn.ReLU(),
    )
