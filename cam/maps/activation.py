"""Class activation maps, and proofs that they add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Compute class activation maps, which show where class scores come from (Zhou et al. 2016, eq. 2).

    Args:
        features: last spatial feature maps, (N, K, h, w), any floating dtype.
        weight: rows of the head for T classes, (T, K), or one set per image, (N, T, K), logits per unit of a feature.

    Returns:
        Signed maps (N, T, h, w), float32 (float64 if the weight is), in logit units: their mean over
        (h, w) plus the bias is the logit.

    Example:
        >>> features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # (N, K, h, w) = (1, 2, 1, 2)
        >>> class_activation_maps(features, torch.tensor([[1.0, -1.0]])).tolist()
        [[[[1.0, 1.0]]]]
    """
    cams = torch.matmul(weight, features.flatten(2).to(weight.dtype))
    return cams.view(*cams.shape[:2], *features.shape[2:])


def image_scales(pooled: Tensor, weight: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
    """Recover the one number by which a normalization layer scaled each image.

    Behind a normalization `logit_c - bias_c = s * weight_c . mean(f)` with the same `s` for all classes:
    C equations in one unknown, solved by least squares. Completeness still tests the other C - 1.

    Args:
        pooled: features averaged over the positions, (N, K).
        weight: rows of the head, (C, K), up to a common factor.
        bias: (C,), in logit units.
        logits: class scores, (N, C).

    Returns:
        Scales (N,), no unit; 1 if every class score is its bias.

    Example:
        >>> pooled, weight = torch.tensor([[1.0, 2.0]]), torch.eye(2)
        >>> image_scales(pooled, weight, torch.zeros(2), torch.tensor([[3.0, 6.0]])).tolist()
        [3.0]
    """
    unscaled = pooled.to(weight.dtype) @ weight.T
    energy = unscaled.square().sum(1)
    scales = (unscaled * (logits.to(weight.dtype) - bias)).sum(1) / energy
    return torch.where(energy > 0, scales, torch.ones_like(scales))


def completeness_error(cams: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
    """Measure how far maps miss the logits: abs(mean(cam) + bias - logit) / max(1, abs(logit)).

    Args:
        cams: maps (..., h, w), logit units.
        bias: (...), logit units.
        logits: class scores of the network, (...).

    Returns:
        Relative errors (...), no unit, at least 0.

    Example:
        >>> completeness_error(torch.tensor([[1.0, 3.0]]), torch.tensor(0.5), torch.tensor(2.5)).item()
        0.0
    """
    return (cams.mean((-2, -1)) + bias - logits).abs() / logits.abs().clamp(min=1)


@dataclass(frozen=True, repr=False)
class AllClasses:
    """What the maps of all classes of one image are computed from."""

    logits: Tensor  # (C,) float32, at the model's own input size
    probabilities: Tensor  # (C,) float32; NaN where the scores are values, not probabilities
    map_logits: Tensor  # (C,) float32, scores that the maps add up to
    bias: Tensor  # (C,) float32, logit units
    features: Tensor  # (K, h, w), any floating dtype
    weight: Tensor | None  # rows of the head (C, K); None if the features are the maps themselves, or with `maps_of`
    maps_of: Callable[[Sequence[int]], Any] | None = None  # computes the maps of some classes, where it takes long
    scale: float = 1.0  # factor by which a normalization layer scaled this image; 1 without one

    def cams(self) -> NDArray[np.float32]:
        """Compute the maps of all classes: (C, h, w) float32, logit units."""
        if self.weight is None:
            return self.features.float().cpu().numpy()
        return class_activation_maps(self.features[None], self.weight * self.scale)[0].float().cpu().numpy()
