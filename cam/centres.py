"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training bends both, because a
padded network learns to make its grid cover the picture. So the distance between cells is taken from how the grid
grows with the input, and where a cell looks from the effective receptive field of the middle cells (Luo et al. 2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cam.errors import CamError
from cam.features import forward
from cam.geometry import Grid, Pair, Size, stretched
from cam.head import Head
from cam.twins import device_and_dtype, random_inputs

_FEWEST, _MOST = 8, 32  # random pictures; more where they are small
_PIXELS = 2**18  # of them at once
_WIDE = 4  # sides of the model's own input that the grid is counted over
_MIDDLE, _ACROSS = 2, 12  # sides and cells, at least, of the input that the border cuts nothing off in the middle of


@torch.inference_mode(False)  # gradients also where the caller has switched them off
def measure_grid(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> Grid:
    """Measure the rule that takes a cell to the centre of its evidence.

    Args:
        network: a classifier, not wrapped.
        head: its head.
        input_shape: (channels, H, W) that it was made for.

    Returns:
        The measured rule; the stretched one where the network takes one size only or passes no gradient, or where
        what was found would put cells half the input and more outside it.

    Example:
        >>> from cam.head import find_head
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> grid = measure_grid(network, find_head(network, (3, 32, 32)).exact(), (3, 32, 32))
        >>> grid.jump, grid.method
        ((4.0, 4.0), 'measured')
    """
    _, height, width = input_shape
    head = head.to(device_and_dtype(network)[0])
    cells = _cells(network, head, input_shape)
    fallback = stretched(cells, (height, width))
    try:
        wide = _cells(network, head, _larger(input_shape, _WIDE))
        if wide[0] <= cells[0] or wide[1] <= cells[1]:  # it resizes on the way
            return fallback
        added = (_WIDE - 1) * height, (_WIDE - 1) * width
        jump = _jump(added[0], wide[0] - cells[0]), _jump(added[1], wide[1] - cells[1])
        sides = max(_MIDDLE, math.ceil(_ACROSS * max(jump[0] / height, jump[1] / width)))
        (start_y, reach_y), (start_x, reach_x) = _fields(network, head, _larger(input_shape, sides), jump)
    except (CamError, RuntimeError, AssertionError, ValueError):  # the network takes one size only
        return fallback
    grid = Grid((start_y, start_x), jump, "measured", (reach_y, reach_x))
    return grid if _sane(grid, cells, (height, width)) else fallback


def _larger(shape: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    return shape[0], factor * shape[1], factor * shape[2]


def _cells(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Size:
    _, features = forward(network, head.site, random_inputs(1, shape).to(*device_and_dtype(network)))
    height, width = features.shape[2:]
    return height, width


def _jump(added: int, added_cells: int) -> float:
    """Pixels a cell: a power of two, or else a whole number, where the rounding of sizes leaves room for it."""
    jump = added / added_cells
    for round_number in (2.0 ** round(math.log2(jump)), float(round(jump))):
        if round_number and abs(added / round_number - added_cells) < 1:
            return round_number
    return jump


def _fields(network: nn.Module, head: Head, shape: tuple[int, int, int], jump: Pair) -> list[Pair]:
    """Along each axis, the middle of what cell 0 sees and how far a cell reaches, from the middle of the map."""
    generator = torch.Generator().manual_seed(0)
    at_once = max(1, _PIXELS // (shape[1] * shape[2]))
    inputs = random_inputs(min(_FEWEST * at_once, _MOST), shape).to(*device_and_dtype(network))
    found = [_field(network, head, some, jump, generator) for some in torch.split(inputs, at_once)]
    fields = []
    for values in torch.cat(found, 2):  # (axis, start and reach, N)
        start, reach = (each[each.isfinite()].mean() for each in values)
        fields.append((float(start), float(reach)))
    return fields


def _field(network: nn.Module, head: Head, inputs: Tensor, jump: Pair, generator: torch.Generator) -> Tensor:
    """Where the gradient of the evidence in the middle row lies, less that row's distance from row 0; so for columns.

    Every place has its own random mixture of all classes: many independent looks at the network in one pass.
    """
    inputs = inputs.clone().requires_grad_()
    _, features = forward(network, head.site, inputs, gradients=True)
    if not features.requires_grad:
        return torch.full((2, 2, len(inputs)), math.nan)
    mixtures = torch.randn(len(inputs), *features.shape[2:], head.classes, generator=generator)
    evidence = (features * (mixtures.to(head.weight) @ head.weight).permute(0, 3, 1, 2)).sum(1)
    found = []
    for axis in (1, 2):
        middle = (evidence.shape[axis] - 1) // 2
        (gradient,) = torch.autograd.grad(evidence.select(axis, middle).sum(), inputs, retain_graph=True)
        size = gradient.cpu().double().abs()
        centre, _ = _moments(size.sum((1, 4 - axis)))  # that of the energy is the same with more noise
        _, reach = _moments(size.square().sum((1, 4 - axis)))
        found.append(torch.stack((centre - jump[axis - 1] * middle, reach)))
    return torch.stack(found)


def _moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (N,), of the places 0, 1, ... under weights (N, n)."""
    places = torch.arange(weights.shape[1]).to(weights)
    share = weights / weights.sum(1, keepdim=True)
    mean = share @ places
    return mean, (share * (places - mean[:, None]).square()).sum(1).sqrt()


def _sane(grid: Grid, cells: Size, input_size: Size) -> bool:
    """Whether all cells lie within half the input's size of it; not so where anything is no number."""
    return all(
        -size / 2 <= start <= start + jump * (count - 1) <= 1.5 * size and reach >= 0
        for start, jump, count, size, reach in zip(grid.start, grid.jump, cells, input_size, grid.reach, strict=True)
    )
