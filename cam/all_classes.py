"""The evidence of one picture for all classes at once, and what of it can be kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cam.maps import class_activation_maps
from cam.packing import pack

QUANTUM = 2.0**-10
"""Logits: maps are kept to half of it, so that the difference of two is right to 1e-3."""

TOP = 5
"""Classes that are told of a picture, and of each place."""

_BYTES = 140_000  # of the evidence of a picture, in base64


@dataclass(frozen=True)
class AllClasses:
    """What the maps of all classes of one picture are computed from.

    Attributes:
        logits: (C,) float32, at the model's own input size.
        probabilities: (C,) float32.
        map_logits: (C,) float32, what the maps add up to.
        bias: (C,) float32, logit units.
        features: (K, h, w), any floating dtype.
        weight: rows of the head (C, K); None where the features are the maps themselves.
        scale: by which a normalisation multiplied this picture; 1 where there is none.
    """

    logits: Tensor = field(repr=False)
    probabilities: Tensor = field(repr=False)
    map_logits: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    features: Tensor = field(repr=False)
    weight: Tensor | None = field(repr=False)
    scale: float = 1.0

    def cams(self) -> NDArray[np.float32]:
        """Spread the scores of all classes over the places: (C, h, w) float32, logit units.

        Example:
            >>> import torch
            >>> ones = torch.ones(2)
            >>> AllClasses(ones, ones, ones, ones, torch.ones(3, 4, 5), torch.ones(2, 3)).cams().shape
            (2, 4, 5)
        """
        if self.weight is None:
            return self.features.float().cpu().numpy()
        return class_activation_maps(self.features[None], self.weight * self.scale)[0].float().cpu().numpy()


def few_channels(weight: Tensor) -> bool:
    """Tell whether features are fewer numbers than the maps that a weight (C, K) makes of them.

    Example:
        >>> import torch
        >>> few_channels(torch.zeros(1000, 512))
        True
    """
    return weight.shape[1] < weight.shape[0]


def keep(evidence: AllClasses, cams: NDArray[np.float32]) -> dict[str, Any]:
    """Keep what the map of every class can be computed from to half a `QUANTUM`, if it is not too much.

    Features are kept where there are fewer channels than classes, maps otherwise. Where all takes over 140 KB, maps of
    some classes are kept: the predicted five, then those among the five strongest at any place, then those with the
    largest logits. With them goes what margins and probabilities over all classes are computed from at each place:
    the largest evidence, whose it is, the next, and the logarithm of the sum of exp(M + bias).

    Args:
        evidence: of the picture, of two classes or more.
        cams: its `cams`, (C, h, w).

    Returns:
        Ready for JSON: `kind` ("features", "classes" or "some"), `values` and `leaders` (4, h, w) as `pack` gives them,
        and of features the picture's `scale`, of some classes `classes` (their indices).

    Example:
        >>> import torch
        >>> from cam.packing import unpack
        >>> maps = torch.arange(6.0).view(3, 1, 2)
        >>> evidence = AllClasses(maps.mean((1, 2)), torch.ones(3), torch.ones(3), torch.zeros(3), maps, None)
        >>> kept = keep(evidence, evidence.cams())
        >>> kept["kind"], kept["values"]["shape"], unpack(kept["leaders"])[0].tolist()
        ('classes', [3, 1, 2], [[4.0, 5.0]])
    """
    weight = evidence.weight
    leaders = pack(_leaders(cams, evidence.bias.cpu().numpy()), QUANTUM)
    budget = _BYTES - len(leaders["data"])
    if weight is not None and few_channels(weight):
        values = pack(evidence.features.float().cpu().numpy(), _quantum(weight * evidence.scale))
        if len(values["data"]) <= budget:
            return {"kind": "features", "values": values, "scale": evidence.scale, "leaders": leaders}
    values = pack(cams, QUANTUM)
    if len(values["data"]) <= budget:
        return {"kind": "classes", "values": values, "leaders": leaders}
    classes = _ranked(cams, evidence.logits.numpy())
    numbers = np.cumsum((np.abs(cams[classes]) > QUANTUM / 2).sum((1, 2)))  # that are not zero, which take the bytes
    while len(values["data"]) > budget and len(classes) > TOP:
        count = int(np.searchsorted(numbers, budget / len(values["data"]) * numbers[len(classes) - 1]))
        classes = classes[: max(TOP, min(count, len(classes) - 1))]
        values = pack(cams[classes], QUANTUM)
    return {"kind": "some", "values": values, "classes": classes.tolist(), "leaders": leaders}


def _quantum(weight: Tensor) -> float:
    """How fine features have to be: errors of half a quantum in all of them add up to half a `QUANTUM` in no class."""
    largest = float(weight.abs().sum(1).max())
    return float(2.0 ** np.floor(np.log2(QUANTUM / largest))) if largest else 1.0


def _leaders(cams: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """At each place the largest evidence, its class (in quanta), the next, and log of the sum of exp(M + bias)."""
    second, best = np.sort(np.partition(cams, -2, axis=0)[-2:], axis=0)
    scores = cams.astype(np.float64) + bias[:, None, None]
    peak = scores.max(0)
    total = peak + np.log(np.exp(scores - peak).sum(0))
    return np.stack([best, cams.argmax(0) * QUANTUM, second, total])


def _ranked(cams: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.integer]:
    """All classes, those first that must be kept."""
    strongest = np.zeros(len(logits), bool)
    strongest[np.argpartition(cams, -min(TOP, len(cams)), axis=0)[-TOP:]] = True
    strongest &= cams.max((1, 2)) > 0
    order = np.lexsort((-logits, ~strongest))
    best = np.argsort(-logits, kind="stable")[:TOP]
    return np.concatenate([best, order[~np.isin(order, best)]])
