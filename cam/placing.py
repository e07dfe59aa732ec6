"""A map on the photograph: which pixels get how much of which cell."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError
from cam.geometry import Frame, Grid, Size


def place(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Place a map on the photograph: linear between the centres of the cells, edge values held outside them.

    Args:
        cam: (h, w), logit units.
        grid: where its cells lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        Heat (H, W), float32, in the map's units; not a number where the network never saw the photograph.

    Raises:
        UsageError: the map is not two-dimensional, or empty.

    Example:
        >>> from cam.geometry import stretched
        >>> cam = np.array([[0.0, 4.0]])
        >>> place(cam, stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8)))[0].tolist()
        [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    """
    if cam.ndim != 2 or cam.size == 0:
        raise UsageError(f"A map of shape {cam.shape} cannot be placed", "Give one map of shape (h, w)")
    heat = weights(0, cam.shape[0], grid, frame) @ cam.astype(np.float32) @ weights(1, cam.shape[1], grid, frame).T
    x0, y0, x1, y1 = frame.seen
    heat[:y0] = heat[y1:] = heat[:, :x0] = heat[:, x1:] = np.nan
    return heat


def peak(cam: NDArray[np.floating], grid: Grid, frame: Frame) -> Size:
    """Give the pixel (y, x) of the photograph that holds the most evidence: the hottest cell's centre.

    Of equally hot cells, as where probabilities are all but 1, it is the one nearest to the middle of them.

    Example:
        >>> from cam.geometry import stretched
        >>> peak(np.array([[0.0, 4.0]]), stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8)))
        (4, 12)
    """
    hottest = np.argwhere(cam == cam.max())
    row, column = hottest[np.square(hottest - hottest.mean(0)).sum(1).argmin()]
    ys, xs = cells_on_photo((cam.shape[0], cam.shape[1]), grid, frame)
    x0, y0, x1, y1 = frame.seen
    return int(np.clip(ys[row] + 0.5, y0, y1 - 1)), int(np.clip(xs[column] + 0.5, x0, x1 - 1))


def cells_on_photo(cells: Size, grid: Grid, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Say where the rows and the columns of a map of (h, w) cells lie in the photograph: (h,) and (w,), pixels.

    Example:
        >>> from cam.geometry import stretched
        >>> grid, frame = stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8))
        >>> [places.tolist() for places in cells_on_photo((1, 2), grid, frame)]
        [[3.5], [3.5, 11.5]]
    """
    ys, xs = (grid.centres(axis, cells[axis], frame.input[axis]) for axis in (0, 1))
    return frame.to_photo((ys, xs))


@lru_cache(maxsize=8)  # pictures of one size, and all in the network's input, have them in common
def weights(axis: int, cells: int, grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Say how much of each cell goes to each pixel of the photograph along one axis, read-only.

    Returns:
        (pixels, cells) float32; each row adds up to 1.

    Example:
        >>> from cam.geometry import stretched
        >>> weights(1, 2, stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8)))[:5, 1].tolist()
        [0.0, 0.0, 0.125, 0.375, 0.625]
    """
    pixels = np.arange(frame.photo[axis])
    in_input = (pixels + 0.5) * (frame.resized[axis] / frame.photo[axis]) - 0.5 - frame.offset[axis]
    position = np.interp(in_input, grid.centres(axis, cells, frame.input[axis]), np.arange(cells))
    cell = position.astype(int)
    weights = np.zeros((pixels.size, cells + 1), np.float32)  # a column more: the last cell's next, with no share
    weights[pixels, cell], weights[pixels, cell + 1] = cell + 1 - position, position - cell
    weights.flags.writeable = False  # shared by all callers
    return weights[:, :cells]
