"""What a moved object does to a class score and to its heat, in numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.evaluation.results import plain
from cam.geometry import Grid, Pair, Size
from cam.invariance.moving import Scenes

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


@dataclass(frozen=True)
class Equivariance:
    """How the heat of a class follows the object.

    Attributes:
        cams: (R, C, h, w) float32, logit units, the map for each place.
        grid: where their cells lie on the canvas.
        peak: of the centre of the hottest cell. No better than the cells are fine: the jump of the grid apart.
        centroid: of the positive evidence, cell by cell.
        shift_errors: of moves (down, right) by one jump of the grid, from the middle and round the edges: mean
            abs(difference) / mean abs(map) over the middle half of its rows and columns, once the map is moved back.
            What is left is due to padding, and to strides that are no part of the jump. None where the jump is no
            whole number of pixels, or the map is too small.
    """

    cams: NDArray[np.float32] = field(repr=False)
    grid: Grid
    peak: Following
    centroid: Following
    shift_errors: Pair | None

    @property
    def limit(self) -> float:
        """Largest evidence of all maps, up or down, logit units: the ends of their colour scale."""
        return float(np.abs(self.cams).max())


@dataclass(frozen=True)
class Invariance:
    """What became of one class when the object was moved to R x C places.

    Attributes:
        model: its name.
        class_idx: the class.
        labels: of all classes.
        scenes: the object, the canvas and the places.
        logits: (R, C) of the class.
        probabilities: (R, C) of the class, in [0, 1].
        predicted: (R, C) index of the class with the largest score.
        equivariance: of the heat; None without an exact map.
        reason: why there is none; "" where there is one.
    """

    model: str
    class_idx: int
    labels: tuple[str, ...] = field(repr=False)
    scenes: Scenes
    logits: Floats = field(repr=False)
    probabilities: Floats = field(repr=False)
    predicted: NDArray[np.integer] = field(repr=False)
    equivariance: Equivariance | None
    reason: str = ""

    @property
    def label(self) -> str:
        """The text of the class."""
        return self.labels[self.class_idx]

    @property
    def usual(self) -> int:
        """The class predicted at most places."""
        return int(np.bincount(self.predicted.ravel()).argmax())

    @property
    def stays(self) -> NDArray[np.bool_]:
        """(R, C): whether the class is the predicted one."""
        return np.asarray(self.predicted == self.class_idx)

    def facts(self) -> dict[str, Any]:
        """Sum it up, ready for JSON: points and sizes are (y, x), pixels of the canvas."""
        logit, probability = Summary.of(self.logits), Summary.of(self.probabilities)
        facts = {
            "model": self.model,
            "class_idx": self.class_idx,
            "label": self.label,
            "canvas": self.scenes.canvas,
            "object": self.scenes.thing.size,
            "fill": self.scenes.fill,
            "places": self.scenes.shape,
            "predicted_share": self.stays.mean(),
            "usual_prediction": {"label": self.labels[self.usual], "share": (self.predicted == self.usual).mean()},
            "logit": asdict(logit) | {"worst_at": self.scenes.centres[logit.worst_place]},
            "probability": asdict(probability) | {"worst_at": self.scenes.centres[probability.worst_place]},
        }
        heat = self.equivariance
        if heat is None:
            return dict(plain(facts | {"reason": self.reason}))
        errors = heat.shift_errors and dict(zip(("down", "right"), heat.shift_errors, strict=True))
        followed = {"jump": heat.grid.jump, "peak": heat.peak.facts(), "centroid": heat.centroid.facts()}
        return dict(plain(facts | followed | {"shift_by_one_jump": errors}))

    def to_json(self) -> str:
        """Write it as JSON: the facts, then all of it place by place; points are (y, x), pixels of the canvas."""
        places = {name: getattr(self, name) for name in ("logits", "probabilities", "predicted")}
        places["centres"] = self.scenes.centres
        if self.equivariance is not None:
            for name in ("peak", "centroid"):
                followed = getattr(self.equivariance, name)
                places |= {f"{name}_{each}": getattr(followed, each) for each in ("points", "errors", "deviations")}
        return json.dumps(self.facts() | {"by_place": plain(places)}, indent=2, allow_nan=False) + "\n"

    def __str__(self) -> str:
        """Say it in a few lines."""
        (canvas_h, canvas_w), (height, width), places = self.scenes.canvas, self.scenes.thing.size, self.stays.size
        lines = [
            f"{self.model}, {self.label!r}: {width} x {height} pixels at {places} places of {canvas_w} x {canvas_h}",
            f"predicted at {self.stays.sum()} of {places}, most often {self.labels[self.usual]!r}",
        ]
        for name, scores in (("logit", self.logits), ("probability", self.probabilities)):
            found = Summary.of(scores)
            y, x = self.scenes.centres[found.worst_place]
            lines.append(
                f"{name}: mean {found.mean:.3f}, spread {found.spread:.3f}, worst {found.worst:.3f} at ({y:g}, {x:g})"
            )
        if self.equivariance is None:
            return "\n".join([*lines, self.reason])
        for name in ("peak", "centroid"):
            each = getattr(self.equivariance, name)
            (away, _), (off, _) = mean_and_largest(each.errors), mean_and_largest(each.deviations)
            lines.append(f"{name}: {away:.2f} pixels from the object's centre, {off:.2f} from its own mean offset")
        if self.equivariance.shift_errors:
            down, right = self.equivariance.shift_errors
            lines.append(f"map moved back by one jump: {down:.2%} off down, {right:.2%} right")
        return "\n".join(lines)
