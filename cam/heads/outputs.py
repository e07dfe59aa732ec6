"""What networks are wrapped in, and where the class scores are in what they return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass

import torch
from torch import Tensor, nn

from cam.errors import ModelError, UsageError

# What a Hugging Face network without a classifier returns, in at least so many dimensions: PP-LCNet's are its scores.
_FEATURES: dict[object, int] = {"pooler_output": 2, "last_hidden_state": 3}


def find_logits(output: object, batch: int) -> Tensor:
    """Find the class scores (N, C) in what a network returns for a batch: a tensor, tuple, mapping or dataclass.

    Those named "logits" come first, then those named "out"; the probabilities of another do not count. (N,) counts as
    one class, or as the classes of one image whose dimension was squeezed away, and (N, C, 1, 1) as (N, C).

    Raises a ModelError if there are none, or several: two tasks, or features next to the scores, may have one shape.
    """
    tensors = list(_named_tensors(output))
    possible = [(name, tensor) for name, tensor in tensors if tensor.ndim < _FEATURES.get(name, math.inf)]
    rows = [(name, _as_rows(tensor, batch)) for name, tensor in possible]
    scores = [(name, row) for name, row in rows if row is not None]
    for best in ("logits", "out"):
        scores = [(name, tensor) for name, tensor in scores if name == best] or scores
    if len(scores) > 1:
        others = [tensor for _, tensor in scores]
        scores = [(name, tensor) for name, tensor in scores if not _is_probability(tensor, others)] or scores
    if scores and all(tensor.equal(scores[0][1]) for _, tensor in scores[1:]):
        return scores[0][1]
    found = _listed(tensors) or type(output).__name__
    choose = "Choose one by name or index with --output (output= of cam.wrap)" if scores else "Return the logits alone"
    raise ModelError(
        f"The network returns {found}, not class scores of shape (N, classes) alone",
        f'{choose}, or let it return them in a dictionary under the name "logits"',
    )


class SelectedOutput(nn.Module):
    """A network that returns one of its outputs: the tensor of a name, or else with an index among all tensors."""

    def __init__(self, network: nn.Module, output: str | int) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the network; UsageError if it has no such output, or several."""
        tensors = list(_named_tensors(self.network(inputs)))
        chosen = [tensor for name, tensor in tensors if name is not None and str(name) == str(self.output)]
        if not chosen:
            chosen = [tensor for index, (_, tensor) in enumerate(tensors) if str(index) == str(self.output)]
        if len(chosen) == 1:
            return chosen[0]
        problem = f"--output {self.output} names {len(chosen) or 'none'} of the network's outputs: {_listed(tensors)}"
        raise UsageError(problem, "Give the name or the index of one of them")

    def extra_repr(self) -> str:
        """Show the output, also in the name of a cache entry."""
        return f"output={self.output!r}"


def _listed(tensors: Sequence[tuple[object, Tensor]]) -> str:
    names = ("" if name is None else f" {name!r}" for name, _ in tensors)
    shapes = (tuple(tensor.shape) for _, tensor in tensors)
    return ", ".join(f"{index}{name} {shape}" for index, (name, shape) in enumerate(zip(names, shapes, strict=True)))


def _as_rows(tensor: Tensor, batch: int) -> Tensor | None:
    """One number, or one row of numbers, for each image, as (N, C); None if it has others."""
    if not tensor.is_floating_point() or math.prod(tensor.shape[2:]) != 1 or 0 in tensor.shape:
        return None
    if tensor.ndim > 1:
        return tensor.flatten(1) if tensor.shape[0] == batch else None
    return tensor.reshape(batch, -1) if batch in (1, tensor.numel()) else None


def _is_probability(scores: Tensor, others: Sequence[Tensor]) -> bool:
    """True if scores (N, C) are the probabilities, or their logarithms, of other scores, or alone add up to 1."""
    scores = scores.detach()
    for other in (other.detach() for other in others if other.shape == scores.shape):
        for activation in (other.softmax(1), other.sigmoid(), other.log_softmax(1)):
            if torch.allclose(scores, activation, rtol=1e-3, atol=1e-6) and not torch.allclose(scores, other):
                return True
        if _adds_up_to_1(scores) and not _adds_up_to_1(other):
            return True
    return False


def _adds_up_to_1(scores: Tensor) -> bool:
    sums = scores.sum(1)
    return scores.shape[1] > 1 and bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), rtol=1e-3)


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
