"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training bends both, because a
padded network learns to make its grid cover the picture. So the distance between cells is taken from how the grid
grows with the input, and where a cell looks from the effective receptive field of the middle cells (Luo et al. 2016).
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
from cam.heads.probe import Probe, watching
from cam.maps.geometry import Grid, Pair, Size, stretched
from cam.tensors import device_and_dtype

_FEWEST, _MOST = 8, 32  # random pictures; more where they are small

_PIXELS = 2**18  # of them at once

_WIDE = 4  # sides of the model's own input that the grid is counted over

_MIDDLE, _ACROSS = 2, 12  # sides and cells, at least, of the input that the border cuts nothing off in the middle of


@torch.inference_mode(False)  # gradients also where the caller has switched them off
def measure_receptive_field(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> Grid:
    """Measure the rule that takes a cell to the center of its evidence.

    Args:
        network: a classifier, not wrapped.
        head: its head.
        input_shape: (channels, H, W) that it was made for.

    Returns:
        The measured rule; the stretched one where the network takes one size only or passes no gradient, or where
        what was found would put cells half the input and more outside it.

    Example:
        >>> from cam.heads.find import find_head
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> grid = measure_receptive_field(network, find_head(network, (3, 32, 32)).exact(), (3, 32, 32))
        >>> grid.stride, grid.method
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
        stride = _stride(added[0], wide[0] - cells[0]), _stride(added[1], wide[1] - cells[1])
        sides = max(_MIDDLE, math.ceil(_ACROSS * max(stride[0] / height, stride[1] / width)))
        (offset_y, extent_y), (offset_x, extent_x) = _fields(network, head, _larger(input_shape, sides), stride)
    except (CamError, RuntimeError, AssertionError, ValueError):  # the network takes one size only
        return fallback
    grid = Grid((offset_y, offset_x), stride, "measured", (extent_y, extent_x))
    return grid if _sane(grid, cells, (height, width)) else fallback


def _larger(shape: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    return shape[0], factor * shape[1], factor * shape[2]


def _cells(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Size:
    _, features = forward(network, head.site, random_inputs(1, shape).to(*device_and_dtype(network)))
    height, width = features.shape[2:]
    return height, width


def _stride(added: int, added_cells: int) -> float:
    """Pixels a cell: a power of two, or else a whole number, where the rounding of sizes leaves room for it."""
    stride = added / added_cells
    for round_number in (2.0 ** round(math.log2(stride)), float(round(stride))):
        if round_number and abs(added / round_number - added_cells) < 1:
            return round_number
    return stride


def _fields(network: nn.Module, head: Head, shape: tuple[int, int, int], stride: Pair) -> list[Pair]:
    """Along each axis, the middle of what cell 0 sees and how far a cell reaches, from the middle of the map."""
    generator = torch.Generator().manual_seed(0)
    at_once = max(1, _PIXELS // (shape[1] * shape[2]))
    inputs = random_inputs(min(_FEWEST * at_once, _MOST), shape).to(*device_and_dtype(network))
    found = [_field(network, head, some, stride, generator) for some in torch.split(inputs, at_once)]
    fields = []
    for values in torch.cat(found, 2):  # (axis, offset and extent, N)
        offset, extent = (each[each.isfinite()].mean() for each in values)
        fields.append((float(offset), float(extent)))
    return fields


def _field(network: nn.Module, head: Head, inputs: Tensor, stride: Pair, generator: torch.Generator) -> Tensor:
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
        center, _ = _moments(size.sum((1, 4 - axis)))  # that of the energy is the same with more noise
        _, extent = _moments(size.square().sum((1, 4 - axis)))
        found.append(torch.stack((center - stride[axis - 1] * middle, extent)))
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
        -size / 2 <= offset <= offset + stride * (count - 1) <= 1.5 * size and extent >= 0
        for offset, stride, count, size, extent in zip(
            grid.offset, grid.stride, cells, input_size, grid.extent, strict=True
        )
    )


# Position of kernel, stride, padding and dilation among the arguments.
_WINDOWS = {"conv2d": (None, 3, 4, 5), "max_pool2d": (1, 2, 3, 4), "avg_pool2d": (1, 2, 3, None)}

_NAMES = ("kernel_size", "stride", "padding", "dilation")


def arithmetic_grid(network: nn.Module, site: Site, input_shape: tuple[int, int, int]) -> Grid | None:
    """Follow kernels, strides and paddings from the input to the features.

    Args:
        network: a classifier, not wrapped.
        site: where its features are.
        input_shape: (channels, H, W).

    Returns:
        The rule; None where something else than windows lies on the way, such as windows of tokens.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 7, 2), nn.MaxPool2d(3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> arithmetic_grid(network, Site("2", "relu", 0), (3, 32, 32))
        Grid(offset=(5.0, 5.0), stride=(4.0, 4.0), method='arithmetic', extent=(0.0, 0.0))
    """
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    with eval_mode(network), watching(network) as stack:
        follower = _Follower(stack, site, inputs)
        with follower:
            network(inputs)
    return follower.found


class _Follower(Probe):
    """Keep for every tensor with places the rule that takes its cells to the input."""

    def __init__(self, stack: list[str], site: Site, inputs: Tensor) -> None:
        super().__init__(stack, len(inputs))
        self.wanted = (site.layer, site.operation, site.occurrence)
        self.found: Grid | None = None
        self.rules = {id(inputs): Grid((0.0, 0.0), (1.0, 1.0), "arithmetic")}
        self.kept = [inputs]  # so that no identity is given twice

    def _call(self, site: Site, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shapes = {id(each): tuple(each.shape[-2:]) for each in _tensors_in(args)}
        out = super()._call(site, func, args, kwargs)
        if isinstance(out, Tensor) and out.ndim == 4:
            rule = self._rule(site.operation, out, args, kwargs, shapes)
            if rule is not None:
                self.rules[id(out)] = rule
            self.kept.append(out)
            if (site.layer, site.operation, site.occurrence) == self.wanted:
                self.found = rule
        return out

    def _rule(
        self, operation: str, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: dict[int, Any]
    ) -> Grid | None:
        if operation in _WINDOWS:
            rule = self.rules.get(id(args[0]))
            return rule and _windowed(rule, _window(operation, args, kwargs))
        if operation == "__getitem__" and isinstance(args[1], tuple):
            rule = self.rules.get(id(args[0]))
            return rule and _sliced(rule, args[1])
        if operation == "pad" and (rule := self.rules.get(id(args[0]))):
            left, top = ([*args[1], 0, 0, 0][index] for index in (0, 2))
            return _windowed(rule, [(1, 1, top, 1), (1, 1, left, 1)])
        alike = [key for key, shape in shapes.items() if shape == tuple(out.shape[-2:]) and key in self.rules]
        return self.rules[alike[0]] if alike else None


def _tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [each for part in value for each in _tensors_in(part)] if isinstance(value, (tuple, list)) else []


def _window(operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, padding and dilation along y and x."""
    found: list[Any] = []
    for position, name in zip(_WINDOWS[operation], _NAMES, strict=True):
        given = args[position] if position is not None and len(args) > position else kwargs.get(name)
        found.append(given)
    kernel = tuple(args[1].shape[-2:]) if operation == "conv2d" else found[0]
    stride = found[1] or (1 if operation == "conv2d" else kernel)
    dilation = found[3] or 1
    window = []
    for axis in (0, 1):
        k, s, d = _along(kernel, axis), _along(stride, axis), _along(dilation, axis)
        padding = (
            d * (k - 1) // 2 if found[2] == "same" else 0 if found[2] in (None, "valid") else _along(found[2], axis)
        )
        window.append((k, s, padding, d))
    return window


def _along(value: Any, axis: int) -> int:
    return int(value if isinstance(value, int) else value[axis] if len(value) > 1 else value[0])


def _windowed(rule: Grid, window: list[tuple[int, int, int, int]]) -> Grid:
    """The center of a window: offset + ((k - 1) d / 2 - p) stride; its cells lie s strides apart."""
    offset = [rule.offset[axis] + ((k - 1) * d / 2 - p) * rule.stride[axis] for axis, (k, _, p, d) in enumerate(window)]
    stride = [rule.stride[axis] * s for axis, (_, s, _, _) in enumerate(window)]
    return Grid((offset[0], offset[1]), (stride[0], stride[1]), rule.method)


def _sliced(rule: Grid, index: tuple[Any, ...]) -> Grid | None:
    """Every s-th cell from the first that a slice takes."""
    slices = index[-2:]
    if len(index) != 4 or not all(isinstance(each, slice) for each in slices):
        return None
    first, step = [each.start or 0 for each in slices], [each.step or 1 for each in slices]
    offset = [rule.offset[axis] + first[axis] * rule.stride[axis] for axis in (0, 1)]
    stride = [rule.stride[axis] * step[axis] for axis in (0, 1)]
    return Grid((offset[0], offset[1]), (stride[0], stride[1]), rule.method)
