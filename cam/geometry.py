"""Where a cell of a map lies in the photograph: cells <-> network input <-> original pixels.

Coordinates are pixel centres, (y, x): the first pixel's centre is 0, and pixel i covers i - 1/2 to i + 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError

Pair = tuple[float, float]
Size = tuple[int, int]

_LONGEST = 8  # how many shorter sides long a whole picture may be in the network's input
_NEAR = 1e-3  # pixels: a smaller reach makes no difference
_below = np.vectorize(lambda x: erf(x / sqrt(2)) / 2, otypes=[float])  # SciPy takes a third of a second to load
_FAR = 6.0  # reaches outside the input where a cell sees so little of it that it makes no difference how far


@dataclass(frozen=True)
class Frame:
    """How a photograph became a network input: resized, then cut out or padded.

    Attributes:
        photo: (H, W) of the upright photograph.
        resized: (H, W) after resizing.
        offset: (y, x) of the input's first pixel in the resized picture; negative where it was padded.
        input: (H, W) of the network's input.
    """

    photo: Size
    resized: Size
    offset: Size
    input: Size

    def to_photo(self, point: Pair) -> Pair:
        """Take a point of the network's input to the photograph, both (y, x) in pixels.

        Example:
            >>> Frame((100, 200), (50, 100), (0, 25), (50, 50)).to_photo((0, 0))
            (0.5, 50.5)
        """
        y, x = (
            (point[axis] + self.offset[axis] + 0.5) * self.photo[axis] / self.resized[axis] - 0.5 for axis in (0, 1)
        )
        return y, x

    def to_input(self, point: Pair) -> Pair:
        """Take a point of the photograph to the network's input, both (y, x) in pixels.

        Example:
            >>> Frame((100, 200), (50, 100), (0, 25), (50, 50)).to_input((0.5, 50.5))
            (0.0, 0.0)
        """
        y, x = (
            (point[axis] + 0.5) * self.resized[axis] / self.photo[axis] - 0.5 - self.offset[axis] for axis in (0, 1)
        )
        return y, x

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """Box (x0, y0, x1, y1) of the photograph's pixels that the network saw, ends excluded."""
        top, left = self.to_photo((-0.5, -0.5))
        bottom, right = self.to_photo((self.input[0] - 0.5, self.input[1] - 0.5))
        (y0, y1), (x0, x1) = _inside(top, bottom, self.photo[0]), _inside(left, right, self.photo[1])
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map lie in the network's input: cell i looks about start + jump * i.

    What a cell sees fades like a Gaussian (Luo et al. 2016), and holds no evidence outside the input. So the centre of
    its evidence is the mean of a truncated normal distribution: further inwards at the border, the same elsewhere.

    Attributes:
        start: (y, x) of the middle of what cell 0 sees, input pixels.
        jump: (y, x) from one cell to the next, input pixels.
        method: how they were found: "measured", "arithmetic" or "stretched".
        reach: (y, x) standard deviation of what a cell sees, input pixels; 0 where it is not known.
    """

    start: Pair
    jump: Pair
    method: str
    reach: Pair = (0.0, 0.0)

    def centres(self, axis: int, cells: NDArray[np.number], length: int) -> NDArray[np.float64]:
        """Take rows (axis 0) or columns (axis 1), (n,), to an input of that length, both in pixels, float64.

        Example:
            >>> Grid((0, 0), (4, 4), "measured", reach=(6, 6)).centres(0, np.arange(16), 64).round(1)[:4].tolist()
            [4.5, 6.3, 9.0, 12.3]
        """
        middles = self.start[axis] + self.jump[axis] * np.asarray(cells, np.float64)
        return _inwards(middles, self.reach[axis], length) if self.reach[axis] else middles


def stretched(cells: Size, input_size: Size) -> Grid:
    """Lay a map over the whole input, cell i at jump * (i + 1/2) - 1/2: what remains where nothing can be measured.

    Args:
        cells: (h, w) of the map.
        input_size: (H, W) of the network's input.

    Example:
        >>> stretched((7, 7), (224, 224)).start
        (15.5, 15.5)
    """
    jump_y, jump_x = input_size[0] / cells[0], input_size[1] / cells[1]
    return Grid(((jump_y - 1) / 2, (jump_x - 1) / 2), (jump_y, jump_x), "stretched")


def fit_crop(photo: Size, resize: int, crop: Size) -> Frame:
    """Resize the shorter side, then cut out the centre, as torchvision's evaluation presets do.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels.
        crop: (H, W) of the network's input; larger than the resized picture, it is padded.

    Example:
        >>> fit_crop((480, 640), 256, (224, 224))
        Frame(photo=(480, 640), resized=(256, 341), offset=(16, 58), input=(224, 224))
    """
    resized = _resized(photo, resize)
    top, left = (_centred(resized[axis], crop[axis]) for axis in (0, 1))
    return Frame(photo, resized, (top, left), crop)


def fit_whole(photo: Size, resize: int) -> Frame:
    """Resize the shorter side and keep the whole picture, at the scale that `fit_crop` has.

    A picture more than 8 times as long as wide is made smaller still, so that its input stays of bounded size.

    Args:
        photo: (H, W) of the photograph.
        resize: shorter side after resizing, pixels.

    Example:
        >>> fit_whole((480, 640), 256).input
        (256, 341)
    """
    resized = _resized(photo, resize)
    if max(resized) > _LONGEST * resize:
        shrink = _LONGEST * resize / max(resized)
        resized = (max(1, round(resized[0] * shrink)), max(1, round(resized[1] * shrink)))
    return Frame(photo, resized, (0, 0), resized)


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
        >>> grid, frame = stretched((1, 2), (4, 8)), Frame((8, 16), (4, 8), (0, 0), (4, 8))
        >>> [places.tolist() for places in cells_on_photo((1, 2), grid, frame)]
        [[3.5], [3.5, 11.5]]
    """
    ys, xs = (grid.centres(axis, np.arange(cells[axis]), frame.input[axis]) for axis in (0, 1))
    return np.array([frame.to_photo((y, 0))[0] for y in ys]), np.array([frame.to_photo((0, x))[1] for x in xs])


def weights(axis: int, cells: int, grid: Grid, frame: Frame) -> NDArray[np.float32]:
    """Say how much of each cell goes to each pixel of the photograph along one axis: (pixels, cells) float32.

    Example:
        >>> weights(1, 2, stretched((1, 2), (4, 8)), Frame((4, 8), (4, 8), (0, 0), (4, 8)))[:5, 1].tolist()
        [0.0, 0.0, 0.125, 0.375, 0.625]
    """
    pixels = np.arange(frame.photo[axis])
    in_input = (pixels + 0.5) * (frame.resized[axis] / frame.photo[axis]) - 0.5 - frame.offset[axis]
    position = np.interp(in_input, grid.centres(axis, np.arange(cells), frame.input[axis]), np.arange(cells))
    cell = position.astype(int)
    weights = np.zeros((pixels.size, cells + 1), np.float32)  # a column more: the last cell's next, with no share
    weights[pixels, cell], weights[pixels, cell + 1] = cell + 1 - position, position - cell
    return weights[:, :cells]


def _inwards(middles: NDArray[np.float64], reach: float, length: int) -> NDArray[np.float64]:
    """Mean of a normal distribution about each middle, of what of it lies inside an input of that many pixels."""
    first, last, reach = -0.5, length - 0.5, max(reach, _NEAR)
    middles = middles.clip(first - _FAR * reach, last + _FAR * reach)
    low, high = (first - middles) / reach, (last - middles) / reach
    density = (np.exp(-(low**2) / 2) - np.exp(-(high**2) / 2)) / np.sqrt(2 * np.pi)
    return np.asarray(middles + reach * density / (_below(high) - _below(low)), np.float64)


def _resized(photo: Size, resize: int) -> Size:
    height, width = photo
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _centred(length: int, crop: int) -> int:
    """First pixel of a centred crop, with torchvision's rounding; less than 0 where it has to pad."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)


def _inside(first: float, last: float, size: int) -> tuple[int, int]:
    """Pixels whose centres lie between two edges."""
    return max(0, int(np.ceil(first))), min(size, int(np.floor(last)) + 1)
