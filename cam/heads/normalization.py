"""Normalizations with their scale held constant: what is left of them is linear.

Each takes `hold`, which gets the divisor of a call and returns what to divide by: the same without a gradient, or that
of another run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Call: TypeAlias = Callable[..., Any]
Hold: TypeAlias = Callable[[Tensor], Tensor]


def _layer_norm(
    x: Tensor,
    shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    hold: Hold,
) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    deviation = torch.sqrt(x.var(dims, unbiased=False, keepdim=True) + eps)
    out = (x - x.mean(dims, keepdim=True)) / hold(deviation)
    out = out if weight is None else out * weight
    return out if bias is None else torch.add(out, bias)


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    hold: Hold,
) -> Tensor:
    grouped = x.reshape(len(x), groups, -1)
    out = _layer_norm(grouped, [grouped.shape[2]], eps=eps, hold=hold).view_as(x)
    weight, bias = (p if p is None else p.view(-1, *[1] * (x.ndim - 2)) for p in (weight, bias))
    out = out if weight is None else out * weight
    return out if bias is None else torch.add(out, bias)


def _rms_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None, *, hold: Hold
) -> Tensor:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    mean_square = x.square().mean(tuple(range(-len(shape), 0)), keepdim=True)
    out = x / hold(torch.sqrt(mean_square + eps))
    return out if weight is None else out * weight


def _normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None, *, hold: Hold) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, p, dim, keepdim=True)
    return x / hold(norm.clamp_min(eps))


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8, *, hold: Hold) -> Tensor:
    return (_normalize(x1, dim=dim, eps=eps, hold=hold) * _normalize(x2, dim=dim, eps=eps, hold=hold)).sum(dim)


# By the function of torch that a network calls; the subtraction of a mean is linear and stays.
HELD: dict[Call, Call] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.rms_norm: _rms_norm,
    F.normalize: _normalize,
    F.cosine_similarity: _cosine_similarity,
}

# How a handwritten normalization applies its scale.
SCALINGS = {"div", "div_", "mul", "mul_", "true_divide"}


def hold_scale(operation: str, args: tuple[Any, ...], hold: Hold) -> tuple[Tensor, Tensor] | None:
    """Arguments of a call that applies a scale, with the scale as a constant of each image; None for other calls."""
    if operation in SCALINGS and len(args) == 2 and all(isinstance(arg, Tensor) for arg in args):
        x, y = args
        if _is_scale(y, x):
            return x, hold(y)
        if operation == "mul" and _is_scale(x, y):
            return hold(x), y
    return None


def _is_scale(scale: Tensor, x: Tensor) -> bool:
    """True if a tensor holds one number for each image of another, perhaps expanded; a gate for each channel is not."""
    one_each = all(size == 1 or step == 0 for size, step in zip(scale.shape[1:], scale.stride()[1:], strict=True))
    return scale.ndim > 0 and x.ndim > 0 and one_each and scale.shape[0] == x.shape[0] < x.numel()
