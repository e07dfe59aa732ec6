"""Global average pooling: it makes a class score an average over positions."""

from __future__ import annotations

import torch


def global_average_pool(features: torch.Tensor) -> torch.Tensor:
    """Average every feature map over all positions (Lin et al. 2014, section 3.2).

    Each map becomes one number, whatever its size: a network that ends like this takes images of any size, and its
    score forgets where the object was.

    Args:
        features: feature maps, (N, K, h, w), any floating dtype and device.

    Returns:
        Their averages, (N, K), same dtype and device.

    Example:
        >>> global_average_pool(torch.arange(24.0).reshape(1, 2, 3, 4))
        tensor([[ 5.5000, 17.5000]])
    """
    return features.mean((2, 3))
