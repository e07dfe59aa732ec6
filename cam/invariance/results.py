"""What a moved object does to a class score and to its heat, in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.evaluation.statistics import plain
from cam.invariance.moving import Scenes, hxw
from cam.maps.geometry import Frame, Grid, Pair, Size


@dataclass(frozen=True)
class Equivariance:
    """How the heat of a class follows the object.

    Attributes:
        cams: (R, C, h, w) float32, logit units, the map for each place.
        grid: where their cells lie on the canvas.
        peak: of the center of the hottest cell. No better than the cells are fine: the stride of the grid apart.
        centroid: of the positive evidence, cell by cell.
        shift_errors: of moves (down, right) by one stride of the grid, from the middle and round the edges: mean
            abs(difference) / mean abs(map) over the middle half of its rows and columns, once the map is moved back.
            What is left is due to padding, and to strides that are no part of the stride. None where the stride is no
            whole number of pixels, or the map is too small.
    """

    cams: NDArray[np.float32] = field(repr=False)
    grid: Grid
    peak: Following
    centroid: Following
    shift_errors: Pair | None

    @property
    def vmax(self) -> float:
        """Largest evidence of all maps, up or down, logit units: the ends of their color scale."""
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
        predicted_probabilities: (R, C) of that class.
        equivariance: of the heat; None without an exact map.
        reason: why there is none; "" where there is one.
        notes: what to know before the numbers are read, a sentence each.
    """

    model: str
    class_idx: int
    labels: tuple[str, ...] = field(repr=False)
    scenes: Scenes
    logits: Floats = field(repr=False)
    probabilities: Floats = field(repr=False)
    predicted: NDArray[np.integer] = field(repr=False)
    predicted_probabilities: Floats = field(repr=False)
    equivariance: Equivariance | None
    reason: str = ""
    notes: tuple[str, ...] = ()

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
        """Sum it up, ready for JSON."""
        logit, probability = Summary.of(self.logits), Summary.of(self.probabilities)
        facts = {
            "model": self.model,
            "class_idx": self.class_idx,
            "label": self.label,
            "notes": self.notes,
            "coordinates": "sizes are (h, w), points and offsets (y, x), pixels of the canvas; places (rows, columns)",
            "canvas": self.scenes.canvas,
            "object": self.scenes.thing.size,
            "fill": self.scenes.fill,
            "places": self.scenes.shape,
            "predicted_share": self.stays.mean(),
            "usual_prediction": {"label": self.labels[self.usual], "share": (self.predicted == self.usual).mean()},
            "logit": asdict(logit) | {"worst_at": self.scenes.centers[logit.worst_place]},
            "probability": asdict(probability) | {"worst_at": self.scenes.centers[probability.worst_place]},
        }
        heat = self.equivariance
        if heat is None:
            return dict(plain(facts | {"reason": self.reason}))
        errors = heat.shift_errors and dict(zip(("down", "right"), heat.shift_errors, strict=True))
        followed = {"stride": heat.grid.stride, "peak": heat.peak.facts(), "centroid": heat.centroid.facts()}
        return dict(plain(facts | followed | {"shift_by_one_stride": errors}))

    def to_json(self, made_with: Mapping[str, Any] | None = None) -> str:
        """Write it as JSON: the facts, what they were made with, and all of it place by place.

        Args:
            made_with: from `cam.classifiers.provenance.describe`.

        Returns:
            The text; points are (y, x), pixels of the canvas.
        """
        places = {
            name: getattr(self, name) for name in ("logits", "probabilities", "predicted", "predicted_probabilities")
        }
        places["predicted_labels"] = [[self.labels[each] for each in row] for row in self.predicted]
        places["centers"] = self.scenes.centers
        if self.equivariance is not None:
            for name in ("peak", "centroid"):
                followed = getattr(self.equivariance, name)
                places |= {f"{name}_{each}": getattr(followed, each) for each in ("points", "errors", "deviations")}
        content = self.facts() | {"made_with": plain(made_with or {}), "by_place": plain(places)}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def __str__(self) -> str:
        """Say it in a few lines."""
        thing, canvas, places = hxw(self.scenes.thing.size), hxw(self.scenes.canvas), self.stays.size
        lines = [
            f"{self.model}, {self.label!r}: {thing} pixels (HxW) at {places} places of a canvas of {canvas}",
            f"predicted at {self.stays.sum()} of {places} places"
            + ("" if self.usual == self.class_idx else f", most often {self.labels[self.usual]!r}"),
        ]
        for name, scores in (("logit", self.logits), ("probability", self.probabilities)):
            found = Summary.of(scores)
            y, x = self.scenes.centers[found.worst_place]
            lines.append(
                f"{name}: mean {found.mean:.3f}, spread {found.spread:.3f}, "
                f"worst {found.worst:.3f} with the object's center at (y, x) = ({y:.1f}, {x:.1f})"
            )
        if self.equivariance is None:
            return "\n".join([*lines, self.reason, *self.notes])
        for name in ("peak", "centroid"):
            each = getattr(self.equivariance, name)
            (away, _), (off, most) = mean_and_largest(each.errors), mean_and_largest(each.deviations)
            lines.append(
                f"{name}: {off:.2f} pixels ({most:.2f} at most) from where it would be if it moved just as the object; "
                f"{away:.2f} from the object's center"
            )
        if self.equivariance.shift_errors:
            down, right = self.equivariance.shift_errors
            lines.append(f"map after a move by one stride, moved back: differs by {down:.2%} down, {right:.2%} right")
        return "\n".join([*lines, *self.notes])


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
        mean_offset: (y, x) from the object's center to the point, mean over the places.
        errors: (R, C), absolute: distance from the object's center to the point.
        deviations: (R, C), relative: distance from the object's center, moved by the mean offset, to the point. 0
            everywhere where the point moves as the object does, whatever part of the object it is.
    """

    points: Floats = field(repr=False)
    mean_offset: Pair
    errors: Floats = field(repr=False)
    deviations: Floats = field(repr=False)

    @classmethod
    def of(cls, points: Floats, centers: Floats) -> Following:
        """Compare points with the centers of the object, both (R, C, 2).

        Example:
            >>> centers = np.array([[[0.0, 0.0], [0.0, 8.0]]])
            >>> found = Following.of(np.array([[[3.0, 0.0], [3.0, 16.0]]]), centers)
            >>> found.mean_offset, found.errors.round(2).tolist(), found.deviations.tolist()
            ((3.0, 4.0), [[3.0, 8.54]], [[4.0, 4.0]])
        """
        offsets = points - centers
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


def notes(scenes: Scenes, natural: Size, whole: Frame | None = None) -> tuple[str, ...]:
    """Say what a user may not expect of the scenes, a sentence each.

    Args:
        scenes: the object at its places.
        natural: (h, w) of the object at the scale at which the model looks at pictures.
        whole: what the model looks at of the picture, where that is the object and there is heat.

    Example:
        >>> from cam.invariance.moving import Cutout
        >>> import numpy as np
        >>> thing = Cutout.whole(np.zeros((2, 2, 3), np.uint8))
        >>> len(notes(Scenes.over(np.zeros((4, 4, 3), np.uint8), thing, 2, "reflect"), (2, 2)))
        1
    """
    said = []
    if scenes.thing.size != natural:
        said.append(
            f"The object was made smaller, from {hxw(natural)} to {hxw(scenes.thing.size)} pixels (HxW), to have room "
            f"on the canvas."
        )
    if whole is not None:
        part = "whole picture" if whole.input == whole.resized else "center crop of the picture that the model sees"
        said.append(
            f"The object is the {part}, and what shows the class need not be in its middle: what counts is how far "
            "the heat is from where it would be, not from the center; --box or --mask moves an object alone."
        )
    if scenes.fill == "reflect":
        said.append(
            "The canvas is full of mirror images of the object (--fill reflect): all count in the score, and heat may "
            "peak in any of them, so how far it is from the object means little; --fill mean has no such copies."
        )
    return tuple(said)
