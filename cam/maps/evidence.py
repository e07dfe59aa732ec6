"""Kinds of evidence for a class: its own, or compared with that for other classes.

The head is linear, so one matrix product gives the maps of all classes, and they can be compared at each position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from cam.maps.activation import class_activation_maps

Evidence = Literal["logit", "contrast", "margin", "posterior"]
_MAX_SCORES = 2_700_000  # class scores in memory at once, in a few copies: those of 1000 classes at 52 x 52 positions


def margins(features: Tensor, weight: Tensor | None, classes: Sequence[int]) -> Tensor:
    """Compute where each class wins: its evidence less the largest of any other class at each position.

    Args:
        features: of one image, (K, h, w), any floating dtype.
        weight: rows of the head, (C, K), at least two classes; None if the features are the maps of the C classes.
        classes: indices of T classes.

    Returns:
        Maps (T, h, w) in the weight's dtype (float32 without weight), logit units; above 0 where the class wins.

    Example:
        >>> features = torch.tensor([[[1.0, 3.0]], [[0.0, 5.0]]])  # (K, h, w) = (2, 1, 2)
        >>> margins(features, torch.eye(2), [0]).tolist()
        [[[1.0, -2.0]]]
    """

    def margin(cams: Tensor) -> Tensor:
        (best, second), (winner, _) = cams.topk(2, dim=0)
        return torch.stack([cams[c] - torch.where(winner == c, second, best) for c in classes])

    return _map_positions(features, weight, margin)


def posteriors(
    features: Tensor,
    weight: Tensor | None,
    bias: Tensor,
    classes: Sequence[int],
    probabilities: Callable[[Tensor], Tensor],
) -> Tensor:
    """Compute the probability of each class at each position alone, given the scores M + bias there.

    Args:
        features: of one image, (K, h, w), any floating dtype.
        weight: as in `margins`.
        bias: (C,), logit units.
        classes: indices of T classes.
        probabilities: converts logits (N, C) to probabilities (N, C).

    Returns:
        Maps (T, h, w) in the bias's dtype, from 0 to 1.

    Example:
        >>> features = torch.tensor([[[0.0, 100.0]], [[0.0, 0.0]]])
        >>> softmax = lambda logits: logits.softmax(1)
        >>> posteriors(features, torch.eye(2), torch.zeros(2), [0], softmax).tolist()
        [[[0.5, 1.0]]]
    """

    def posterior(cams: Tensor) -> Tensor:
        values = probabilities((cams + bias[:, None]).T)
        return torch.stack([values[:, c] for c in classes])

    return _map_positions(features, weight, posterior)


def channel_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Split the map of one class into its channels: w_k * f_k, whose mean is the channel's share of the logit.

    Args:
        features: of one image, (K, h, w).
        weight: row of the head for the class, (K,).

    Returns:
        Maps (K, h, w) in the weight's dtype, logit units; they add up to the class activation map.

    Example:
        >>> channel_maps(torch.ones(2, 1, 3), torch.tensor([2.0, -1.0])).mean((1, 2)).tolist()
        [2.0, -1.0]
    """
    return features.to(weight.dtype) * weight[:, None, None]


def _map_positions(features: Tensor, weight: Tensor | None, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute maps from the scores of all classes (C, positions), a limited number of positions at a time."""
    count = max(1, _MAX_SCORES // len(features if weight is None else weight))
    maps = []
    for part in torch.split(features.flatten(1), count, dim=1):
        cams = part.float() if weight is None else class_activation_maps(part[None, :, None], weight)[0, :, 0]
        maps.append(compute(cams))
    return torch.cat(maps, 1).view(-1, *features.shape[1:])
