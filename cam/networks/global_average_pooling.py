"""Global average pooling: it makes a class score an average over positions."""

from __future__ import annotations

import torch


def global_average_pool(features: torch.Tensor) -> torch.Tensor:
    """Average feature maps (N, K, h, w) over all positions: (N, K), same dtype (Lin et al. 2014, section 3.2).

    A network that ends like this takes images of any size, and its score forgets where the object was.

    Example:
        >>> global_average_pool(torch.arange(24.0).reshape(1, 2, 3, 4))
        tensor([[ 5.5000, 17.5000]])
    """
    return features.mean((2, 3))
