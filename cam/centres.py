"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training bends both, because a
padded network learns to make its grid cover the picture. So the distance between cells is taken from how the grid
grows with the input, and the centre of the middle cells from their effective receptive field (Luo et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cam.errors import CamError
from cam.features import forward
from cam.geometry import Grid, Pair, Size, stretched
from cam.head import Head
from cam.maps import class_activation_maps
from cam.twins import device_and_dtype, random_inputs

_PICTURES = 8
_MIDDLE = 3  # rows and columns whose receptive fields are measured


def measure_grid(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> Grid:
    """Measure the affine rule start + jump * i that takes a cell to the centre of its evidence.

    Args:
        network: a classifier, not wrapped.
        head: its head.
        input_shape: (channels, H, W) that it was made for.

    Returns:
        The measured rule; the stretched one where the network takes one size only or passes no gradient.

    Example:
        >>> from cam.head import find_head
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> grid = measure_grid(network, find_head(network, (3, 32, 32)).exact(), (3, 32, 32))
        >>> grid.jump, grid.method
        ((4.0, 4.0), 'measured')
    """
    channels, height, width = input_shape
    device, dtype = device_and_dtype(network)
    inputs = random_inputs(_PICTURES, input_shape).to(device, dtype)
    head = head.to(device)
    cells = _cells(network, head, inputs[:1])
    try:
        larger = _cells(network, head, random_inputs(1, (channels, 2 * height, 2 * width)).to(device, dtype))
    except (CamError, RuntimeError, AssertionError, ValueError):  # the network takes one size only
        return stretched(cells, (height, width))
    jump = _jump(height, cells[0], larger[0]), _jump(width, cells[1], larger[1])
    start = _starts(network, head, inputs, jump)
    return stretched(cells, (height, width)) if start is None else Grid(start, jump, "measured")


def _cells(network: nn.Module, head: Head, inputs: Tensor) -> Size:
    _, features = forward(network, head.site, inputs)
    height, width = features.shape[2:]
    return height, width


def _jump(size: int, cells: int, larger_cells: int) -> float:
    """Pixels a cell, from how many cells twice the size adds: the power of two where rounding leaves room for it."""
    jump = size / max(1, larger_cells - cells)
    power = 2.0 ** round(float(torch.log2(torch.tensor(jump))))
    return power if abs(size / power - (larger_cells - cells)) < 1 else jump


def _starts(network: nn.Module, head: Head, inputs: Tensor, jump: Pair) -> Pair | None:
    """Centre of cell 0 along each axis, from the receptive fields of the middle rows and columns."""
    inputs = inputs.clone().requires_grad_()
    _, features = forward(network, head.site, inputs, gradients=True)
    if not features.requires_grad:
        return None
    cams = class_activation_maps(features, _mixtures(head, len(inputs)))[:, 0]
    y, x = (_start(cams.movedim(axis, 1), inputs, axis, jump[axis - 1]) for axis in (1, 2))
    return None if y is None or x is None else (y, x)


def _mixtures(head: Head, number: int) -> Tensor:
    """One random mixture of classes a picture: (N, 1, K). Every class has its say in where a cell looks."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(number, 1, head.classes, generator=generator)).to(head.weight) @ head.weight


def _start(rows: Tensor, inputs: Tensor, axis: int, jump: float) -> float | None:
    """Mean over the middle rows of (centroid of the gradient's energy - jump * row)."""
    first = max(0, (rows.shape[1] - _MIDDLE) // 2)
    pixels = torch.arange(inputs.shape[axis + 1], dtype=torch.float64, device=inputs.device)
    starts = []
    for row in range(first, min(first + _MIDDLE, rows.shape[1])):
        (gradient,) = torch.autograd.grad(rows[:, row].sum(), inputs, retain_graph=True)
        energy = gradient.double().square().sum((1, 4 - axis))
        alive = energy.sum(1) > 0
        centroids = (energy[alive] @ pixels) / energy[alive].sum(1)
        starts.append(centroids - jump * row)
    found = torch.cat(starts)
    return float(found.mean()) if len(found) and bool(found.isfinite().all()) else None
