"""Find groups in the maps of one class: images whose evidence at one place is not like that of the others.

Maps in logits can be compared cell by cell over many images. A shortcut at a fixed place, such as a watermark, makes
the evidence of a cell two-humped in one class, not in the other cells of the class, nor in that cell of other classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

Floats = NDArray[np.float64]
MIN_IMAGES = 20  # of a class, to look for groups in it
MIN_CLASSES = 5  # to compare a class with others
_MIN_GROUP = 0.03  # smallest group, as a share of the images
_SCALE, _CLASSES = 0.25, 10  # of the scores of clean data, which counts as much as this many classes
_FLOOR = 0.1  # of the mean spread: below it a spread says nothing
_DRAWS = 8


@dataclass(frozen=True)
class Split:
    """The best division of images into two groups, at each of P cells (Otsu 1979)."""

    explained: Floats  # (P,), share of the variance between the groups, from 0 to 1
    spread: Floats  # (P,), logits between the largest fifth and the smallest fifth of the images
    threshold: Floats  # (P,), logits between the groups

    @property
    def contrast(self) -> Floats:
        """(P,): the logarithm of explained times spread; large where two groups lie far apart."""
        return np.asarray(np.log(self.explained) + np.log(self.spread + _FLOOR * self.spread.mean() + 1e-12))


def split(values: NDArray[np.floating]) -> Split:
    """Divide values (n, P) at each cell so that the variance between two groups is largest.

    Example:
        >>> found = split(np.array([[0.0], [1.0], [0.0], [1.0], [10.0], [11.0], [10.0], [11.0], [0.0], [1.0]]))
        >>> found.threshold.tolist(), found.explained.round(2).tolist()
        ([5.5], [0.99])
    """
    count = len(values)
    ordered = np.sort(np.asarray(values, np.float64), axis=0)
    centered = ordered - ordered.mean(0)
    smallest = max(2, math.ceil(_MIN_GROUP * count))
    sizes = np.arange(smallest, count - smallest + 1)
    below = np.cumsum(centered, axis=0)[sizes - 1]
    between = below**2 / (sizes * (count - sizes))[:, None]
    best, cells = between.argmax(0), np.arange(ordered.shape[1])
    variance = (centered**2).mean(0)
    tiny = 1e-9 * max(float(variance.max()), 1e-300)
    fifth = max(1, count // 5)
    return Split(
        explained=(between[best, cells] + tiny) / (variance + 2 * tiny),
        spread=ordered[-fifth:].mean(0) - ordered[fifth],
        threshold=(ordered[sizes[best] - 1, cells] + ordered[sizes[best], cells]) / 2,
    )


def noise(values: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Standard deviation of the contrast at each cell of (n, P) if other images had been drawn (bootstrap): (P,)."""
    draws = (rng.integers(len(values), size=len(values)) for _ in range(_DRAWS))
    return np.asarray(np.std([split(values[drawn]).contrast for drawn in draws], axis=0))


def stand_out(contrasts: Floats, noises: Floats) -> Floats:
    """Measure how far each cell of each class (C, P) stands out, in robust standard deviations.

    With five classes and more, what a class and what a cell have in common with others is taken off first (median
    polish, Tukey 1977). With fewer, a cell is compared with the others of its class. A cell must stand out from the
    other cells of its class, from the same cell of other classes, and from twice its noise.
    """
    residuals = contrasts - np.median(contrasts, axis=1, keepdims=True)
    if len(contrasts) < MIN_CLASSES:
        return np.asarray(residuals / np.hypot(_deviation(residuals, 1), 2 * noises))
    for _ in range(10):
        residuals -= np.median(residuals, axis=0, keepdims=True)
        residuals -= np.median(residuals, axis=1, keepdims=True)
    spreads = np.hypot(_deviation(residuals, 0), _deviation(residuals, 1))
    return np.asarray(residuals / np.hypot(spreads, 2 * noises))


def _deviation(residuals: Floats, axis: int) -> Floats:
    return np.asarray(1.4826 * np.median(np.abs(residuals), axis=axis, keepdims=True) + 1e-12)


def chances(scores: Floats) -> Floats:
    """How often one of C classes would score as high by chance, (C,), as the other classes do.

    The largest of many cells follows a Gumbel distribution. Its place is from the median of the other classes, its
    scale from their median deviation and, as a few classes tell that badly, from clean data.

    Example:
        >>> chances(np.array([2.0, 2.1, 1.9, 2.2, 1.8, 8.0])).round(2).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    """
    found = []
    for c, score in enumerate(scores):
        others = np.delete(scores, c)
        median = np.median(others)
        scale = float(np.median(np.abs(others - median))) / 0.767  # both of a Gumbel distribution of scale 1
        scale = (len(others) * scale + _CLASSES * _SCALE) / (len(others) + _CLASSES)
        exceeds = -math.expm1(-math.exp(-(score - median) / scale - 0.3665))
        found.append(min(1.0, len(scores) * exceeds))
    return np.array(found)


@dataclass(frozen=True)
class Group:
    """Images of a class that share evidence at a place."""

    members: NDArray[np.bool_]  # (n,)
    cells: list[tuple[int, int]]  # where they have more evidence than the others
    separation: float  # distance of the means there over the pooled deviation, the D of docs/audit.md
    logits: float  # that these cells add to the score of a member, on average
    logits_of_others: float
    typical: NDArray[np.integer]  # indices of members, the most typical first
    positions: Floats  # (n, 2) in [0, 1], images by likeness: along what divides them, and along what else differs most


def find_group(maps: NDArray[np.floating], cell: int, threshold: float) -> Group | None:
    """Divide images by their evidence at one cell, then along the direction of their maps that divides them best.

    `maps` (n, h, w) are in logits, `cell` counts row by row, `threshold` is from `split`. None if all images are alike
    there.
    """
    values = np.asarray(maps, np.float64).reshape(len(maps), -1)
    members = values[:, cell] > threshold
    if not members.any():  # but for a few lower ones all are equal
        members = values[:, cell] >= threshold
    if members.all():
        return None
    for _ in range(3):
        along = values @ _direction(values, members)
        divided = along > split(along[:, None]).threshold[0]
        if divided.all() or not divided.any():
            break
        members = divided
    along = values @ _direction(values, members)
    difference = (values[members].mean(0) - values[~members].mean(0)).reshape(maps.shape[1:])
    parts, _ = label(difference >= difference.max() / 2, np.ones((3, 3)))
    where = (parts == parts.flat[difference.argmax()]).ravel()
    shares = values[:, where].sum(1) / values.shape[1]
    inside, outside = shares[members], shares[~members]
    pooled = math.sqrt((inside.var() * len(inside) + outside.var() * len(outside)) / len(shares))
    distance = np.where(members, np.abs(along - np.median(along[members])), np.inf)
    return Group(
        members=members,
        cells=[(int(row), int(column)) for row, column in np.argwhere(where.reshape(difference.shape))],
        separation=float(inside.mean() - outside.mean()) / max(pooled, 1e-12),
        logits=float(inside.mean()),
        logits_of_others=float(outside.mean()),
        typical=np.argsort(distance, kind="stable")[: int(members.sum())],
        positions=_positions(values, along),
    )


def _positions(values: Floats, along: Floats) -> Floats:
    """Place images in a plane: x `along` one direction (n,), y along the first principal component of the rest."""
    centered, x = values - values.mean(0), along - along.mean()
    rest = centered - np.outer(x, x @ centered / max(float(x @ x), 1e-300))
    _, vectors = np.linalg.eigh(rest.T @ rest)
    plane = np.stack([x, rest @ vectors[:, -1]], axis=1)
    low, high = plane.min(0), plane.max(0)
    return np.asarray((plane - low) / np.maximum(high - low, 1e-300))


def _direction(values: Floats, members: NDArray[np.bool_]) -> Floats:
    """Fisher's linear discriminant of two groups: (P,). The fewer images, the more the covariance is shrunk."""
    means = values[members].mean(0), values[~members].mean(0)
    centered = values - np.where(members[:, None], *means)
    images, cells = values.shape
    covariance = centered.T @ centered / images
    shrinkage = cells / (images + cells)
    covariance *= 1 - shrinkage
    covariance += shrinkage * max(float(np.trace(covariance)) / cells, 1e-12) * np.eye(cells)
    return np.asarray(np.linalg.solve(covariance, means[0] - means[1]))
