"""A network's forward pass as a list of calls, of which the last can be run again: from features to logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from cam.heads.head import Site
from cam.heads.hooks import operation_name, uncompiled
from cam.heads.normalization import HELD, SCALINGS, Hold, hold_scale
from cam.heads.outputs import find_logits
from cam.heads.probe import CallCounter, track_modules
from cam.tensors import version_of

# Calls that take no numbers from their other tensors, only size and type; likewise `new_zeros`, `zeros_like`, ...
_AS_FIRST = {"to", "type_as", "expand_as", "view_as", "reshape_as"}
# Calls whose results a handwritten normalization divides by, and those that leave them what they are.
_ROOTS = {"sqrt", "sqrt_", "rsqrt", "rsqrt_", "std", "norm", "linalg_vector_norm", "linalg_norm"}
_KEEP_ROOTS = {"add", "add_", "clamp", "clamp_", "clamp_min", "maximum", "reciprocal", "__rdiv__"}
_KEEP_ROOTS |= {"unsqueeze", "view", "reshape", "expand"}
_MAX_FEATURES = 2**20  # numbers of the rows in one run, or those of all their calls
_MAX_NUMBERS = 2**24
_slot = "_cam_slot"  # attribute of tensors that depend on the input: the number of the recording, and their own
_recordings = count()


@dataclass(frozen=True)
class Slot:
    """Stands for a tensor that depends on the input, numbered in the order in which they are made."""

    number: int


@dataclass(frozen=True)
class Fresh:
    """A constant that a call writes into; each run takes a copy."""

    tensor: Tensor


@dataclass(frozen=True)
class Step:
    """One call: its arguments, flattened, with a `Slot` for each tensor that depends on the input."""

    site: Site
    function: Callable[..., Any]
    leaves: Sequence[Any]
    spec: TreeSpec
    results: Sequence[int | None]  # slots of what it returns, flattened; None where that is no tensor
    written: Sequence[tuple[int, int]]  # which leaves it writes into without returning them, and their new slots
    writes: bool  # True if it writes into any
    scale: int | None = None  # which leaf is what a handwritten normalization divides by

    @property
    def reads(self) -> list[int]:
        """Numbers of the slots that it needs."""
        return [leaf.number for leaf in self.leaves if isinstance(leaf, Slot)]

    @property
    def makes(self) -> list[int]:
        """Numbers of the slots that it makes."""
        return [slot for slot in (*self.results, *(slot for _, slot in self.written)) if slot is not None]


@dataclass(frozen=True)
class Tape:
    """Calls that turn one tensor into the logits, for one image.

    Recorded with a batch of one. What Python computes in between, such as sizes, is part of the calls as it was.
    """

    start: int
    steps: Sequence[Step]
    end: int | None  # None if the logits do not seem to depend on the input
    shapes: dict[int, torch.Size] = field(repr=False)  # of the tensors, by slot

    def __call__(self, features: Tensor, hold: Hold | None = None) -> Tensor:
        """Run the calls on the tensor of one image, (1, ...): logits (1, C).

        `hold` gets the divisor of each normalization, and returns what to divide by.
        """
        return self.values(features, hold)[cast(int, self.end)]

    def values(
        self, features: Tensor, hold: Hold | None = None, global_values: Mapping[int, Tensor] | None = None
    ) -> dict[int, Tensor]:
        """Run the calls, and return the tensor of each slot.

        With `global_values` of another run, tensors without positions, such as a gate, are those of that run.
        """
        values = {self.start: features.clone()}  # which the calls may write into
        for step in self.steps:
            leaves = [_value(leaf, values) for leaf in step.leaves]
            args, kwargs = tree_unflatten(leaves, step.spec)
            out = _call(step, args, kwargs, hold)
            for slot, result in zip(step.results, tree_leaves(out), strict=True):
                if slot is not None:
                    values[slot] = result
            values.update({slot: leaves[index] for index, slot in step.written})
            if global_values is not None:
                alone = (slot for slot in step.makes if math.prod(self.shapes[slot][2:]) == 1)
                values.update({slot: global_values[slot] for slot in alone})
        return values

    def rows(self, features: Tensor, scales: Sequence[Tensor] = ()) -> Tensor:
        """Run the calls on many rows (n, ...) at once: logits (n, C).

        Normalizations divide by `scales`, (n, ...) each, if they are given.
        """

        def run(row: Tensor, *held: Tensor) -> tuple[Tensor]:
            remaining = iter(held)
            return (self(row[None], (lambda divisor: next(remaining)) if held else None)[0],)

        return self._batched(run, features, *scales)[0]

    def scales(self, features: Tensor) -> Sequence[Tensor]:
        """What each normalization divides by in N images with features (N, ...): each (N, ...)."""

        def run(row: Tensor) -> tuple[Tensor, ...]:
            kept: list[Tensor] = []

            def keep(divisor: Tensor) -> Tensor:
                kept.append(divisor)
                return divisor

            return self(row[None], keep), *kept

        with torch.no_grad():
            return self._batched(run, features)[1:]

    def _batched(self, run: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run a function of one row of each tensor on all rows, and stack what it returns."""
        # Attention cannot be batched, and takes as long for each row; other calls that cannot raise an error.
        if len(tensors[0]) > 1 and not any("attention" in step.site.operation for step in self.steps):
            try:
                found: tuple[Tensor, ...] = torch.func.vmap(run)(*tensors)
                return found
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                pass
        return tuple(torch.stack(rows) for rows in zip(*map(run, *tensors), strict=True))

    @property
    def rows_in_one_run(self) -> int:
        """How many rows to run at once, so that memory is bounded."""
        numbers = sum(math.prod(self.shapes[slot]) for step in self.steps for slot in step.makes)
        return max(1, _MAX_FEATURES // math.prod(self.shapes[self.start]), _MAX_NUMBERS // max(1, numbers))

    def cuts(self) -> Iterator[tuple[Site, int]]:
        """Tensors from which alone the logits follow, by the call that returns them, the latest first."""
        if self.end is None:
            return iter(())
        needed = self._after(self.start)
        last_read = {slot: number for number, step in enumerate(needed) for slot in step.reads}
        last_read[self.end] = len(needed)
        waiting, found = {self.start}, []
        for number, step in enumerate(needed):
            waiting = {slot for slot in waiting.union(step.makes) if last_read.get(slot, -1) > number}
            if len(waiting) == 1 and waiting <= set(step.results):
                found.append((step.site, next(iter(waiting))))
        return reversed(found)

    def after(self, slot: int) -> Tape:
        """The tape from one of the `cuts` on."""
        return replace(self, start=slot, steps=self._after(slot))

    def _after(self, start: int) -> list[Step]:
        """The steps after a slot that the logits need; those that write may be needed through a view."""
        made = next((number for number, step in enumerate(self.steps, 1) if start in step.results), 0)
        needed, steps = {self.end}, []
        for step in reversed(self.steps[made:]):
            if step.writes or not needed.isdisjoint(step.makes):
                needed.update(step.reads)
                steps.append(step)
        return steps[::-1]


def record(network: nn.Module, inputs: Tensor) -> Tape:
    """Record the forward pass of a network in evaluation mode on one input (1, channels, H, W)."""
    with track_modules(network) as stack, uncompiled(), torch.no_grad():
        recorder, inputs = _Recorder(stack), inputs.clone()
        start = recorder.know(inputs)
        with recorder:
            logits = find_logits(network(inputs), 1)
    return Tape(start, recorder.steps, recorder.slot_of(logits), recorder.shapes)


def held_run(tape: Tape, features: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A tape for rows (n, ...) and the numbers of their images (n,).

    The scales of its normalizations are held at those of the features (N, ...) of the images.
    """
    scales = tape.scales(features)
    return lambda rows, images: tape.rows(rows, [scale[images] for scale in scales])


def features_at(network: nn.Module, sites: Collection[Site], inputs: Tensor) -> dict[Site, Tensor]:
    """Run a network in evaluation mode once, and return what the calls at some sites returned, as it was then."""
    with track_modules(network) as stack, uncompiled(), torch.no_grad():
        keeper = _Keeper(stack, sites)
        with keeper:
            network(inputs)
    return keeper.kept


class _Keeper(TorchFunctionMode):
    """Keeps the results of the calls at some sites."""

    def __init__(self, stack: list[str], sites: Collection[Site]) -> None:
        super().__init__()
        self.calls, self.sites = CallCounter(stack), sites
        self.kept: dict[Site, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        site = self.calls.next_site(operation_name(func))
        out = func(*args, **(kwargs or {}))
        if site in self.sites and isinstance(out, Tensor):
            self.kept[site] = out.clone()
        return out


class _Recorder(TorchFunctionMode):
    """Sees every call of one forward pass."""

    def __init__(self, stack: list[str]) -> None:
        super().__init__()
        self.calls = CallCounter(stack)
        self.steps: list[Step] = []
        self.shapes: dict[int, torch.Size] = {}
        self._number = next(_recordings)
        self._roots: set[int] = set()  # slots that a handwritten normalization may divide by

    def know(self, tensor: Tensor) -> int:
        """Give a tensor a slot; it keeps it until a call writes into the tensor."""
        number = len(self.shapes)
        self.shapes[number] = tensor.shape
        vars(tensor)[_slot] = self._number, number
        return number

    def slot_of(self, value: object) -> int | None:
        """The slot of a tensor that depends on the input."""
        if not isinstance(value, Tensor):
            return None
        recording, number = vars(value).get(_slot, (None, None))
        return number if recording == self._number else None

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation = operation_name(func)
        site = self.calls.next_site(operation)
        given, spec = tree_flatten((args, kwargs or {}))
        slots = [self.slot_of(value) for value in given]
        if operation in _AS_FIRST:
            slots[1:] = [None] * len(slots[1:])
        elif operation.startswith("new_") or operation.endswith("_like"):
            slots = []
        if not any(slot is not None for slot in slots):
            return func(*args, **(kwargs or {}))
        writes = operation == "__setitem__" or (operation.endswith("_") and not operation.endswith("__"))
        leaves = [_leaf(value, slot, writes) for value, slot in zip(given, slots, strict=True)]
        versions = [version_of(value) if isinstance(value, Tensor) else 0 for value in given]
        out = func(*args, **(kwargs or {}))
        returned = tree_leaves(out)
        results = [self.know(value) if isinstance(value, Tensor) else None for value in returned]
        changed = [
            (index, value)
            for index, (value, version) in enumerate(zip(given, versions, strict=True))
            if isinstance(value, Tensor) and version_of(value) != version
        ]
        written = [(index, self.know(value)) for index, value in changed if all(value is not one for one in returned)]
        scale = self._find_scale(operation, given, slots, results)
        self.steps.append(Step(site, func, leaves, spec, results, written, bool(changed), scale))
        return out

    def _find_scale(
        self, operation: str, given: Sequence[Any], slots: Sequence[int | None], results: Sequence[int | None]
    ) -> int | None:
        """Which argument is a root that is smaller than what it scales; results that are roots are remembered."""
        is_root = operation in _ROOTS or (operation == "pow" and given[1:2] in ([0.5], [-0.5]))
        if is_root or (operation in _KEEP_ROOTS and self._roots.issuperset(slot for slot in slots if slot is not None)):
            self._roots.update(slot for slot in results if slot is not None)
        if operation in SCALINGS:
            sizes = [value.numel() if isinstance(value, Tensor) else 1 for value in given]
            for index, slot in enumerate(slots):
                if slot in self._roots and sizes[index] < max(sizes):
                    return index
        return None


def _leaf(value: Any, slot: int | None, writes: bool) -> Any:
    if slot is not None:
        return Slot(slot)
    return Fresh(value.clone()) if writes and isinstance(value, Tensor) else value


def _value(leaf: Any, values: dict[int, Tensor]) -> Any:
    if isinstance(leaf, Slot):
        return values[leaf.number]
    return leaf.tensor.clone() if isinstance(leaf, Fresh) else leaf


def _call(step: Step, args: tuple[Any, ...], kwargs: dict[str, Any], hold: Hold | None) -> Any:
    if step.site.operation == "detach":  # which says how to train, not what is computed
        return args[0]
    if hold is None:
        return step.function(*args, **kwargs)
    if step.scale is not None and not kwargs:
        return step.function(*(hold(arg) if index == step.scale else arg for index, arg in enumerate(args)))
    if step.function in HELD:
        return HELD[step.function](*args, **kwargs, hold=hold)
    return step.function(*(hold_scale(step.site.operation, args, hold) or args), **kwargs)
