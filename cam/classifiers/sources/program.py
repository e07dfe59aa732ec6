"""Networks recorded as operations, as torch.export and TorchScript do, run one by one so that each call is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from cam.errors import ModelError
from cam.heads.copies import random_inputs
from cam.heads.hooks import eval_mode, operation_name
from cam.heads.outputs import find_logits
from cam.tensors import device_and_dtype, version_of

_FILES = {"from_file", "save"}  # operations that read or write files
_JOINED = "_cam_joined"  # attribute of the first of several tensors, with their rows in one
OPERATIONS = torch._ops.OpOverload, torch._ops.OpOverloadPacket
_SAME = 1e-4  # of the largest class score


@dataclass(frozen=True)
class Ref:
    """A value that an earlier operation returns, by its name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation: arguments with `Ref`, and names, or lists of names, for what it returns."""

    function: Callable[..., Any]
    args: Sequence[Any]
    outputs: Any
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    blocks: Sequence[Block] = ()  # of `branch` and `loop`

    def reads(self) -> Iterator[str]:
        """Names of the values that it needs, also inside its blocks."""
        inside = [
            (block.outputs, [Ref(name) for step in block.steps for name in step.reads()]) for block in self.blocks
        ]
        return (leaf.name for leaf in tree_leaves((self.args, self.kwargs, inside)) if isinstance(leaf, Ref))


@dataclass(frozen=True)
class Block:
    """Steps in order, the names of their inputs, and what they return."""

    inputs: Sequence[str]
    steps: Sequence[Step]
    outputs: Any


def branch(condition: bool) -> None:
    """Stand for a step that runs the first of its blocks if a condition is true, else the second."""


def loop(limit: int, condition: bool, *values: object) -> None:
    """Stand for a step that runs its block, which returns the next condition and values, while that is true."""


def unsupported(name: str) -> ModelError:
    """Say that a network has an operation that cannot be run."""
    problem = f"The network has the operation {name}, which is not supported"
    return ModelError(problem, "Give the Python network that it was made from, as file.py:callable")


def find_operation(full_name: str, overload: str = "") -> Callable[..., Any]:
    """Find an operation of torch, such as aten::add; ModelError if there is none, or if it reads or writes files."""
    namespace, _, name = full_name.partition("::")
    operations = getattr(torch.ops, namespace) if namespace in ("aten", "prim") else None
    if operations is None or name in _FILES or not hasattr(operations, name):
        raise unsupported(full_name)
    packet = getattr(operations, name)
    return _AS_WRITTEN.get(name) or (getattr(packet, overload) if overload else packet)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    return F.layer_norm(x, shape, weight, bias, eps)


def _group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Tensor:
    return F.group_norm(x, groups, weight, bias, eps)


# Normalizations as a network calls them, whose scale is then known.
_AS_WRITTEN: dict[str, Callable[..., Any]] = {
    "layer_norm": _layer_norm,
    "native_layer_norm": lambda *args: (_layer_norm(*args), None, None),
    "group_norm": _group_norm,
}


class Program(nn.Module):
    """A network of recorded operations.

    Attributes:
        shape: (N, channels, H, W) of the input that it was recorded with, None for a size that may differ.
        one_by_one: True if each operation takes one image. All images go through one operation before the next, so that
            who watches sees one call with them all.
    """

    def __init__(self, block: Block, constants: Mapping[str, Tensor], shape: Sequence[int | None] = ()) -> None:
        super().__init__()
        self.block, self.shape, self.one_by_one = block, tuple(shape), False
        self.names: dict[str, str] = {}
        for name, tensor in constants.items():
            self.names[name] = name.replace(".", "__") + "_"
            if tensor.is_floating_point():
                self.register_parameter(self.names[name], nn.Parameter(tensor.detach(), requires_grad=False))
            else:
                self.register_buffer(self.names[name], tensor.detach())
        self.last_reads: list[set[str]] = []  # by step: values that none after it reads
        used = {leaf.name for leaf in tree_leaves(block.outputs) if isinstance(leaf, Ref)}
        for step in reversed(block.steps):
            self.last_reads.insert(0, set(step.reads()) - used)
            used.update(step.reads())

    def forward(self, inputs: Tensor) -> Any:
        """Run the operations on (N, channels, H, W)."""
        images = list(torch.split(inputs, 1)) if self.one_by_one and len(inputs) > 1 else [inputs]
        constants = {name: getattr(self, attribute) for name, attribute in self.names.items()}
        run = _Run(device_and_dtype(self)[0], set(map(id, constants.values())), len(images))
        run.values = {name: [tensor] * len(images) for name, tensor in constants.items()}
        run.values[self.block.inputs[0]] = images
        for step, last_reads in zip(self.block.steps, self.last_reads, strict=True):
            run.step(step)
            for name in last_reads:
                run.values.pop(name, None)
        return run.join(run.resolve(self.block.outputs))

    def extra_repr(self) -> str:
        """Show the operations, also in the name of a cache entry."""
        return ", ".join(
            [f"one_by_one={self.one_by_one}", *(operation_name(step.function) for step in self.block.steps)]
        )


@dataclass
class _Run:
    """One pass, operation by operation: values by name, one for each part of the batch, which is one image or all."""

    device: torch.device
    constants: set[int]  # ids of the tensors that all parts share
    parts: int
    values: dict[str, list[Any]] = field(default_factory=dict)

    def step(self, step: Step) -> None:
        """Run a step and name its results."""
        calls = self.resolve((step.args, step.kwargs))
        if step.function is branch:
            results = self._run(step.blocks[0 if calls[0][0][0] else 1])
        elif step.function is loop:
            results = self._loop(step.blocks[0], [args for args, _ in calls])
        else:
            results = self._call(step.function, calls)
        self._bind(step.outputs, results)

    def resolve(self, leaves: Any) -> list[Any]:
        """Replace every `Ref` by its value, for each part."""

        def value(leaf: Any, part: int) -> Any:
            if isinstance(leaf, torch.device):  # that of the recording
                return self.device
            return self.values[leaf.name][part] if isinstance(leaf, Ref) else leaf

        return [tree_map(partial(value, part=part), leaves) for part in range(self.parts)]

    def _bind(self, names: Any, results: list[Any]) -> None:
        if isinstance(names, str):
            self.values[names] = results
        elif names:
            for name, parts in zip(names, zip(*results, strict=True), strict=True):
                self._bind(name, list(parts))

    def _run(self, block: Block) -> list[Any]:
        for step in block.steps:
            self.step(step)
        return self.resolve(block.outputs)

    def _loop(self, block: Block, calls: Sequence[Sequence[Any]]) -> list[Any]:
        index, limit = 0, calls[0][0]
        values = [args[1:] for args in calls]
        while index < limit and values[0][0]:
            self._bind(block.inputs, [(index, *rest) for _, *rest in values])
            values, index = self._run(block), index + 1
        return [rest for _, *rest in values]

    def _call(self, function: Callable[..., Any], calls: Sequence[Any]) -> list[Any]:
        """Run an operation on all parts; who watches sees one call with all images, and may replace its tensors."""
        tensors = [leaf for leaf in tree_leaves(calls[0]) if isinstance(leaf, Tensor)]
        is_plain = function in _AS_WRITTEN.values()
        if self.parts == 1 or not (is_plain or isinstance(function, OPERATIONS)) or not has_torch_function(tensors):
            return [function(*args, **kwargs) for args, kwargs in calls]
        columns, spec = list(zip(*map(tree_leaves, calls), strict=True)), tree_structure(calls[0])
        joined = [self._rows(column) for column in columns]
        args, kwargs = tree_unflatten(joined, spec)
        if is_plain:  # for any number of images
            return self._split(function(*args, **kwargs))
        results: list[Any] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            given = zip(tree_leaves((args, kwargs)), joined, columns, strict=True)
            new_columns = [column if new is old else self._split(new) for new, old, column in given]
            for leaves in zip(*new_columns, strict=True):
                part_args, part_kwargs = tree_unflatten(leaves, spec)
                results.append(function(*part_args, **part_kwargs))
            return self.join(results)

        call.__name__ = operation_name(function)
        result = handle_torch_function(call, tensors, *args, **kwargs)
        if results and (not isinstance(result, Tensor) or _is_view(results[0], tensors)):
            return results  # what is written into a view must reach what it shows
        return self._split(result)

    def join(self, parts: Sequence[Any]) -> Any:
        """Join what the parts have of a value: the rows of tensors, else that of the first."""
        leaves = [self._rows(column) for column in zip(*map(tree_leaves, parts), strict=True)]
        return tree_unflatten(leaves, tree_structure(parts[0]))

    def _rows(self, column: Sequence[Any]) -> Any:
        if self.parts == 1 or not isinstance(column[0], Tensor) or id(column[0]) in self.constants:
            return column[0]
        known, versions = vars(column[0]).get(_JOINED, (None, None))
        if versions == [version_of(part) for part in column]:
            return known
        return _stand_for(column, torch.cat([part if part.ndim else part[None] for part in column]))

    def _split(self, value: Any) -> list[Any]:
        if isinstance(value, tuple):
            return list(zip(*map(self._split, value), strict=True))
        if not isinstance(value, Tensor):
            return [value] * self.parts
        parts = list(torch.split(value, len(value) // self.parts))
        _stand_for(parts, value)
        return parts


def _stand_for(parts: Sequence[Tensor], joined: Tensor) -> Tensor:
    """Let one tensor stand for parts each time, so that it is known, until something writes into them."""
    vars(parts[0])[_JOINED] = joined, [version_of(part) for part in parts]
    return joined


def _is_view(result: Any, tensors: Sequence[Tensor]) -> bool:
    if not isinstance(result, Tensor) or any(result is tensor for tensor in tensors):
        return False
    return any(result.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() for tensor in tensors)


def find_batch(network: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """Find out whether a program runs any number of images at once, or must take them one by one; then say so.

    Many that were recorded with one number run any other. Raises ModelError if one needs several images.
    """
    modules = network.modules() if isinstance(network, nn.Module) else ()
    program = next((module for module in modules if isinstance(module, Program)), None)
    if program is None:
        return ""
    recorded = program.shape[0] if program.shape else None
    images = random_inputs(3, input_shape).to(*device_and_dtype(program))
    copies = [image.repeat(recorded or 1, 1, 1, 1) for image in images]
    with eval_mode(program):
        together = _logits(program, images)
        if recorded is None and together is not None:
            return ""
        alone = [_logits(program, part) for part in copies]
    known = [logits[:1] for logits in alone if logits is not None]
    if len(known) < 3 or _is_same(together, torch.cat(known)):  # or it does not run on this size
        return ""
    if len(copies[0]) > 1:
        problem = f"The network was recorded with {recorded} images, and runs with that number only"
        raise ModelError(problem, "Record it with one image, or with dynamic_shapes for any number")
    program.one_by_one = True
    return "batch: one image at a time, as the network was recorded"


def _logits(program: Program, images: Tensor) -> Tensor | None:
    try:
        return find_logits(program(images), len(images))
    except Exception:  # whatever recorded operations raise
        return None


def _is_same(one: Tensor | None, other: Tensor) -> bool:
    return (
        one is not None
        and one.shape == other.shape
        and float((one - other).abs().max()) <= _SAME * float(other.abs().max())
    )
