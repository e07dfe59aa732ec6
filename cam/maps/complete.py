"""Shares of a logit for any head: they add up to the logit less that of a baseline, the base.

A head is a function of features, rows (n, ...) of any layout, and returns logits (n, C). Where scales are held, it is
another function for each image: then it also takes the number of each row's image, (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Run: TypeAlias = Callable[[Tensor], Tensor]  # features (n, ...) -> logits (n, C)
RunOfImages: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # features (n, ...), their images (n,) -> logits (n, C)
_TOLERANCE = 0.005  # of |logit - base|, at which the number of nodes is enough
FIRST_NODES, _MAX_NODES = 8, 128
_ROWS = 64  # in one run of a head


@dataclass(frozen=True)
class Shares:
    """What each feature of one image, or each group of places, adds to the logits of T classes."""

    values: Tensor  # (T, ...), logit units
    base: Tensor  # (T,), logits at the baseline
    runs: int  # nodes of integrated gradients, or permutations of Shapley values
    sampling_error: float = 0.0  # standard error of sampled values, as a share of their size


def integrated_gradients(
    run: RunOfImages,
    baseline: Tensor,
    features: Tensor,
    classes: Tensor,
    nodes: int | None = None,
    rows: int = _ROWS,
) -> list[Shares]:
    """Integrate the gradient of the logits along the straight path from a baseline (Sundararajan et al. 2017, eq. 1).

    It is exact with one node if the head is linear. Else the error of the quadrature (Gauss-Legendre) is what the
    shares miss of logit - base. Images share runs of the head; only those whose shares miss too much get more nodes.

    Args:
        run: the head.
        baseline: where nothing is, of the shape of the features.
        features: of N images, (N, ...).
        classes: indices of T classes of each image, (N, T).
        nodes: at which the gradient is taken; None for 8, doubled until the shares miss less than 0.5 % of
            logit - base, or 128.
        rows: how many the head gets in one run.

    Returns:
        Of each image the shares (T, ...) of the features, logit units: their sum is logit - base.

    Example:
        >>> square = lambda features, images: features.square().sum(1, keepdim=True)  # (n, K) -> (n, 1)
        >>> features = torch.tensor([[1.0, 3.0]])
        >>> (shares,) = integrated_gradients(square, torch.zeros(1, 2), features, torch.tensor([[0]]))
        >>> [round(share, 4) for share in shares.values[0].tolist()], shares.base.tolist()
        ([1.0, 9.0], [0.0])
    """
    images = torch.arange(len(features), device=features.device)
    ends = zip(*(torch.split(each, rows) for each in (torch.cat([baseline, features]), images.repeat(2))), strict=True)
    with torch.no_grad():
        base, logits = torch.cat([run(*some) for some in ends]).gather(1, classes.repeat(2, 1)).chunk(2)
    count, waiting, shares = nodes or FIRST_NODES, images, dict[int, Shares]()
    while len(waiting):
        parts = torch.split(waiting, max(1, rows // count))
        values = torch.cat([_integrate(run, baseline, features, classes, part, count, rows) for part in parts])
        expected = (logits - base)[waiting]
        is_enough = ((values.flatten(2).sum(2) - expected).abs() <= _TOLERANCE * expected.abs()).all(1)
        if nodes or count >= _MAX_NODES:
            is_enough[:] = True
        found = zip(waiting.tolist(), values, is_enough.tolist(), strict=True)
        shares |= {image: Shares(of_image, base[image], count) for image, of_image, enough in found if enough}
        count, waiting = 2 * count, waiting[~is_enough]
    return [shares[image] for image in range(len(features))]


def gradients(run: RunOfImages, features: Tensor, classes: Tensor, rows: int = _ROWS) -> Tensor:
    """Differentiate the logits of T classes (N, T) of N images with respect to their features (N, ...): (N, T, ...)."""
    images = torch.arange(len(features), device=features.device)
    parts = torch.split(images, rows)
    return torch.cat([torch.stack([*_slopes(run, features[some], some, classes[some])], 1) for some in parts])


def _integrate(
    run: RunOfImages, baseline: Tensor, features: Tensor, classes: Tensor, images: Tensor, nodes: int, rows: int
) -> Tensor:
    """Shares (n, T, ...) of the features of n images that fit in one run, or of one that does not."""
    points, weights = (torch.from_numpy(array).to(features) for array in _gauss(nodes))
    start, step, aligned = baseline[images], features[images] - baseline[images], [-1, *[1] * features.ndim]
    roots = (points + 1) / 2  # nodes in the square root of the path, because a head may have a root at its start
    slopes = torch.zeros(classes.shape[1], *step.shape).to(features)
    for root, weight in zip(torch.split(roots, rows), torch.split(weights * roots, rows), strict=True):
        at_nodes = start + root.square().view(aligned) * step  # (nodes, n, ...)
        own = images.repeat(len(root)), classes[images].repeat(len(root), 1)
        for total, found in zip(slopes, _slopes(run, at_nodes.flatten(0, 1), *own), strict=True):
            total += (weight.view(aligned) * found.view(at_nodes.shape)).sum(0)
    return torch.where(step == 0, 0, slopes * step).movedim(1, 0)  # a root at zero has no slope there


_gauss = lru_cache(np.polynomial.legendre.leggauss)  # takes milliseconds


def _slopes(run: RunOfImages, features: Tensor, images: Tensor, classes: Tensor) -> Iterator[Tensor]:
    """Gradients (n, ...) of the logits of T classes (n, T) at rows (n, ...) of features, one class after the other."""
    features = features.detach().requires_grad_()
    with torch.enable_grad():
        logits = run(features, images).gather(1, classes)
        totals = logits.sum(0)
    for number, total in enumerate(totals, 1):
        yield torch.autograd.grad(total, features, retain_graph=number < len(totals))[0]


def shapley_values(
    run: Run,
    baseline: Tensor,
    features: Tensor,
    groups: Tensor,
    classes: Sequence[int],
    permutations: int,
    seed: int = 0,
    rows: int = _ROWS,
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
        rows: how many the head gets in one run.

    Returns:
        Shares (T, G) of the groups, logit units.

    Example:
        >>> largest = lambda features: features.amax(1, keepdim=True)  # (n, K) -> (n, 1)
        >>> shares = shapley_values(largest, torch.zeros(2), torch.tensor([1.0, 3.0]), torch.arange(2), [0], 2)
        >>> shares.values.tolist()
        [[0.5, 2.5]]
    """
    count, generator = int(groups.max()) + 1, torch.Generator().manual_seed(seed)
    aligned = [-1, *[1] * features.ndim]
    totals = torch.zeros(len(classes), count, dtype=features.dtype, device=features.device)
    order, logits, pairs = torch.arange(count), totals.T, []
    with torch.no_grad():
        for number in range(permutations):
            order = order.flip(0) if number % 2 else torch.randperm(count, generator=generator)
            ranks = torch.cat([order.argsort(), torch.tensor([-1])]).to(groups.device)[groups]  # -1 is the last one
            present = torch.arange(count + 1, device=groups.device)
            parts = (torch.where(ranks < some.view(aligned), features, baseline) for some in torch.split(present, rows))
            logits = torch.cat([run(part) for part in parts])[:, list(classes)]
            totals[:, order.to(totals.device)] += logits.diff(dim=0).T
            if number % 2:
                pairs.append(totals / 2)
                totals = torch.zeros_like(totals)
    samples = torch.stack(pairs)
    values = samples.mean(0)
    error = samples.std(0) / len(pairs) ** 0.5 if len(pairs) > 1 else torch.full_like(values, torch.nan)
    return Shares(values, logits[0], permutations, float(error.norm() / values.norm().clamp_min(1e-30)))
