"""Several views of one picture, larger ones and mirrored ones, and their maps averaged on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cam.geometry import Frame, Grid
from cam.placing import cells_on_photo
from cam.preprocessing import Preprocessing

SCALES = (2.0, 1.5, 1.0)
"""Sizes of the views that are averaged, as factors of the input's; the finest first."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """Maps from one pass over a picture.

    Attributes:
        maps: (M, h, w) float32.
        grid: where their cells lie in the input.
        frame: where the input lies in the photograph.
        mirrored: whether the network saw the input left for right.
    """

    maps: Floats
    grid: Grid
    frame: Frame
    mirrored: bool = False


def sizes(preprocessing: Preprocessing, resolution: int | None, several: bool) -> list[Preprocessing]:
    """Give the preprocessing of each view, the finest first.

    Args:
        preprocessing: the model's own.
        resolution: shorter side of the input that maps are wanted from, pixels; the model's own by default.
        several: whether views of several sizes are wanted.

    Example:
        >>> [view.crop for view in sizes(Preprocessing(256, (224, 224)), 448, several=False)]
        [(448, 448)]
    """
    factor = 1 if resolution is None else resolution / min(preprocessing.crop)
    return [preprocessing.scaled(factor * scale) for scale in (SCALES if several else (1,))]


def average(views: Sequence[View], additive: NDArray[np.bool_]) -> Floats:
    """Average the maps of several views on the grid of the first, which must not be mirrored.

    Args:
        views: of one picture, all with the same M maps.
        additive: (M,), for each map whether it adds up to a class score. What its interpolation adds to or takes from
            its mean is then put back evenly, so that the average adds up to the average of the scores.

    Returns:
        (M, h, w) float32, linear between the centres of the cells, edge values held.

    Example:
        >>> grid, frame = Grid((0.5, 0.5), (2, 2), "stretched"), Frame((2, 4), (2, 4), (0, 0), (2, 4))
        >>> ramp = np.array([[[1, 3]]], np.float32)
        >>> average([View(ramp, grid, frame), View(ramp, grid, frame, mirrored=True)], np.array([True])).tolist()
        [[[2.0, 2.0]]]
    """
    first = views[0]
    if len(views) == 1:
        return first.maps
    target = _centres(first)
    moved = np.stack([_moved(view, target) for view in views])
    means = np.stack([view.maps.mean((1, 2)) for view in views])
    lost = np.where(additive, means - moved.mean((2, 3)), 0)
    averaged: Floats = (moved + lost[..., None, None]).mean(0, dtype=np.float64).astype(np.float32)
    return averaged


def _moved(view: View, target: Sequence[NDArray[np.float64]]) -> Floats:
    rows, columns = (_between(to, own) for to, own in zip(target, _centres(view), strict=True))
    maps = view.maps[:, :, ::-1] if view.mirrored else view.maps
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _centres(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the rows and the columns of the maps, turned back, lie in the photograph: (h,) and (w,), pixels."""
    ys, xs = cells_on_photo((view.maps.shape[1], view.maps.shape[2]), view.grid, view.frame)
    if view.mirrored:
        first, last = (view.frame.to_photo((0, x))[1] for x in (0, view.frame.input[1] - 1))
        xs = (first + last - xs)[::-1]
    return ys, xs


def _between(targets: NDArray[np.float64], own: NDArray[np.float64]) -> Floats:
    """How much of each own place goes to each target, (targets, own): linear between them, held outside."""
    return np.stack([np.interp(targets, own, unit) for unit in np.eye(len(own))], 1).astype(np.float32)
