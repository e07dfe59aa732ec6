"""Watch every call a network makes, put another tensor in the place of a result, and hold scales constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cam.heads.head import Site
from cam.heads.hooks import operation_name

Call = Callable[..., Any]


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    deviation = torch.sqrt(x.var(dims, unbiased=False, keepdim=True) + eps)
    return (x - x.mean(dims, keepdim=True)) / deviation.detach()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else torch.add(x, bias)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return _affine(_standardize(x, tuple(range(-len(shape), 0)), eps), weight, bias)


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    mean_square = x.square().mean(tuple(range(-len(shape), 0)), keepdim=True)
    return _affine(x / torch.sqrt(mean_square + eps).detach(), weight, None)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    grouped = x.reshape(len(x), groups, -1, *x.shape[2:])
    out = _standardize(grouped, tuple(range(2, grouped.ndim)), eps).flatten(1, 2)
    per_channel = [None if p is None else p.view(-1, *[1] * (x.ndim - 2)) for p in (weight, bias)]
    return _affine(out, *per_channel)


def _normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, p, dim, keepdim=True)
    return x / norm.clamp_min(eps).detach()


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    return (_normalize(x1, dim=dim, eps=eps) * _normalize(x2, dim=dim, eps=eps)).sum(dim)


# Normalizations with the division by the scale held constant; the subtraction of a mean is linear and stays.
_NORMALISATIONS: dict[Call, Call] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.normalize: _normalize,
    F.cosine_similarity: _cosine_similarity,
}

# How a normalization written by hand applies its scale.
_SCALINGS = {"div", "div_", "mul", "mul_", "true_divide"}


def _hold(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the call, with the scale of a normalization taken for a constant of the picture."""
    name = operation_name(func)
    if name in _SCALINGS and len(args) == 2 and all(isinstance(arg, Tensor) for arg in args):
        x, y = args
        if _is_scale(y, x):
            return func(x, y.detach(), **kwargs)
        if name == "mul" and _is_scale(x, y):
            return func(x.detach(), y, **kwargs)
    return _NORMALISATIONS.get(func, func)(*args, **kwargs)


def _is_scale(scale: Tensor, x: Tensor) -> bool:
    """Whether one tensor holds one number a picture for another, perhaps expanded: a gate for each channel does not."""
    one_each = all(size == 1 or step == 0 for size, step in zip(scale.shape[1:], scale.stride()[1:], strict=True))
    return scale.ndim > 0 and x.ndim > 0 and one_each and scale.shape[0] == x.shape[0] < x.numel()


# Calls that take nearly all of a network's time.
_COSTLY = {"conv2d", "linear", "matmul", "bmm", "scaled_dot_product_attention", "conv3d", "conv_transpose2d"}


class Probe(TorchFunctionMode):
    """See every call of one forward pass, the functional ones too.

    Args:
        stack: names of the modules that are running, kept by `watching`.
        batch: number of inputs; only results with that many rows are of interest.
        inject: site and tensor that takes the place of that call's result.
        hold: whether to hold the scales of normalizations constant.
        shapes: what an earlier pass recorded. Up to the injected site costly calls then return random numbers of
            their shape: the head must be what it is whatever the layers before it say, so they need not be run.

    Attributes:
        calls: site and shape of the result of every call that could be the features, in order.
        shapes: shape of the result of every costly call.
        injected: whether the call to inject at was made.
    """

    def __init__(
        self,
        stack: list[str],
        batch: int,
        inject: tuple[Site, Tensor] | None = None,
        hold: bool = False,
        shapes: Mapping[Site, torch.Size] | None = None,
    ) -> None:
        super().__init__()
        self.stack, self.batch, self.inject, self.hold = stack, batch, inject, hold
        self.skipped = shapes or {}
        self.seen: Counter[tuple[str, str]] = Counter()
        self.calls: list[tuple[Site, torch.Size]] = []
        self.shapes: dict[Site, torch.Size] = {}
        self.injected = False
        self.generator = torch.Generator().manual_seed(3)

    def __torch_function__(
        self, func: Call, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch._C._set_grad_enabled:
            return None  # a no_grad block inside the network would hide the head from autograd
        # So would inference_mode. Autograd's own copies survive calls in place and stand above those of checkpointing.
        with torch.inference_mode(False), saved_tensors_hooks(torch.clone, lambda copy: copy):
            return self._watch(func, args, kwargs or {})

    def _watch(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        site = self._count(operation_name(func))
        out = self._call(site, func, args, kwargs)
        if not isinstance(out, Tensor):
            return out
        if site.operation in _COSTLY:
            self.shapes[site] = out.shape
        if self.inject and self.inject[0] == site:
            self.injected = True
            out = _replace(out, self.inject[1], args)
        if _could_be_features(out, self.batch):
            self.calls.append((site, out.shape))
        return out

    def _count(self, operation: str) -> Site:
        site = Site(self.stack[-1], operation, self.seen[self.stack[-1], operation])
        for layer in set(self.stack):
            self.seen[layer, operation] += 1
        return site

    def _call(self, site: Site, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if site in self.skipped and not self.injected:
            like = next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
            return torch.randn(self.skipped[site], generator=self.generator).to(like)
        return _hold(func, args, kwargs) if self.hold else func(*args, **kwargs)


def _could_be_features(out: Tensor, batch: int) -> bool:
    """Whether a result has one row an input, channels, and more than one place."""
    return (
        out.is_floating_point()
        and out.ndim in (3, 4)
        and out.shape[0] == batch
        and sum(size > 1 for size in out.shape[1:]) >= 2
    )


def _replace(out: Tensor, other: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Put another tensor in the place of a result, also where the caller keeps its own argument (in-place calls)."""
    other = other.to(out.dtype)
    if any(out is argument for argument in args):
        return out.copy_(other)
    return other.clone()


@contextmanager
def watching(network: nn.Module) -> Iterator[list[str]]:
    """Keep the names of the modules that are running, innermost last; the hooks are gone afterwards."""
    stack = [""]
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
            handles.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()
