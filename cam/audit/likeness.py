"""Which images are alike: near-duplicates by their features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_NEAR = 0.2  # of the usual distance: different images hardly ever lie nearer
_EXACT = 1e-10  # of the square of the features: rounding of a distance between copies
_PAIRS, _ROWS = 2000, 512  # that tell the usual distance; compared at once


def near_duplicates(features: NDArray[np.floating], classes: NDArray[np.integer]) -> list[list[int]]:
    """Find sets of images with nearly the same features.

    Args:
        features: averaged over the positions, (N, K).
        classes: (N,); only images of one class are compared.

    Returns:
        Indices of the images of each set, in order. Two of a set are alike, or linked by others that are: their
        distance is below a fifth of the median distance of two images of one class.

    Example:
        >>> near_duplicates(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-3], [1.0, 1.0]]), np.zeros(4, int))
        [[0, 2]]
    """
    near = _NEAR * _usual_distance(features, classes)
    squares = np.square(features, dtype=np.float64).sum(1)
    pairs = [np.empty((2, 0), int)]
    for class_idx in np.unique(classes):
        images = np.flatnonzero((classes == class_idx) & (squares > 0))
        for start in range(0, len(images), _ROWS):
            rows = images[start : start + _ROWS]
            products = features[rows].astype(np.float64) @ features[images].T
            distances = squares[rows][:, None] + squares[images] - 2 * products
            row, column = np.nonzero(distances <= near**2 + _EXACT * squares[images])
            pairs.append(np.stack([rows[row], images[column]]))
    first, second = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(features), len(features)))
    _, sets = connected_components(links, directed=False)
    order = np.argsort(sets, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(sets[order])) + 1)
    return sorted(part.tolist() for part in parts if len(part) > 1)


def _usual_distance(features: NDArray[np.floating], classes: NDArray[np.integer]) -> float:
    """The median distance of two images of one class, of a sample of pairs; 0 if no class has two."""
    rng = np.random.default_rng(0)
    order = np.argsort(classes, kind="stable")
    of_class = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    several = [images for images in of_class if len(images) > 1]
    if not several:
        return 0.0
    counts = np.array([len(images) for images in several])
    chosen = rng.choice(len(several), size=_PAIRS, p=counts / counts.sum())
    pairs = np.array([rng.choice(several[n], size=2, replace=False) for n in chosen])
    return float(np.median(np.sqrt(((features[pairs[:, 0]] - features[pairs[:, 1]]) ** 2).sum(1))))
