"""Where the cells of a map lie by convolution arithmetic (Dumoulin and Visin 2016), where it can be derived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cam.features import Site, evaluating
from cam.geometry import Grid
from cam.probe import Probe, watching
from cam.twins import device_and_dtype, random_inputs

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
        Grid(start=(5.0, 5.0), jump=(4.0, 4.0), method='arithmetic', reach=(0.0, 0.0))
    """
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    with evaluating(network), watching(network) as stack:
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
    """The centre of a window: start + ((k - 1) d / 2 - p) jump; its cells lie s jumps apart."""
    start = [rule.start[axis] + ((k - 1) * d / 2 - p) * rule.jump[axis] for axis, (k, _, p, d) in enumerate(window)]
    jump = [rule.jump[axis] * s for axis, (_, s, _, _) in enumerate(window)]
    return Grid((start[0], start[1]), (jump[0], jump[1]), rule.method)


def _sliced(rule: Grid, index: tuple[Any, ...]) -> Grid | None:
    """Every s-th cell from the first that a slice takes."""
    slices = index[-2:]
    if len(index) != 4 or not all(isinstance(each, slice) for each in slices):
        return None
    first, step = [each.start or 0 for each in slices], [each.step or 1 for each in slices]
    start = [rule.start[axis] + first[axis] * rule.jump[axis] for axis in (0, 1)]
    jump = [rule.jump[axis] * step[axis] for axis in (0, 1)]
    return Grid((start[0], start[1]), (jump[0], jump[1]), rule.method)
