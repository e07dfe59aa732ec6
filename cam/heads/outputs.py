"""What networks are wrapped in, and where the class scores are in what they return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor, nn

from cam.errors import ModelError


def find_logits(output: object) -> Tensor:
    """Find the class scores (N, C) in whatever a network returns: a tensor, tuple, mapping or dataclass.

    Those named "logits" come first, then those named "out"; without a name the first counts if all have one shape, as
    the scores of auxiliary heads have. (N,) counts as one class, (N, C, 1, 1) as (N, C).

    Raises:
        ModelError: nothing in the output has the shape of class scores, or nothing tells which of several they are.

    Example:
        >>> import torch
        >>> find_logits({"embedding": torch.zeros(2, 512), "logits": torch.zeros(2, 10)}).shape
        torch.Size([2, 10])
    """
    candidates = _score_tensors(output)
    shapes = [tuple(each.shape) for each in candidates]
    if candidates and all(shape == shapes[0] for shape in shapes):
        return candidates[0]
    if candidates:
        raise ModelError(
            f"The network returns tensors of the shapes {shapes}, and nothing tells which are the class scores",
            'Let it return the logits alone, or in a dictionary under the name "logits"',
        )
    found = [tuple(tensor.shape) for _, tensor in _tensors(output)] or type(output).__name__
    raise ModelError(
        f"The network's output {found} holds no class scores of shape (N, classes)",
        "Wrap the network so that its forward pass returns the logits of a classifier",
    )


def _score_tensors(output: object) -> list[Tensor]:
    """The tensors of an output that have the shape of class scores, as (N, C); those with the best name only."""
    scores = [
        (name, tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1))
        for name, tensor in _tensors(output)
        if tensor.is_floating_point() and tensor.ndim >= 1 and math.prod(tensor.shape[2:]) == 1
    ]
    named = ([tensor for name, tensor in scores if name == wanted] for wanted in ("logits", "out"))
    return next(filter(None, named), [tensor for _, tensor in scores])


def _tensors(output: object, name: object = None) -> Iterator[tuple[object, Tensor]]:
    """Every tensor of an output, with the innermost name it goes by."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from _tensors(part, key)
    elif is_dataclass(output):
        yield from _tensors({field.name: getattr(output, field.name) for field in fields(output)})
    elif isinstance(output, tuple) and hasattr(output, "_asdict"):
        yield from _tensors(output._asdict())
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part, name)


def unwrap(network: nn.Module) -> nn.Module:
    """Take a network out of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    Example:
        >>> unwrap(nn.DataParallel(nn.Linear(2, 3))).out_features
        3
    """
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network
