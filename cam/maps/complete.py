"""Shares of a logit for any head: they add up to the logit less that of a baseline, the base.

A head is a function of features, rows (n, ...) of any layout, and returns logits (n, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Run: TypeAlias = Callable[[Tensor], Tensor]  # features (n, ...) -> logits (n, C)
_TOLERANCE = 0.005  # of |logit - base|, at which the number of nodes is enough
FIRST_NODES, _MAX_NODES = 8, 128
_MAX_NUMBERS = 2**20  # of features in one run: the head keeps a few times as many


@dataclass(frozen=True)
class Shares:
    """What each feature, or each group of places, adds to the logits of T classes."""

    values: Tensor  # (T, ...), logit units
    base: Tensor  # (T,), logits at the baseline
    runs: int  # nodes of integrated gradients, or permutations of Shapley values
    sampling_error: float = 0.0  # standard error of sampled values, as a share of their size


def integrated_gradients(
    run: Run, baseline: Tensor, features: Tensor, classes: Sequence[int], nodes: int | None = None
) -> Shares:
    """Integrate the gradient of the logits along the straight path from a baseline (Sundararajan et al. 2017, eq. 1).

    It is exact with one node if the head is linear. Else the error of the quadrature (Gauss-Legendre) is what the
    shares miss of logit - base.

    Args:
        run: the head.
        baseline: where nothing is, of the shape of the features.
        features: of one image, (...).
        classes: indices of T classes.
        nodes: at which the gradient is taken; None for 8, doubled until the shares miss less than 0.5 % of
            logit - base, or 128.

    Returns:
        Shares (T, ...) of the features, logit units: their sum is logit - base.

    Example:
        >>> square = lambda features: features.square().sum(1, keepdim=True)  # (n, K) -> (n, 1)
        >>> shares = integrated_gradients(square, torch.zeros(2), torch.tensor([1.0, 3.0]), [0])
        >>> [round(share, 4) for share in shares.values[0].tolist()], shares.base.tolist()
        ([1.0, 9.0], [0.0])
    """
    index = list(classes)
    with torch.no_grad():
        base, logit = run(torch.stack([baseline, features]))[:, index]
    count = nodes or FIRST_NODES
    while True:
        values = _integrate(run, baseline, features, index, count)
        missed = (values.flatten(1).sum(1) - (logit - base)).abs()
        if nodes or count >= _MAX_NODES or bool((missed <= _TOLERANCE * (logit - base).abs()).all()):
            return Shares(values, base, count)
        count *= 2


def gradients(run: Run, features: Tensor, classes: Sequence[int]) -> Tensor:
    """Differentiate the logits of T classes with respect to the features (...) of one image: (T, ...)."""
    return _sum_of_slopes(run, features[None], torch.ones(1).to(features), classes)


def _integrate(run: Run, baseline: Tensor, features: Tensor, classes: Sequence[int], nodes: int) -> Tensor:
    points, weights = (torch.from_numpy(array).to(features) for array in _gauss(nodes))
    size, aligned = rows_in_one_run(features), [-1, *[1] * features.ndim]
    step, slopes = features - baseline, torch.zeros(len(classes), *features.shape).to(features)
    roots = (points + 1) / 2  # nodes in the square root of the path, because a head may have a root at its start
    for some, weight in zip(torch.split(roots, size), torch.split(weights * roots, size), strict=True):
        slopes += _sum_of_slopes(run, baseline + some.square().view(aligned) * step, weight, classes)
    return torch.where(step == 0, 0, slopes * step)  # a root at zero has no slope there


_gauss = lru_cache(np.polynomial.legendre.leggauss)  # takes milliseconds


def _sum_of_slopes(run: Run, rows: Tensor, weights: Tensor, classes: Sequence[int]) -> Tensor:
    """Add up the weighted gradients of T logits at rows (n, ...) of features: (T, ...)."""
    rows, aligned = rows.detach().requires_grad_(), [-1, *[1] * (rows.ndim - 1)]
    with torch.enable_grad():
        logits = run(rows)
    sums = []
    for number, class_idx in enumerate(classes, 1):
        (gradient,) = torch.autograd.grad(logits[:, class_idx].sum(), rows, retain_graph=number < len(classes))
        sums.append((weights.view(aligned) * gradient).sum(0))
    return torch.stack(sums)


def shapley_values(
    run: Run,
    baseline: Tensor,
    features: Tensor,
    groups: Tensor,
    classes: Sequence[int],
    permutations: int,
    seed: int = 0,
) -> Shares:
    """Estimate what each group of places adds when groups come in random order (Castro et al. 2009; Shapley 1953).

    The shares add up to logit - base with any number of permutations, which are drawn in pairs: each order is followed
    by its reverse, which halves the error (Mitchell et al. 2022).

    Args:
        run: the head.
        baseline: where nothing is, of the shape of the features.
        features: of one image, (...).
        groups: of the features, from 0 to G - 1, broadcast to their shape; -1 for those that are always there.
        classes: indices of T classes.
        permutations: how many orders, even; the standard error needs 4.
        seed: of the random orders.

    Returns:
        Shares (T, G) of the groups, logit units.

    Example:
        >>> largest = lambda features: features.amax(1, keepdim=True)  # (n, K) -> (n, 1)
        >>> shares = shapley_values(largest, torch.zeros(2), torch.tensor([1.0, 3.0]), torch.arange(2), [0], 2)
        >>> shares.values.tolist()
        [[0.5, 2.5]]
    """
    count, generator = int(groups.max()) + 1, torch.Generator().manual_seed(seed)
    size, aligned = rows_in_one_run(features), [-1, *[1] * features.ndim]
    totals = torch.zeros(len(classes), count, dtype=features.dtype, device=features.device)
    order, logits, pairs = torch.arange(count), totals.T, []
    with torch.no_grad():
        for number in range(permutations):
            order = order.flip(0) if number % 2 else torch.randperm(count, generator=generator)
            ranks = torch.cat([order.argsort(), torch.tensor([-1])]).to(groups.device)[groups]  # -1 is the last one
            present = torch.arange(count + 1, device=groups.device)
            rows = (torch.where(ranks < some.view(aligned), features, baseline) for some in torch.split(present, size))
            logits = torch.cat([run(row) for row in rows])[:, list(classes)]
            totals[:, order.to(totals.device)] += logits.diff(dim=0).T
            if number % 2:
                pairs.append(totals / 2)
                totals = torch.zeros_like(totals)
    samples = torch.stack(pairs)
    values = samples.mean(0)
    error = samples.std(0) / len(pairs) ** 0.5 if len(pairs) > 1 else torch.full_like(values, torch.nan)
    return Shares(values, logits[0], permutations, float(error.norm() / values.norm().clamp_min(1e-30)))


def rows_in_one_run(features: Tensor) -> int:
    """How many rows of features (...) a head gets at once, so that memory is bounded."""
    return max(1, _MAX_NUMBERS // features.numel())
