"""What networks are wrapped in, and where the class scores are in what they return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass

from torch import Tensor, nn

from cam.errors import ModelError


def find_logits(output: object) -> Tensor:
    """Find the class scores (N, C) in what a network returns: a tensor, tuple, mapping or dataclass.

    Those named "logits" come first, then those named "out". Without a name the first counts if all have the same
    shape, as the scores of auxiliary heads have. (N,) counts as one class, (N, C, 1, 1) as (N, C).
    """
    tensors = list(_named_tensors(output))
    scores = [
        (name, tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1))
        for name, tensor in tensors
        if tensor.is_floating_point() and tensor.ndim >= 1 and math.prod(tensor.shape[2:]) == 1
    ]
    for best in ("logits", "out"):
        scores = [(name, tensor) for name, tensor in scores if name == best] or scores
    if scores and all(tensor.shape == scores[0][1].shape for _, tensor in scores):
        return scores[0][1]
    raise ModelError(
        f"The network returns {[tuple(tensor.shape) for _, tensor in tensors] or type(output).__name__}, "
        "not class scores of shape (N, classes) alone",
        'Return the logits alone, or in a dictionary under the name "logits"',
    )


def _named_tensors(output: object, name: object = None) -> Iterator[tuple[object, Tensor]]:
    """Every tensor of an output, with its innermost name."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from _named_tensors(part, key)
    elif is_dataclass(output):
        yield from _named_tensors(vars(output))
    elif isinstance(output, tuple) and hasattr(output, "_asdict"):
        yield from _named_tensors(output._asdict())
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _named_tensors(part, name)


def unwrap(network: nn.Module) -> nn.Module:
    """Take a network out of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network
