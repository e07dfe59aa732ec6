"""Evaluate one network on digits at all positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cam.evaluation.benchmark import interval
from cam.invariance.demo.scenes import Ints
from cam.invariance.demo.training import NETWORKS, SIZE, DigitScenes, TrainedNetwork, to_inputs
from cam.networks.global_average_pooling import global_average_pool

BIN = 4  # pixels, side of the squares in which digits are counted by position

MIN_SCENES = 10  # in a square, for a meaningful accuracy

Estimate = tuple[float, float, float]  # a value and the ends of its 95 % interval


@dataclass(frozen=True)
class NetworkResult:
    """Accuracy of one network.

    `position_r2` is the share of the variance of the digit's x that a linear readout of the averaged features explains
    on held-out scenes (R2): 0 if the average tells nothing about the position, 1 if it tells it exactly.
    """

    name: str  # of its card
    head: str  # as in `HeadsCompared`
    padding_mode: str  # as in `HeadsCompared`
    parameters: int
    head_parameters: int
    seen: Estimate  # accuracy where the digit lies in the half that the network was trained on
    unseen: Estimate  # accuracy where the digit lies in the other half
    drop: Estimate  # seen - unseen
    position_r2: Estimate
    small_set_accuracy: Mapping[str, float]  # as in `TrainedNetwork`
    by_position: NDArray[np.float64]  # (8, 16), accuracy by the digit's center; NaN with too few scenes


def evaluate_network(name: str, trained: TrainedNetwork, scenes: DigitScenes, *, seed: int) -> NetworkResult:
    """Evaluate one of `NETWORKS`; `seed` is that of the bootstrap intervals."""
    body, head = trained.network.get_submodule("features"), trained.network.get_submodule("head")
    with torch.inference_mode():
        features = [body(inputs) for inputs in torch.split(to_inputs(scenes.images), 250)]
        predicted = torch.cat([head(batch).argmax(1) for batch in features]).numpy()
        pooled = torch.cat([global_average_pool(batch) for batch in features]).numpy()
    correct = predicted == scenes.classes
    return NetworkResult(
        name,
        **NETWORKS[name],
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        head_parameters=sum(parameter.numel() for parameter in head.parameters()),
        seen=interval(correct[scenes.seen], seed=seed),
        unseen=interval(correct[scenes.unseen], seed=seed),
        drop=interval(np.stack((correct, scenes.seen, scenes.unseen), 1), _drop, seed=seed),
        position_r2=interval(read_out_x(pooled, scenes.boxes), _r2, seed=seed),
        small_set_accuracy=trained.small_set_accuracy,
        by_position=accuracy_by_position(correct, scenes.boxes),
    )


def accuracy_by_position(correct: NDArray[np.bool_], boxes: Ints) -> NDArray[np.float64]:
    """Average `correct` (N,) in squares, by the centers of boxes (N, 4): (8, 16), NaN below `MIN_SCENES`."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    edges = [np.arange(0, side + 1, BIN) for side in SIZE]
    counts, hits = (
        np.histogram2d(centers[:, 1], centers[:, 0], edges, weights=weights)[0]
        for weights in (np.ones(len(correct)), correct.astype(np.float64))
    )
    return np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts >= MIN_SCENES)


def read_out_x(pooled: NDArray[np.floating], boxes: Ints) -> NDArray[np.float64]:
    """Fit x of the boxes' centers to averaged features (N, K) on the first half: true and predicted x of the rest."""
    features = np.column_stack((pooled, np.ones(len(pooled)))).astype(np.float64)
    x, half = (boxes[:, 0] + boxes[:, 2]) / 2, len(pooled) // 2
    weights = np.linalg.lstsq(features[:half], x[:half])[0]
    return np.column_stack((x[half:], features[half:] @ weights))


def _drop(samples: NDArray[np.bool_]) -> float:
    correct, seen, unseen = samples.T
    return float(correct[seen].mean() - correct[unseen].mean())


def _r2(samples: NDArray[np.float64]) -> float:
    truth, predicted = samples.T
    return float(1 - ((truth - predicted) ** 2).mean() / truth.var())
