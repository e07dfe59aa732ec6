"""Maps projected on the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import torch
from numpy.typing import NDArray

from cam.errors import UsageError
from cam.maps.geometry import Frame, Grid, Size


def project(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Project a map on the photograph: linear between the centers of the cells, edge values held outside them.

    Args:
        cam: (h, w), logit units.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        Heat (H, W), float32, in the map's units; NaN where the network did not see the photograph.

    Raises:
        UsageError: the map is empty or does not have two dimensions.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> cam = np.array([[0.0, 4.0]])
        >>> project(cam, stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8)))[0].tolist()
        [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    """
    if cam.ndim != 2 or cam.size == 0:
        raise UsageError(f"cam must have the shape (h, w), got {cam.shape}", "Pass one map")
    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    heat = matmul(down, cam, across.T)
    x0, y0, x1, y1 = frame.seen
    heat[:y0] = heat[y1:] = heat[:, :x0] = heat[:, x1:] = np.nan
    return heat


def matmul(*factors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Multiply matrices with torch, in float32.

    The threads of NumPy's BLAS wait actively for more work, and would take a core from the network's next pass.

    Example:
        >>> matmul(np.eye(2), np.array([[1, 2], [3, 4]])).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    tensors = (torch.from_numpy(np.array(factor, np.float32)) for factor in factors)
    return np.asarray(reduce(torch.matmul, tensors).numpy())


def value_at(maps: NDArray[np.floating], grid: Grid, frame: Frame, position: Size) -> NDArray[np.float32]:
    """Read maps (..., h, w) at one pixel (y, x) of the photograph: (...), in their unit, as `project` places them.

    NaN where the network did not see the photograph.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> grid, frame = stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8))
        >>> value_at(np.array([[[0.0, 4.0]], [[4.0, 8.0]]]), grid, frame, (0, 3)).tolist()
        [1.5, 5.5]
    """
    (y, x), (x0, y0, x1, y1) = position, frame.seen
    if not (x0 <= x < x1 and y0 <= y < y1):
        return np.full(maps.shape[:-2], np.nan, np.float32)
    down, across = (interpolation_weights(axis, maps.shape[axis - 2], grid, frame) for axis in (0, 1))
    return matmul(down[y], maps, across[x])


def peak(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> Size:
    """Return the pixel (y, x) of the photograph with the most evidence: the hottest cell's center.

    Example:
        >>> from cam.maps.geometry import stretched
        >>> peak(np.array([[0.0, 4.0]]), stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8)))
        (4, 12)
    """
    row, column = hottest_cell(cam)
    ys, xs = cell_positions((cam.shape[0], cam.shape[1]), grid, frame)
    x0, y0, x1, y1 = frame.seen
    return int(np.clip(ys[row] + 0.5, y0, y1 - 1)), int(np.clip(xs[column] + 0.5, x0, x1 - 1))


def hottest_cell(cam: NDArray[np.floating]) -> tuple[int, int]:
    """Return the (row, column) of the largest value of a map (h, w).

    Of equal ones (probabilities near 1, for example) it is the one nearest to the middle of them.
    """
    hottest = np.argwhere(cam == cam.max())
    row, column = hottest[np.square(hottest - hottest.mean(0)).sum(1).argmin()]
    return int(row), int(column)


def cell_positions(cells: Size, grid: Grid, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of a map's (h, w) rows and columns in the photograph: (h,) and (w,), pixels."""
    ys, xs = (grid.centers(axis, cells[axis]) for axis in (0, 1))
    return frame.to_photo((ys, xs))


@lru_cache(maxsize=8)  # the same for all images of one size
def interpolation_weights(axis: int, cells: int, grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Compute the share of each cell in each pixel of the photograph along one axis: (pixels, cells) float32."""
    pixels = np.arange(frame.photo[axis])
    in_input = (pixels + 0.5) * (frame.resized[axis] / frame.photo[axis]) - 0.5 - frame.offset[axis]
    position = np.interp(in_input, grid.centers(axis, cells), np.arange(cells))
    cell = position.astype(int)
    weights = np.zeros((pixels.size, cells + 1), np.float32)  # one column more, for the cell after the last
    weights[pixels, cell], weights[pixels, cell + 1] = cell + 1 - position, position - cell
    weights.flags.writeable = False  # shared by all callers
    return weights[:, :cells]


@dataclass(frozen=True)
class View:
    """Maps from one forward pass over an image."""

    maps: NDArray[np.float32]  # (M, h, w)
    grid: Grid  # where their cells lie in the input
    frame: Frame  # where the input lies in the photograph
    mirrored: bool = False  # True if the input was flipped left to right


def average_views(views: Sequence[View], additive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average M maps over several views of an image, on the grid of the first, which must not be mirrored: (M, h, w).

    `additive` (M,) is True for maps that add up to a class score. Interpolation changes their mean; the difference is
    put back evenly, so that the average adds up to the average of the scores.

    Example:
        >>> grid, frame = Grid((0.5, 0.5), (2, 2), "stretched"), Frame((2, 4), (2, 4), (0, 0), (2, 4))
        >>> ramp = np.array([[[1, 3]]], np.float32)
        >>> average_views([View(ramp, grid, frame), View(ramp, grid, frame, mirrored=True)], np.array([True])).tolist()
        [[[2.0, 2.0]]]
    """
    if len(views) == 1:
        return views[0].maps
    first = views[0]
    target_ys, target_xs = cell_positions((first.maps.shape[1], first.maps.shape[2]), first.grid, first.frame)
    interpolated = []
    for view in views:
        maps = view.maps
        ys, xs = cell_positions((maps.shape[1], maps.shape[2]), view.grid, view.frame)
        if view.mirrored:
            left, right = (view.frame.to_photo((0, x))[1] for x in (0, view.frame.input[1] - 1))
            maps, xs = maps[:, :, ::-1], (left + right - xs)[::-1]
        moved = matmul(linear_weights(target_ys, ys), maps, linear_weights(target_xs, xs).T)
        difference = np.where(additive, maps.mean((1, 2)) - moved.mean((1, 2)), 0)
        interpolated.append(moved + difference[:, None, None])
    return np.asarray(np.mean(interpolated, 0, dtype=np.float64), np.float32)


def linear_weights(targets: NDArray[np.float64], sources: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of each source position in each target, (targets, sources): linear between sources, held outside.

    Example:
        >>> linear_weights(np.array([0.0, 1.5]), np.array([1.0, 2.0])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    return np.stack([np.interp(targets, sources, unit) for unit in np.eye(len(sources))], 1).astype(np.float32)
