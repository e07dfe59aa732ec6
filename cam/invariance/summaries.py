"""Numbers for each place, summed up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.evaluation.results import plain
from cam.geometry import Pair, Size

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Summary:
    """One score over all places.

    Attributes:
        mean: over the places.
        spread: standard deviation over the places: 0 for a score that does not know where the object is.
        worst: the smallest.
        worst_place: (row, column) of it among the places.
    """

    mean: float
    spread: float
    worst: float
    worst_place: Size

    @classmethod
    def of(cls, scores: Floats) -> Summary:
        """Sum up scores (R, C).

        Example:
            >>> Summary.of(np.array([[1.0, 3.0], [5.0, 3.0]]))
            Summary(mean=3.0, spread=1.4142135623730951, worst=1.0, worst_place=(0, 0))
        """
        scores = scores.astype(np.float64)
        row, column = np.unravel_index(scores.argmin(), scores.shape)
        return cls(float(scores.mean()), float(scores.std()), float(scores.min()), (int(row), int(column)))


@dataclass(frozen=True)
class Following:
    """How a point of the heat follows the object, pixels of the canvas; not a number where there is no such point.

    Attributes:
        points: (R, C, 2), (y, x) of the point when the object is at each place.
        mean_offset: (y, x) from the object's centre to the point, mean over the places.
        errors: (R, C), absolute: distance from the object's centre to the point.
        deviations: (R, C), relative: distance from the object's centre, moved by the mean offset, to the point. 0
            everywhere where the point moves as the object does, whatever part of the object it is.
    """

    points: Floats = field(repr=False)
    mean_offset: Pair
    errors: Floats = field(repr=False)
    deviations: Floats = field(repr=False)

    @classmethod
    def of(cls, points: Floats, centres: Floats) -> Following:
        """Compare points with the centres of the object, both (R, C, 2).

        Example:
            >>> centres = np.array([[[0.0, 0.0], [0.0, 8.0]]])
            >>> found = Following.of(np.array([[[3.0, 0.0], [3.0, 16.0]]]), centres)
            >>> found.mean_offset, found.errors.round(2).tolist(), found.deviations.tolist()
            ((3.0, 4.0), [[3.0, 8.54]], [[4.0, 4.0]])
        """
        offsets = points - centres
        there = np.isfinite(offsets).all(-1)
        mean = offsets[there].mean(0) if there.any() else np.full(2, np.nan)
        distances = np.linalg.norm(offsets, axis=-1), np.linalg.norm(offsets - mean, axis=-1)
        return cls(points, (float(mean[0]), float(mean[1])), *distances)

    def facts(self) -> dict[str, Any]:
        """Sum it up, pixels, ready for JSON; null where there is no such point.

        Example:
            >>> Following.of(np.full((1, 1, 2), np.nan), np.zeros((1, 1, 2))).facts()["error"]
            {'mean': None, 'largest': None}
        """
        found: dict[str, Any] = {"mean_offset": self.mean_offset}
        for name, distances in (("error", self.errors), ("deviation", self.deviations)):
            found[name] = dict(zip(("mean", "largest"), mean_and_largest(distances), strict=True))
        return dict(plain(found))


def mean_and_largest(distances: Floats) -> Pair:
    """Sum up those distances that there are; not a number where there are none.

    Example:
        >>> mean_and_largest(np.array([np.nan, 1.0, 3.0]))
        (2.0, 3.0)
    """
    there = distances[np.isfinite(distances)]
    return (float(there.mean()), float(there.max())) if there.size else (np.nan, np.nan)
