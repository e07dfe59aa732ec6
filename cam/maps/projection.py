"""A map on the photograph: which pixels get how much of which cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError
from cam.maps.geometry import Frame, Grid, Size


def project(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Place a map on the photograph: linear between the centers of the cells, edge values held outside them.

    Args:
        cam: (h, w), logit units.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        Heat (H, W), float32, in the map's units; not a number where the network never saw the photograph.

    Raises:
        UsageError: the map is not two-dimensional, or empty.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> cam = np.array([[0.0, 4.0]])
        >>> project(cam, stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8)))[0].tolist()
        [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    """
    if cam.ndim != 2 or cam.size == 0:
        raise UsageError(f"A map of shape {cam.shape} cannot be placed", "Give one map of shape (h, w)")
    heat = (
        interpolation_weights(0, cam.shape[0], grid, frame)
        @ cam.astype(np.float32)
        @ interpolation_weights(1, cam.shape[1], grid, frame).T
    )
    x0, y0, x1, y1 = frame.seen
    heat[:y0] = heat[y1:] = heat[:, :x0] = heat[:, x1:] = np.nan
    return heat


def peak(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> Size:
    """Give the pixel (y, x) of the photograph that holds the most evidence: the hottest cell's center.

    Of equally hot cells, as where probabilities are all but 1, it is the one nearest to the middle of them.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> peak(np.array([[0.0, 4.0]]), stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8)))
        (4, 12)
    """
    hottest = np.argwhere(cam == cam.max())
    row, column = hottest[np.square(hottest - hottest.mean(0)).sum(1).argmin()]
    ys, xs = cell_positions((cam.shape[0], cam.shape[1]), grid, frame)
    x0, y0, x1, y1 = frame.seen
    return int(np.clip(ys[row] + 0.5, y0, y1 - 1)), int(np.clip(xs[column] + 0.5, x0, x1 - 1))


def cell_positions(cells: Size, grid: Grid, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Say where the rows and the columns of a map of (h, w) cells lie in the photograph: (h,) and (w,), pixels.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> grid, frame = stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8))
        >>> [places.tolist() for places in cell_positions((1, 2), grid, frame)]
        [[3.5], [3.5, 11.5]]
    """
    ys, xs = (grid.centers(axis, cells[axis], frame.input[axis]) for axis in (0, 1))
    return frame.to_photo((ys, xs))


@lru_cache(maxsize=8)  # pictures of one size, and all in the network's input, have them in common
def interpolation_weights(axis: int, cells: int, grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Say how much of each cell goes to each pixel of the photograph along one axis, read-only.

    Returns:
        (pixels, cells) float32; each row adds up to 1.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> frame = Frame((4, 8), (4, 8), (0, 0), (4, 8))
        >>> interpolation_weights(1, 2, stretched((1, 2), (4, 8)), frame)[:5, 1].tolist()
        [0.0, 0.0, 0.125, 0.375, 0.625]
    """
    pixels = np.arange(frame.photo[axis])
    in_input = (pixels + 0.5) * (frame.resized[axis] / frame.photo[axis]) - 0.5 - frame.offset[axis]
    position = np.interp(in_input, grid.centers(axis, cells, frame.input[axis]), np.arange(cells))
    cell = position.astype(int)
    weights = np.zeros((pixels.size, cells + 1), np.float32)  # a column more: the last cell's next, with no share
    weights[pixels, cell], weights[pixels, cell + 1] = cell + 1 - position, position - cell
    weights.flags.writeable = False  # shared by all callers
    return weights[:, :cells]


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


def average_views(views: Sequence[View], additive: NDArray[np.bool_]) -> Floats:
    """Average the maps of several views on the grid of the first, which must not be mirrored.

    Args:
        views: of one picture, all with the same M maps.
        additive: (M,), for each map whether it adds up to a class score. What its interpolation adds to or takes from
            its mean is then put back evenly, so that the average adds up to the average of the scores.

    Returns:
        (M, h, w) float32, linear between the centers of the cells, edge values held.

    Example:
        >>> grid, frame = Grid((0.5, 0.5), (2, 2), "stretched"), Frame((2, 4), (2, 4), (0, 0), (2, 4))
        >>> ramp = np.array([[[1, 3]]], np.float32)
        >>> average_views([View(ramp, grid, frame), View(ramp, grid, frame, mirrored=True)], np.array([True])).tolist()
        [[[2.0, 2.0]]]
    """
    first = views[0]
    if len(views) == 1:
        return first.maps
    target = _centers(first)
    moved = np.stack([_moved(view, target) for view in views])
    means = np.stack([view.maps.mean((1, 2)) for view in views])
    lost = np.where(additive, means - moved.mean((2, 3)), 0)
    averaged: Floats = (moved + lost[..., None, None]).mean(0, dtype=np.float64).astype(np.float32)
    return averaged


def _moved(view: View, target: Sequence[NDArray[np.float64]]) -> Floats:
    rows, columns = (_between(to, own) for to, own in zip(target, _centers(view), strict=True))
    maps = view.maps[:, :, ::-1] if view.mirrored else view.maps
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _centers(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the rows and the columns of the maps, turned back, lie in the photograph: (h,) and (w,), pixels."""
    ys, xs = cell_positions((view.maps.shape[1], view.maps.shape[2]), view.grid, view.frame)
    if view.mirrored:
        first, last = (view.frame.to_photo((0, x))[1] for x in (0, view.frame.input[1] - 1))
        xs = (first + last - xs)[::-1]
    return ys, xs


def _between(targets: NDArray[np.float64], own: NDArray[np.float64]) -> Floats:
    """How much of each own place goes to each target, (targets, own): linear between them, held outside."""
    return np.stack([np.interp(targets, own, unit) for unit in np.eye(len(own))], 1).astype(np.float32)
