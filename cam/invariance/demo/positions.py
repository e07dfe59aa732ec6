"""What one network makes of digits at every place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from cam.evaluation.statistics import interval
from cam.invariance.demo.scenes import Ints
from cam.invariance.demo.training import NETWORKS, SIZE, Scenes, Trained, to_inputs
from cam.networks.global_average_pooling import global_average_pool

BIN = 4
"""Side of the squares, pixels, in which digits are counted together by where their centers are."""

FEWEST = 10
"""Scenes that a square needs, for its share to mean something."""

Estimate = tuple[float, float, float]


@dataclass(frozen=True)
class Measured:
    """What one network makes of digits everywhere; estimates are a share with the ends of its 95 % interval.

    Attributes:
        name: of its card.
        head: as in `HeadsCompared`.
        padding_mode: likewise.
        parameters: how many the network has.
        head_parameters: how many of them belong to the head.
        seen: accuracy where the digit stands in the half that was learned from.
        unseen: accuracy where it stands in the other.
        drop: by how much the second is smaller.
        told_place: share of the variance of the digit's x that a linear readout of the averaged features explains in
            scenes it was not fitted to (R2): 0 where the average has forgotten the place, 1 where it still tells it.
        few: accuracies of its like that learned from few scenes, as in `Trained`.
        by_place: (8, 16), accuracy by where the digit's center is; not a number where there were too few.
    """

    name: str
    head: str
    padding_mode: str
    parameters: int
    head_parameters: int
    seen: Estimate
    unseen: Estimate
    drop: Estimate
    told_place: Estimate
    few: Mapping[str, float]
    by_place: NDArray[np.float64] = field(repr=False)


def measure(name: str, trained: Trained, scenes: Scenes, *, seed: int) -> Measured:
    """Measure one network.

    Args:
        name: one of `NETWORKS`.
        trained: the network.
        scenes: digits everywhere.
        seed: of the bootstrap.
    """
    predicted, pooled = _look(trained.network, scenes)
    right = predicted == scenes.classes
    samples = np.stack((right, scenes.seen, scenes.unseen), 1)
    head = trained.network.get_submodule("head")
    return Measured(
        name,
        **NETWORKS[name],
        parameters=_count(trained.network),
        head_parameters=_count(head),
        seen=interval(right[scenes.seen], seed=seed),
        unseen=interval(right[scenes.unseen], seed=seed),
        drop=interval(samples, _drop, seed=seed),
        told_place=interval(read_place(pooled, scenes.boxes), _explained_variance, seed=seed),
        few=trained.few,
        by_place=accuracy_by_place(right, scenes.boxes),
    )


def accuracy_by_place(right: NDArray[np.bool_], boxes: Ints) -> NDArray[np.float64]:
    """Count what is right in squares of the scene.

    Args:
        right: (N,).
        boxes: (N, 4), xyxy in pixels.

    Returns:
        Shares, (8, 16), not a number where fewer than `FEWEST` boxes have their centers.

    Example:
        >>> accuracy_by_place(np.array([True, False] * 5), np.array([[0, 0, 6, 6], [0, 0, 4, 4]] * 5))[0, 0].item()
        0.5
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    edges = [np.arange(0, side + 1, BIN) for side in SIZE]
    counts, hits = (
        np.histogram2d(centers[:, 1], centers[:, 0], edges, weights=weights)[0]
        for weights in (np.ones(len(right)), right.astype(np.float64))
    )
    return np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts >= FEWEST)


def read_place(pooled: NDArray[np.floating], boxes: Ints) -> NDArray[np.float64]:
    """Fit x of the digits' centers linearly to the averaged features of half of the scenes, and read it in the rest.

    Args:
        pooled: averaged features, (N, K).
        boxes: (N, 4), xyxy in pixels.

    Returns:
        (N / 2, 2), x as it is and as it is read, pixels.

    Example:
        >>> x = np.array([3, 8, 5, 9])
        >>> read_place(x[:, None] / 2, np.column_stack((x, x, x + 2, x))).round(6).tolist()
        [[6.0, 6.0], [10.0, 10.0]]
    """
    known = np.column_stack((pooled, np.ones(len(pooled)))).astype(np.float64)
    x, half = (boxes[:, 0] + boxes[:, 2]) / 2, len(pooled) // 2
    weights = np.linalg.lstsq(known[:half], x[:half])[0]
    return np.column_stack((x[half:], known[half:] @ weights))


@torch.inference_mode()
def _look(network: torch.nn.Module, scenes: Scenes) -> tuple[Ints, NDArray[np.float32]]:
    """The predicted classes, (N,), and the averaged features, (N, K), from one pass."""
    body, head = network.get_submodule("features"), network.get_submodule("head")
    features = [body(some) for some in torch.split(to_inputs(scenes.images), 250)]
    predicted = torch.cat([head(some).argmax(1) for some in features])
    return predicted.numpy(), torch.cat([global_average_pool(some) for some in features]).numpy()


def _drop(samples: NDArray[np.bool_]) -> float:
    right, seen, unseen = samples.T
    return float(right[seen].mean() - right[unseen].mean())


def _explained_variance(samples: NDArray[np.float64]) -> float:
    truth, read = samples.T
    return float(1 - ((truth - read) ** 2).mean() / truth.var())


def _count(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())
