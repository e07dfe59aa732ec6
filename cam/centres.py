"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training bends both, because a
padded network learns to make its grid cover the picture. So the distance between cells is taken from how the grid
grows with the input, and the centre of the middle cells from their effective receptive field (Luo et al. 2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cam.errors import CamError
from cam.features import forward
from cam.geometry import Grid, Pair, Size, stretched
from cam.head import Head
from cam.maps import class_activation_maps
from cam.twins import device_and_dtype, random_inputs

_PICTURES = 16


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
    if larger[0] <= cells[0] or larger[1] <= cells[1]:  # it resizes on the way
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
    jump = size / (larger_cells - cells)
    power = 2.0 ** round(math.log2(jump))
    return power if abs(size / power - (larger_cells - cells)) < 1 else jump


def _starts(network: nn.Module, head: Head, inputs: Tensor, jump: Pair) -> Pair | None:
    """Centre of cell 0 along each axis, from where the middle of the map has its evidence in each input."""
    found = [_middles(network, head, some, jump) for some in torch.split(inputs, 4)]
    starts = [torch.cat([part[axis] for part in found]) for axis in (0, 1)]
    y, x = (float(values[values.isfinite()].mean()) for values in starts)
    return (y, x) if math.isfinite(y + x) else None


def _middles(network: nn.Module, head: Head, inputs: Tensor, jump: Pair) -> list[Tensor]:
    """Centroid of the gradient of the middle row's evidence, less its distance from row 0; so for columns."""
    inputs = inputs.clone().requires_grad_()
    _, features = forward(network, head.site, inputs, gradients=True)
    if not features.requires_grad:
        return [inputs.new_full((len(inputs),), math.nan)] * 2
    mixtures = torch.randn(len(inputs), 1, head.classes, generator=torch.Generator().manual_seed(0))
    cams = class_activation_maps(features, mixtures.to(head.weight) @ head.weight)  # every class has its say
    starts = []
    for axis in (2, 3):
        last = cams.shape[axis] - 1
        middle = cams.narrow(axis, last // 2, 1 + last % 2)  # two rows where none is in the middle
        (gradient,) = torch.autograd.grad(middle.sum(), inputs, retain_graph=True)
        share = gradient.double().abs().sum((1, 5 - axis))
        pixels = torch.arange(inputs.shape[axis], dtype=torch.float64, device=inputs.device)
        starts.append(share @ pixels / share.sum(1) - jump[axis - 2] * last / 2)
    return starts
