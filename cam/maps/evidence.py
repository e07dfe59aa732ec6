"""What a map can say of a class: its evidence, or where it wins against the others.

The head is linear, so the maps of all classes at all places cost one matrix product, and classes can be
compared place by place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from cam.maps.activation import class_activation_maps

Evidence = Literal["logit", "contrast", "margin", "posterior"]

# Class scores worked on at once, of which a few copies are held: together no more than those of 1000 classes of 64
# pictures of 13 x 13 places. Larger inputs go in parts.
_AT_ONCE = 1000 * 64 * 13 * 13 // 4


def margins(features: Tensor, weight: Tensor | None, classes: Sequence[int]) -> Tensor:
    """Say where each class wins: its evidence less the largest of any other class at that place.

    Args:
        features: of one picture, (K, h, w), any floating dtype.
        weight: rows of the head for all classes, (C, K), two classes or more; None where K is C and the features are
            the maps themselves.
        classes: the T classes that are asked for.

    Returns:
        Maps (T, h, w) in the weight's dtype (float32 without), logit units; above 0 where the class wins.

    Example:
        >>> features = torch.tensor([[[1.0, 3.0]], [[0.0, 5.0]]])  # (K, h, w) = (2, 1, 2)
        >>> margins(features, torch.eye(2), [0]).tolist()
        [[[1.0, -2.0]]]
    """

    def margin(cams: Tensor) -> Tensor:
        (best, second), (winner, _) = cams.topk(2, dim=0)
        return torch.stack([cams[c] - torch.where(winner == c, second, best) for c in classes])

    return _place_by_place(features, weight, margin)


def posteriors(
    features: Tensor,
    weight: Tensor | None,
    bias: Tensor,
    classes: Sequence[int],
    probabilities: Callable[[Tensor], Tensor],
) -> Tensor:
    """Say what the classifier would make of each place alone: the probability of a class given M + bias there.

    Args:
        features: of one picture, (K, h, w), any floating dtype.
        weight: as in `margins`.
        bias: (C,), logit units.
        classes: the T classes that are asked for.
        probabilities: turns logits (N, C) into probabilities (N, C).

    Returns:
        Maps (T, h, w) in the bias's dtype, from 0 to 1.

    Example:
        >>> features = torch.tensor([[[0.0, 100.0]], [[0.0, 0.0]]])
        >>> softmax = lambda logits: logits.softmax(1)
        >>> posteriors(features, torch.eye(2), torch.zeros(2), [0], softmax).tolist()
        [[[0.5, 1.0]]]
    """

    def posterior(cams: Tensor) -> Tensor:
        at_places = probabilities((cams + bias[:, None]).T)
        return torch.stack([at_places[:, c] for c in classes])

    return _place_by_place(features, weight, posterior)


def channel_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Split the map of one class into its channels: w_k * f_k, whose mean is the channel's share of the logit.

    Args:
        features: of one picture, (K, h, w).
        weight: row of the head for the class, (K,).

    Returns:
        Maps (K, h, w) in the weight's dtype, logit units; they add up to the class activation map.

    Example:
        >>> channel_maps(torch.ones(2, 1, 3), torch.tensor([2.0, -1.0])).mean((1, 2)).tolist()
        [2.0, -1.0]
    """
    return features.to(weight.dtype) * weight[:, None, None]


def _place_by_place(features: Tensor, weight: Tensor | None, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Read something off the scores of all classes (C, places), never more of them at once than may be held."""
    size = max(1, _AT_ONCE // len(features if weight is None else weight))
    parts = [read(cams) for cams in _cams_in_parts(features, weight, size)]
    return torch.cat(parts, 1).view(-1, *features.shape[1:])


def _cams_in_parts(features: Tensor, weight: Tensor | None, size: int) -> Iterator[Tensor]:
    for places in torch.split(features.flatten(1), size, dim=1):
        yield places.float() if weight is None else class_activation_maps(places[None, :, None], weight)[0, :, 0]
