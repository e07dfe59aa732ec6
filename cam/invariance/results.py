"""What moving an object does to a class score and to its heat, in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.evaluation.benchmark import plain
from cam.invariance.moving import Placements, format_size
from cam.maps.geometry import Frame, Grid, Pair, Size

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class PointTracking:
    """How a point of the heat follows the object, in pixels of the canvas; NaN where a map has none."""

    points: Floats  # (R, C, 2): (y, x) of the point for each position of the object
    mean_offset: Pair  # (y, x) from the object's center to the point, mean over the positions
    errors: Floats  # (R, C): distance from the object's center to the point
    deviations: Floats  # (R, C): the same once the mean offset is subtracted: 0 if the point moves with the object


@dataclass(frozen=True)
class Equivariance:
    """How the heat of a class follows the object.

    `shift_errors` are mean abs(difference) / mean abs(map) after a shift (down, right) of the whole image by one
    stride, with the map shifted back, over its middle half. They are due to padding, and to strides that do not divide
    the grid's. None if the stride is not a whole number of pixels, or the map is too small.
    """

    cams: NDArray[np.float32]  # (R, C, h, w), logit units, the map for each position
    grid: Grid  # where the cells of the maps lie on the canvas
    peak: PointTracking  # of the center of the hottest cell: no more precise than the stride of the grid
    centroid: PointTracking  # of the positive evidence
    shift_errors: Pair | None

    @property
    def vmax(self) -> float:
        """Largest absolute evidence of all maps, logit units: the end of their common color scale."""
        return float(np.abs(self.cams).max())

    @property
    def trackings(self) -> dict[str, PointTracking]:
        """How the points follow the object, by name."""
        return {"peak": self.peak, "centroid": self.centroid}


@dataclass(frozen=True)
class Alone:
    """The scores of the image itself, at the network's own input size."""

    logit: float  # of the class
    probability: float  # of the class; NaN where the scores are values
    predicted: int
    predicted_probability: float


@dataclass(frozen=True)
class Dilution:
    """What an average over positions leaves of an object's logit on a larger canvas, wherever it lies."""

    share: float  # of the canvas's pixels that the object covers
    logit: float  # of the object: of the whole image, or the mean of the image's own map over its part, and the bias
    empty: float  # logit of the canvas without the object

    @property
    def expected(self) -> float:
        """The logit at any position."""
        return self.share * self.logit + (1 - self.share) * self.empty


@dataclass(frozen=True)
class Invariance:
    """The score and the heat of one class, with the object at R x C positions."""

    model: str
    class_idx: int
    labels: tuple[str, ...]  # of all classes
    placements: Placements
    logits: Floats  # (R, C) of the class
    probabilities: Floats  # (R, C) of the class; NaN where the scores are values
    predicted: NDArray[np.integer]  # (R, C) index of the class with the largest score
    predicted_probabilities: Floats  # (R, C) of that class
    alone: Alone
    dilution: Dilution | None  # None if the score is no plain average over a canvas that is else empty
    rival: Dilution | None  # of the class predicted most often, if it is another one
    equivariance: Equivariance | None  # None without an exact map
    reason: str = ""  # why there is no exact map
    notes: tuple[str, ...] = ()  # what to know before reading the numbers, one sentence each

    @property
    def label(self) -> str:
        """The text of the class."""
        return self.labels[self.class_idx]

    @property
    def scores(self) -> dict[str, Floats]:
        """Logit, or value, and probability of the class, by name: (R, C) each."""
        if np.isnan(self.probabilities).all():
            return {"value": self.logits}
        return {"logit": self.logits, "probability": self.probabilities}

    @property
    def most_predicted(self) -> int:
        """The class predicted at most positions."""
        return int(np.bincount(self.predicted.ravel()).argmax())

    @property
    def is_predicted(self) -> NDArray[np.bool_]:
        """(R, C): True where the class is the predicted one."""
        return np.asarray(self.predicted == self.class_idx)

    @property
    def predictions(self) -> str:
        """At how many positions the class is predicted, and the class that is predicted more often."""
        count = f"predicted at {self.is_predicted.sum()} of {self.predicted.size} positions"
        most = self.most_predicted
        return count if most == self.class_idx else f"{count}, most often {self.labels[most]!r}"

    @property
    def alone_note(self) -> str:
        """The score of the image itself, in words."""
        alone, (name, *has_probability) = self.alone, self.scores
        text = f"alone: {name} {alone.logit:.2f}"
        if has_probability:
            text += f", probability {alone.probability:.1%}"
        return f"{text}, predicted {self.labels[alone.predicted]!r}"

    @property
    def dilution_note(self) -> str:
        """Why the score is smaller on the canvas, and why another class may win there; empty if that is not known."""
        if (dilution := self.dilution) is None:
            return ""
        times, rest = f"{1 / dilution.share:.3g}", (1 - dilution.share) * dilution.empty
        part = f", whose part of the image's own map averages {dilution.logit:.2f}"
        text = (
            f"The score averages over the whole canvas, which has {times} times the pixels of the object"
            f"{part if dilution.logit != self.alone.logit else ''}: "
            f"{dilution.logit:.2f} / {times} {'-' if rest < 0 else '+'} {abs(rest):.2f} (the empty part) = "
            f"{dilution.expected:.2f} is expected at any position. Measured: {self.logits.mean():.2f}, with a "
            f"standard deviation of {self.logits.std():.2f} over the positions."
        )
        if self.rival is None:
            return text
        rival = f"{self.labels[self.most_predicted]!r}, which is predicted most often"
        return f"{text} By the same rule {rival}, is expected at {self.rival.expected:.2f}."

    def facts(self) -> dict[str, Any]:
        """Summarize as JSON types."""
        most = self.most_predicted
        dilutions = {"dilution": self.dilution, "rival_dilution": self.rival}
        facts: dict[str, Any] = {
            "model": self.model,
            "class_idx": self.class_idx,
            "label": self.label,
            "notes": self.notes,
            "coordinates": "sizes are (h, w), points and offsets (y, x), in pixels of the canvas",
            "canvas": self.placements.canvas,
            "object": self.placements.cutout.size,
            "fill": self.placements.fill,
            "positions": self.placements.shape,
            "alone": {**asdict(self.alone), "predicted_label": self.labels[self.alone.predicted]},
            **{name: some and {**asdict(some), "expected": some.expected} for name, some in dilutions.items()},
            "predicted_share": self.is_predicted.mean(),
            "most_predicted": {"label": self.labels[most], "share": (self.predicted == most).mean()},
            **{name: summarize_scores(scores, self.placements.centers) for name, scores in self.scores.items()},
        }
        if heat := self.equivariance:
            facts["stride"] = heat.grid.stride
            facts |= {name: summarize_tracking(tracking) for name, tracking in heat.trackings.items()}
            errors = heat.shift_errors
            facts["shift_by_one_stride"] = errors and {"down": errors[0], "right": errors[1]}
        else:
            facts["reason"] = self.reason
        return dict(plain(facts))

    def to_json(self, made_with: Mapping[str, Any] | None = None) -> str:
        """Write the facts, `made_with` (from `cam.classifiers.provenance.describe`) and the values by position."""
        names = "logits", "probabilities", "predicted", "predicted_probabilities"
        values = {name: getattr(self, name) for name in names}
        values["predicted_labels"] = np.array(self.labels)[self.predicted]
        values["centers"] = self.placements.centers
        for name, tracking in self.equivariance.trackings.items() if self.equivariance else ():
            values |= {f"{name}_{part}": getattr(tracking, part) for part in ("points", "errors", "deviations")}
        content = self.facts() | {"made_with": plain(made_with or {}), "by_position": plain(values)}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def __str__(self) -> str:
        """Summarize in a few lines."""
        size, canvas = format_size(self.placements.cutout.size), format_size(self.placements.canvas)
        where = f"{size} pixels (WxH) at {self.predicted.size} positions on a canvas of {canvas}"
        lines = [f"{self.model}, {self.label!r}: {where}", self.alone_note, self.predictions]
        for name, scores in self.scores.items():
            summary = summarize_scores(scores, self.placements.centers)
            y, x = summary["min_center"]
            lines.append(
                f"{name}: mean {summary['mean']:.3f}, standard deviation {summary['std']:.3f}, "
                f"minimum {summary['min']:.3f} with the object's center at (y, x) = ({y:.1f}, {x:.1f})"
            )
        lines += [self.dilution_note] * (self.dilution is not None)
        if self.equivariance is None:
            return "\n".join([*lines, self.reason, *self.notes])
        for name, tracking in self.equivariance.trackings.items():
            error, deviation = mean_and_max(tracking.errors), mean_and_max(tracking.deviations)
            lines.append(
                f"{name}: {deviation['mean']:.2f} pixels on average ({deviation['max']:.2f} at most) from where it "
                f"would be if it moved exactly with the object; {error['mean']:.2f} from the object's center"
            )
        if self.equivariance.shift_errors:
            down, right = self.equivariance.shift_errors
            lines.append(f"map shifted back after a shift by one stride: differs by {down:.2%} down, {right:.2%} right")
        return "\n".join([*lines, *self.notes])


def track(points: Floats, centers: Floats) -> PointTracking:
    """Compare points with the centers of the object, both (R, C, 2)."""
    offsets = points - centers
    finite = np.isfinite(offsets).all(-1)
    mean = offsets[finite].mean(0) if finite.any() else np.full(2, np.nan)
    errors, deviations = np.linalg.norm(offsets, axis=-1), np.linalg.norm(offsets - mean, axis=-1)
    return PointTracking(points, (float(mean[0]), float(mean[1])), errors, deviations)


def summarize_scores(scores: Floats, centers: Floats) -> dict[str, Any]:
    """Summarize scores (R, C): a `std` of 0 means that the score does not depend on the position."""
    scores = scores.astype(np.float64)
    row, column = np.unravel_index(scores.argmin(), scores.shape)
    minimum = {"min": scores.min(), "min_position": (int(row), int(column)), "min_center": centers[row, column]}
    return {"mean": scores.mean(), "std": scores.std(), **minimum}


def summarize_tracking(tracking: PointTracking) -> dict[str, Any]:
    """Summarize distances, pixels; NaN if no map has the point."""
    error, deviation = mean_and_max(tracking.errors), mean_and_max(tracking.deviations)
    return {"mean_offset": tracking.mean_offset, "error": error, "deviation": deviation}


def mean_and_max(distances: Floats) -> dict[str, float]:
    """Summarize the finite distances; NaN if there are none."""
    finite = distances[np.isfinite(distances)]
    return {"mean": finite.mean(), "max": finite.max()} if finite.size else {"mean": np.nan, "max": np.nan}


def describe_object(placements: Placements, natural_size: Size, seen: Frame | None = None) -> tuple[str, ...]:
    """Note what a user may not expect: an object made smaller, one without box or mask (`seen`), mirror images."""
    notes = []
    before, after = format_size(natural_size), format_size(placements.cutout.size)
    if before != after:
        notes.append(f"The object was made smaller, from {before} to {after} pixels (WxH), to fit on the canvas.")
    if seen is not None:
        part = "whole image" if seen.input == seen.resized else "center crop of the image that the model sees"
        notes.append(
            f"The object is the {part}, and what shows the class may be anywhere in it: compare the heat with where it "
            "would be if it moved exactly with the object, not with the center; use --box or --mask to move one object."
        )
    if placements.fill == "reflect":
        notes.append(
            "The canvas is full of mirror images of the object (--fill reflect): all count in the score, and the heat "
            "may peak in any of them, so its distance from the object means little; --fill mean makes no copies."
        )
    return tuple(notes)
