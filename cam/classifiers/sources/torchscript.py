"""Networks of TorchScript: their graph becomes a program, of which no operation reads or writes files."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from cam.classifiers.checkpoints import check_stored
from cam.classifiers.sources.program import Block, Program, Ref, Step, branch, find_operation, loop
from cam.errors import ModelError, WeightsError

_MAX_CODE = 64_000_000  # bytes of its code, which is compressed


def _raise(message: str, *_: object) -> None:
    raise RuntimeError(message)


_BASIC: dict[str, Callable[..., Any]] = {
    "prim::ListConstruct": lambda *values: [*values],
    "prim::TupleConstruct": lambda *values: values,
    "prim::ListUnpack": lambda values: values,
    "prim::TupleUnpack": lambda values: values,
    "prim::TupleIndex": operator.getitem,
    "prim::DictConstruct": lambda *items: dict(zip(items[::2], items[1::2], strict=True)),
    "prim::unchecked_cast": lambda value: value,
    "prim::Uninitialized": lambda: None,
    "prim::RaiseException": _raise,
    "prim::device": lambda tensor: tensor.device,
    "prim::dtype": lambda tensor: tensor.dtype,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::Bool": bool,
    "aten::Int": int,
    "aten::Float": float,
    "aten::format": str.format,
    "aten::len": len,
    "aten::__getitem__": operator.getitem,
    "aten::append": lambda values, value: values.append(value) or values,
    "aten::list": list,
    "aten::copy.t": list,
    "aten::_set_item.t": lambda values, index, value: values.__setitem__(index, value) or values,
    "aten::warn": lambda *_: None,
    "aten::slice.t": lambda values, start, end, step: values[start:end:step],
    "aten::add.t": operator.add,
    "aten::eq.int_list": operator.eq,
    "aten::ne.int_list": operator.ne,
    "prim::If": branch,
    "prim::Loop": loop,
}


def read_torchscript(path: Path, *, unsafe_pickle: bool = False) -> Program:
    """Make a program of the graph in a file; WeightsError if it would run code or fill the memory when it is read."""
    if not unsafe_pickle:
        _check_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; people still have such files
        return from_script_module(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]


def _check_archive(path: Path) -> None:
    check_stored(path, "--model", _MAX_CODE)
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and b"__setstate__" in archive.read(name):
                problem = f"--model {str(path)!r} runs code when it is read: __setstate__ in {name!r}"
                raise WeightsError(problem, "Pass --unsafe-pickle if you trust the file")


def from_script_module(module: torch.jit.ScriptModule) -> Program:
    """Make a program of a module, whose operations are checked before any of them runs."""
    _check_block(module.inlined_graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(module, "training"):  # else it is frozen
            module = torch.jit.freeze(module.eval(), optimize_numerics=False)
    graph = module.graph
    reader = _Reader(module)
    block = reader.block(graph, [value.debugName() for value in graph.inputs()][1:])
    if len(block.inputs) != 1:
        problem = f"The network takes {len(block.inputs)} inputs: {', '.join(map(repr, block.inputs))}"
        raise ModelError(problem, "Give one that takes images alone, (N, channels, H, W)")
    return Program(block, reader.constants)


def _check_block(block: Any) -> None:
    for node in block.nodes():
        if node.kind() not in _BASIC and node.kind() not in ("prim::Constant", "prim::GetAttr"):
            find_operation(node.kind())
        for inner in node.blocks():
            _check_block(inner)


class _Reader:
    """Turns the nodes of a frozen graph into steps."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.objects: dict[str, Any] = {next(module.graph.inputs()).debugName(): module}
        self.constants: dict[str, Tensor] = {}

    def block(self, block: Any, inputs: list[str]) -> Block:
        steps = [step for node in block.nodes() if (step := self._step(node))]
        outputs = [self._argument(value) for value in block.outputs()]
        return Block(inputs, steps, outputs[0] if not hasattr(block, "owningNode") and len(outputs) == 1 else outputs)

    def _step(self, node: Any) -> Step | None:
        kind, outputs = node.kind(), [value.debugName() for value in node.outputs()]
        if kind in ("prim::Constant", "prim::GetAttr"):
            base = self.objects.get(next(node.inputs()).debugName()) if kind == "prim::GetAttr" else None
            value = node.output().toIValue() if base is None else getattr(base, node.s("name"))
            if isinstance(value, Tensor):
                self.constants[outputs[0]] = value
            else:
                self.objects[outputs[0]] = value
            return None
        args, kwargs = [self._argument(value) for value in node.inputs()], {}
        function = _BASIC.get(kind)
        if function is None:
            schema = torch._C.parse_schema(node.schema())
            overload = schema.overload_name or "default"
            function = _BASIC.get(f"{kind}.{overload}") or find_operation(kind, overload)
            names = [argument.name for argument in schema.arguments if argument.kwarg_only]
            args, kwargs = args[: len(args) - len(names)], dict(zip(names, args[len(args) - len(names) :], strict=True))
        blocks = [self.block(inner, [value.debugName() for value in inner.inputs()]) for inner in node.blocks()]
        is_one = len(outputs) == 1 and kind not in ("prim::If", "prim::Loop", "prim::ListUnpack", "prim::TupleUnpack")
        return Step(function, args, outputs[0] if is_one else outputs, kwargs, blocks)

    def _argument(self, value: Any) -> Any:
        name = value.debugName()
        return self.objects[name] if name in self.objects else Ref(name)
