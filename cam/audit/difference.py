"""What differs between the maps of one image in two runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cam.audit.read import PlacedMap, ScoredMap
from cam.maps.boxes import Box, half_boxes
from cam.maps.geometry import Frame, Grid, Size
from cam.maps.projection import linear_weights

_FINER = 2  # positions for each cell of the finer of two grids
_NEAR = 0.5  # cells


@dataclass(frozen=True)
class Difference:
    """The map of a class in run B less that in run A."""

    map: PlacedMap
    seen: tuple[float, float, float, float]  # by both: left, top, right, bottom as shares of the photograph
    same_grid: bool  # then exact: it averages to the change of the score, but for that of the base
    scores: tuple[float, float]  # in A and B
    base: float  # of B less that of A
    error: float | None  # how far the map is from adding up, logits; None on other grids

    @property
    def score(self) -> float:
        """The change of the score from A to B."""
        return self.scores[1] - self.scores[0]


def on_same_grid(a: PlacedMap, b: PlacedMap) -> bool:
    """True if the maps have the same cells: as many, and each less than half a cell from its counterpart.

    The positions of cells are measured for each network, so that those of two checkpoints differ a little.
    """
    if a.cam.shape != b.cam.shape:
        return False
    sides = (a.rows, b.rows), (a.columns, b.columns)
    return all(np.abs(ours - theirs).max() < _NEAR * _spacing(ours) for ours, theirs in sides)


def subtract(a: ScoredMap, b: ScoredMap) -> Difference | None:
    """Subtract the map of A from that of B: cell by cell, or on the photograph if their grids differ.

    None if they saw no common part of the photograph.
    """
    seen = _common(a, b)
    if seen is None:
        return None
    scores, base = (a.score, b.score), b.base - a.base
    if on_same_grid(a, b):
        cam = b.cam - a.cam
        placed = PlacedMap(cam, (a.rows + b.rows) / 2, (a.columns + b.columns) / 2)
        error = abs(float(cam.mean(dtype=np.float64)) - (b.score - a.score - base))
        return Difference(placed, seen, True, scores, base, error)
    first, second = _on_common_grid(a, b, seen)
    return Difference(PlacedMap(second.cam - first.cam, first.rows, first.columns), seen, False, scores, base, None)


def moved_share(a: ScoredMap, b: ScoredMap) -> float | None:
    """Compute how much of the positive evidence lies elsewhere: 1 - overlap of the positive parts, each of sum 1.

    Cell by cell, or, if the grids differ, on the part of the photograph that both networks saw. None if one of the maps
    has no positive evidence there.
    """
    seen = _common(a, b)
    if seen is None:
        return None
    maps = (a, b) if on_same_grid(a, b) else _on_common_grid(a, b, seen)
    parts = [placed.cam.astype(np.float64).clip(0) for placed in maps]
    if not all(part.any() for part in parts):
        return None
    first, second = (part / part.sum() for part in parts)
    return float(1 - np.minimum(first, second).sum())


def half_of_change(difference: Difference, photo: Size) -> list[tuple[Box, float]]:
    """Find the boxes, in pixels of a photograph (H, W), with half of the change of a score, as `half_boxes`.

    Only cells that changed in the direction of the score count.
    """
    height, width = photo
    placed, (left, top, right, bottom) = difference.map, difference.seen
    start, end = (round(top * height), round(left * width)), (round(bottom * height), round(right * width))
    frame = Frame(photo, photo, start, (end[0] - start[0], end[1] - start[1]))
    offset = placed.rows[0] * height - 0.5 - start[0], placed.columns[0] * width - 0.5 - start[1]
    grid = Grid(offset, (_spacing(placed.rows) * height, _spacing(placed.columns) * width), "measured")
    return half_boxes(placed.cam if difference.score > 0 else -placed.cam, grid, frame)


def _spacing(centers: NDArray[np.float64]) -> float:
    return float(centers[1] - centers[0]) if len(centers) > 1 else 1.0


def _common(a: ScoredMap, b: ScoredMap) -> tuple[float, float, float, float] | None:
    left, top = (max(a.seen[side], b.seen[side]) for side in (0, 1))
    right, bottom = (min(a.seen[side], b.seen[side]) for side in (2, 3))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _on_common_grid(a: PlacedMap, b: PlacedMap, seen: tuple[float, float, float, float]) -> tuple[PlacedMap, PlacedMap]:
    """Interpolate both maps at positions over what both networks saw, finer than either grid."""
    left, top, right, bottom = seen
    ys, xs = (
        start + (end - start) * (np.arange(count) + 0.5) / count
        for start, end, count in (
            (top, bottom, _FINER * max(len(a.rows), len(b.rows))),
            (left, right, _FINER * max(len(a.columns), len(b.columns))),
        )
    )
    first, second = (
        np.asarray(linear_weights(ys, one.rows) @ one.cam @ linear_weights(xs, one.columns).T, np.float32)
        for one in (a, b)
    )
    return PlacedMap(first, ys, xs), PlacedMap(second, ys, xs)
