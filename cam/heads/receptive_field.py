"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training changes both, because a
padded network learns to make its grid cover the image. So the distance between cells is taken from how the grid grows
with the input, and the center of a cell from the effective receptive field of the middle cells (Luo et al. 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cam.errors import CamError
from cam.heads.copies import random_inputs
from cam.heads.head import Head, Site
from cam.heads.hooks import eval_mode, forward
from cam.heads.probe import Probe, track_modules
from cam.maps.geometry import Grid, Pair, Size, stretched
from cam.tensors import device_and_dtype

_MIN_IMAGES, _MAX_IMAGES = 8, 32  # random images; more if they are small
_PIXELS = 2**18  # in one batch
_WIDE = 4  # sides of the model's own input over which cells are counted
_MIDDLE, _ACROSS = 2, 12  # minimum size, in sides and in cells, of an input whose middle the border does not affect


@torch.inference_mode(False)  # gradients even if the caller has disabled them
def measure_receptive_field(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> Grid:
    """Measure the rule that maps a cell to the center of its evidence, for a network made for (channels, H, W).

    The map is stretched over the input if the network takes one size only or passes no gradient, or if the measured
    rule would put cells half the input or more outside it.
    """
    channels, height, width = input_shape
    head = head.to(device_and_dtype(network)[0])
    cells = _count_cells(network, head, input_shape)
    fallback = stretched(cells, (height, width))
    try:
        wide = _count_cells(network, head, (channels, _WIDE * height, _WIDE * width))
        if wide[0] <= cells[0] or wide[1] <= cells[1]:  # the network resizes its input or features
            return fallback
        added = (_WIDE - 1) * height, (_WIDE - 1) * width
        stride = _stride(added[0], wide[0] - cells[0]), _stride(added[1], wide[1] - cells[1])
        sides = max(_MIDDLE, math.ceil(_ACROSS * max(stride[0] / height, stride[1] / width)))
        fields = _receptive_fields(network, head, (channels, sides * height, sides * width), stride)
    except (CamError, RuntimeError, AssertionError, ValueError):  # the network takes one size only
        return fallback
    offset, extent = fields
    grid = Grid((offset[0], offset[1]), stride, "measured", (extent[0], extent[1]))
    plausible = all(  # also False for NaN
        -size / 2 <= offset <= offset + step * (count - 1) <= 1.5 * size and extent >= 0
        for offset, step, count, size, extent in zip(
            grid.offset, stride, cells, (height, width), grid.extent, strict=True
        )
    )
    return grid if plausible else fallback


def _count_cells(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Size:
    _, features = forward(network, head.site, random_inputs(1, shape).to(*device_and_dtype(network)))
    height, width = features.shape[2:]
    return height, width


def _stride(added: int, added_cells: int) -> float:
    """Pixels a cell: a power of two, or else a whole number, if the rounding of sizes allows it."""
    stride = added / added_cells
    for round_number in (2.0 ** round(math.log2(stride)), float(round(stride))):
        if round_number and abs(added / round_number - added_cells) < 1:
            return round_number
    return stride


def _receptive_fields(network: nn.Module, head: Head, shape: tuple[int, int, int], stride: Pair) -> list[list[float]]:
    """Offset of cell 0 and extent of a cell, along y and x each, from the middle of the map."""
    generator = torch.Generator().manual_seed(0)
    batch = max(1, _PIXELS // (shape[1] * shape[2]))
    inputs = random_inputs(min(_MIN_IMAGES * batch, _MAX_IMAGES), shape).to(*device_and_dtype(network))
    moments = [_gradient_moments(network, head, part, stride, generator) for part in torch.split(inputs, batch)]
    fields: list[list[float]] = torch.cat(moments, 2).nanmean(2).T.tolist()
    return fields


def _gradient_moments(
    network: nn.Module, head: Head, inputs: Tensor, stride: Pair, generator: torch.Generator
) -> Tensor:
    """Center and extent of the gradient of the evidence in the middle row and column, (2, 2, N), moved to cell 0.

    Every position has its own random mixture of all classes: many independent measurements in one pass.
    """
    inputs = inputs.clone().requires_grad_()
    _, features = forward(network, head.site, inputs, gradients=True)
    if not features.requires_grad:
        return torch.full((2, 2, len(inputs)), math.nan)
    mixtures = torch.randn(len(inputs), *features.shape[2:], head.classes, generator=generator)
    evidence = (features * (mixtures.to(head.weight) @ head.weight).permute(0, 3, 1, 2)).sum(1)
    moments = []
    for axis in (1, 2):
        middle = (evidence.shape[axis] - 1) // 2
        (gradient,) = torch.autograd.grad(evidence.select(axis, middle).sum(), inputs, retain_graph=True)
        size = gradient.cpu().double().abs()
        center, _ = _mean_and_deviation(size.sum((1, 4 - axis)))  # that of the energy is the same with more noise
        _, extent = _mean_and_deviation(size.square().sum((1, 4 - axis)))
        moments.append(torch.stack((center - stride[axis - 1] * middle, extent)))
    return torch.stack(moments)


def _mean_and_deviation(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (N,), of the positions 0, 1, ... under weights (N, n)."""
    positions = torch.arange(weights.shape[1]).to(weights)
    share = weights / weights.sum(1, keepdim=True)
    mean = share @ positions
    return mean, (share * (positions - mean[:, None]).square()).sum(1).sqrt()


# Position of kernel, stride, padding and dilation among the arguments.
_WINDOWS = {"conv2d": (None, 3, 4, 5), "max_pool2d": (1, 2, 3, 4), "avg_pool2d": (1, 2, 3, None)}
_NAMES = ("kernel_size", "stride", "padding", "dilation")


def arithmetic_grid(network: nn.Module, site: Site, input_shape: tuple[int, int, int]) -> Grid | None:
    """Follow kernels, strides and paddings from the input to the features; None if there are other operations."""
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    with eval_mode(network), track_modules(network) as stack:
        follower = _Follower(stack, site, inputs)
        with follower:
            network(inputs)
    return follower.grid


class _Follower(Probe):
    """Keeps the grid of every tensor with positions."""

    def __init__(self, stack: list[str], site: Site, inputs: Tensor) -> None:
        super().__init__(stack, len(inputs))
        self.site = site
        self.grid: Grid | None = None
        self.grids: dict[int, Grid | None] = {id(inputs): Grid((0.0, 0.0), (1.0, 1.0), "arithmetic")}
        self.tensors = [inputs]  # holds them, so that no id is used twice

    def _call(self, site: Site, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shapes = {id(tensor): tensor.shape[-2:] for tensor in _tensors_in(args)}
        out = super()._call(site, func, args, kwargs)
        if not isinstance(out, Tensor) or out.ndim != 4:
            return out
        if window := _window(site.operation, args, kwargs):
            before = self.grids.get(id(args[0]))
            grid = before and _windowed(before, window)
        else:
            same_size = (key for key, shape in shapes.items() if shape == out.shape[-2:] and self.grids.get(key))
            grid = self.grids.get(next(same_size, 0))
        self.grids[id(out)] = grid
        self.tensors.append(out)
        if site == self.site:
            self.grid = grid
        return out


def _tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors_in(part)] if isinstance(value, (tuple, list)) else []


def _window(operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[int, int, int, int]] | None:
    """Kernel, stride, padding and dilation along y and x; None if the operation has no window."""
    if operation == "pad":
        left, _, top = [*args[1], 0][:3]
        return [(1, 1, top, 1), (1, 1, left, 1)]
    if operation == "__getitem__" and isinstance(args[1], tuple) and len(args[1]) == 4:
        positions = args[1][2:]
        if all(isinstance(part, slice) for part in positions):
            return [(1, part.step or 1, -(part.start or 0), 1) for part in positions]
    if operation not in _WINDOWS:
        return None
    kernel, stride, padding, dilation = (
        args[position] if position is not None and len(args) > position else kwargs.get(name)
        for position, name in zip(_WINDOWS[operation], _NAMES, strict=True)
    )
    if operation == "conv2d":
        kernel, stride = tuple(args[1].shape[-2:]), stride or 1
    window = []
    for axis in (0, 1):
        k, s, d = _along(kernel, axis), _along(stride or kernel, axis), _along(dilation or 1, axis)
        p = d * (k - 1) // 2 if padding == "same" else 0 if padding in (None, "valid") else _along(padding, axis)
        window.append((k, s, p, d))
    return window


def _along(value: Any, axis: int) -> int:
    return int(value if isinstance(value, int) else value[axis] if len(value) > 1 else value[0])


def _windowed(grid: Grid, window: list[tuple[int, int, int, int]]) -> Grid:
    """The center of a window is at offset + ((k - 1) d / 2 - p) stride; its cells are s strides apart."""
    offset = [grid.offset[axis] + ((k - 1) * d / 2 - p) * grid.stride[axis] for axis, (k, _, p, d) in enumerate(window)]
    stride = [grid.stride[axis] * s for axis, (_, s, _, _) in enumerate(window)]
    return Grid((offset[0], offset[1]), (stride[0], stride[1]), grid.method)
