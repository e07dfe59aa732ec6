"""What a moved object does to a class score and to its heat, in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.evaluation.results import plain
from cam.geometry import Grid, Pair
from cam.invariance.cutout import hxw
from cam.invariance.moving import Scenes
from cam.invariance.summaries import Floats, Following, Summary, mean_and_largest


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
        predicted_probabilities: (R, C) of that class.
        equivariance: of the heat; None without an exact map.
        reason: why there is none; "" where there is one.
        remarks: what to know before the numbers are read, a sentence each.
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
    remarks: tuple[str, ...] = ()

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
            "remarks": self.remarks,
            "coordinates": "sizes are (h, w), points and offsets (y, x), pixels of the canvas; places (rows, columns)",
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

    def to_json(self, made_with: Mapping[str, Any] | None = None) -> str:
        """Write it as JSON: the facts, what they were made with, and all of it place by place.

        Args:
            made_with: from `cam.provenance.describe`.

        Returns:
            The text; points are (y, x), pixels of the canvas.
        """
        places = {
            name: getattr(self, name) for name in ("logits", "probabilities", "predicted", "predicted_probabilities")
        }
        places["predicted_labels"] = [[self.labels[each] for each in row] for row in self.predicted]
        places["centres"] = self.scenes.centres
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
            y, x = self.scenes.centres[found.worst_place]
            lines.append(
                f"{name}: mean {found.mean:.3f}, spread {found.spread:.3f}, "
                f"worst {found.worst:.3f} with the object's centre at (y, x) = ({y:.1f}, {x:.1f})"
            )
        if self.equivariance is None:
            return "\n".join([*lines, self.reason, *self.remarks])
        for name in ("peak", "centroid"):
            each = getattr(self.equivariance, name)
            (away, _), (off, most) = mean_and_largest(each.errors), mean_and_largest(each.deviations)
            lines.append(
                f"{name}: {off:.2f} pixels ({most:.2f} at most) from where it would be if it moved just as the object; "
                f"{away:.2f} from the object's centre"
            )
        if self.equivariance.shift_errors:
            down, right = self.equivariance.shift_errors
            lines.append(f"map after a move by one jump, moved back: differs by {down:.2%} down, {right:.2%} right")
        return "\n".join([*lines, *self.remarks])
