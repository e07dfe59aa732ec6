"""Networks exported by torch.export: files (.pt2), of which no code is run, and modules."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from cam.classifiers.checkpoints import check_stored
from cam.classifiers.sources.program import OPERATIONS, Block, Program, Ref, Step, find_operation, unsupported
from cam.errors import ModelError

_SCHEMA = 8  # of the graph in the file
_DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64]
_DTYPES += [torch.complex32, torch.complex64, torch.complex128, torch.bool, torch.bfloat16]  # from number 1 on
_FORMATS = (None, torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format)
_ARITHMETIC = {"getitem", "add", "sub", "mul", "floordiv", "mod", "neg", "pow", "truediv"}
_ARITHMETIC |= {"eq", "ne", "ge", "gt", "le", "lt"}
_CHECKS = ("_assert", "sym_constrain")  # operations that check what was recorded, such as the precision
_TENSORS = ("parameter", "buffer", "tensor_constant")


def read_exported(path: Path, *, unsafe_pickle: bool = False) -> Program:
    """Make a program of the tensors and the graph in a file.

    `torch.export.load` evaluates expressions and unpickles objects of the file, so that it is used if unsafe only.
    """
    try:
        return _read(path)
    except ModelError:
        if not unsafe_pickle:
            raise
    return from_graph_module(torch.export.load(path).module())


def _read(path: Path) -> Program:
    check_stored(path, "--model")
    with ZipFile(path) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        if "models/model.json" not in members:
            problem = f"--model {str(path)!r} has no exported network in torch's present format"
            raise ModelError(problem, "Export it again: torch.export.save(torch.export.export(network, inputs), FILE)")
        exported = json.loads(archive.read(members["models/model.json"]))
        if (version := exported["schema_version"]["major"]) != _SCHEMA:
            problem = f"--model {str(path)!r} has version {version} of torch's format, not {_SCHEMA}"
            raise ModelError(problem, "Export it again with the installed torch")
        tensors = {}
        for kind in ("weights", "constants"):
            config = json.loads(archive.read(members[f"data/{kind}/model_{kind}_config.json"]))["config"]
            for name, entry in config.items():
                if entry["use_pickle"] or not entry["tensor_meta"]:
                    raise ModelError(
                        f"--model {str(path)!r} has {name!r} as a pickle", "Pass --unsafe-pickle if you trust it"
                    )
                tensors[name] = _tensor(
                    archive.read(members[f"data/{kind}/{entry['path_name']}"]), entry["tensor_meta"]
                )
    return _from_json(exported["graph_module"], tensors)


def _tensor(data: bytes, meta: dict[str, Any]) -> Tensor:
    dtype = _DTYPES[meta["dtype"] - 1]
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])


def _from_json(module: dict[str, Any], tensors: dict[str, Tensor]) -> Program:
    graph, signature = module["graph"], module["signature"]
    constants, inputs = {}, []
    for spec in signature["input_specs"]:
        ((kind, value),) = spec.items()
        if kind in _TENSORS:
            constants[value["arg"]["name"]] = tensors[value[f"{kind}_name"]]
        else:
            ((_, argument),) = value["arg"].items()
            inputs.append(argument["name"] if isinstance(argument, dict) else kind)
    _check_inputs(inputs)
    steps = [step for node in graph["nodes"] if (step := _step(node))]
    results = [_argument(spec["user_output"]["arg"]) for spec in signature["output_specs"] if "user_output" in spec]
    spec = json.loads(module["module_call_graph"][0]["signature"]["out_spec"])[1]
    is_dict = spec["type"] == "builtins.dict" and len(results) == len(spec["children_spec"])
    block = Block(inputs, steps, _outputs(results, json.loads(spec["context"]) if is_dict else None))
    return Program(block, constants, [size.get("as_int") for size in graph["tensor_values"][inputs[0]]["sizes"]])


def _outputs(results: Sequence[Any], keys: Sequence[str] | None) -> Any:
    """What a network returns, of which dictionaries keep their keys."""
    if keys:
        return dict(zip(keys, results, strict=True))
    return results[0] if len(results) == 1 else tuple(results)


def _check_inputs(inputs: Sequence[str]) -> None:
    if len(inputs) != 1:
        problem = f"The exported network takes {len(inputs)} inputs: {', '.join(map(repr, inputs))}"
        raise ModelError(problem, "Export a network that takes images alone, (N, channels, H, W)")


def _step(node: dict[str, Any]) -> Step | None:
    module, _, name = node["target"].rpartition(".")
    if module == "_operator" and name in _ARITHMETIC:
        function = getattr(operator, name)
    else:
        module, _, operation = module.rpartition(".")
        if operation.startswith(_CHECKS):
            return None
        if module != "torch.ops.aten":
            raise unsupported(node["target"])
        function = find_operation(f"aten::{operation}", name)
    args = [_argument(argument["arg"]) for argument in node["inputs"] if argument["kind"] != 2]
    kwargs = {argument["name"]: _argument(argument["arg"]) for argument in node["inputs"] if argument["kind"] == 2}
    outputs = [_names(_argument(output)) for output in node["outputs"]]
    return Step(function, args, outputs[0] if len(outputs) == 1 else outputs, kwargs)


def _names(value: Any) -> Any:
    return [_names(part) for part in value] if isinstance(value, list) else getattr(value, "name", "")


def _argument(argument: dict[str, Any]) -> Any:
    """An argument of an operation, from the one entry that says of what kind it is."""
    ((kind, value),) = argument.items()
    if kind in ("as_none", "none"):
        return None
    if kind == "as_scalar_type":
        return _DTYPES[value - 1]
    if kind == "as_memory_format":
        return _FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_float":
        return float(value)  # infinity is a text
    if kind == "as_device":
        return torch.device(value["type"])
    return _value(value)


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "name" in value:
        return Ref(value["name"])
    ((kind, inner),) = value.items()
    return Ref(inner) if kind == "as_name" else _argument(value)


def _value_of_node(leaf: Any) -> Any:
    return Ref(leaf.name) if isinstance(leaf, fx.Node) else leaf


def from_graph_module(module: fx.GraphModule) -> Program:
    """Make a program of what the `module()` of an exported program returns."""
    constants, inputs, steps, outputs, shape = {}, [], [], None, []
    for node in module.graph.nodes:
        args, kwargs = tree_map(_value_of_node, ([*node.args], {**node.kwargs}))
        if node.op == "placeholder":
            inputs.append(node.name)
            shape = [size if isinstance(size, int) else None for size in node.meta["val"].shape]
        elif node.op == "get_attr":
            value = operator.attrgetter(node.target)(module)
            if isinstance(value, Tensor):  # else a part of an operation that is refused
                constants[node.name] = value
        elif node.op == "output":
            spec: Any = module._out_spec
            outputs = _outputs(
                args[0],
                spec.context if spec.type is dict and len(args[0]) == spec.num_leaves == spec.num_children else None,
            )
        elif node.op == "call_function" and not node.target.__name__.startswith(_CHECKS):
            if not isinstance(node.target, OPERATIONS) and node.target.__name__ not in _ARITHMETIC:
                raise unsupported(node.target.__name__)
            steps.append(Step(node.target, args, node.name, kwargs))
    _check_inputs(inputs)
    return Program(Block(inputs, steps, outputs), constants, shape)
