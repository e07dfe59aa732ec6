"""Networks in ONNX files: converted by onnx2pytorch, and compared with what ONNX Runtime computes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from cam.classifiers.sources.base import import_extra
from cam.classifiers.sources.program import Program
from cam.classifiers.sources.torchscript import from_script_module
from cam.errors import ModelError
from cam.heads.copies import random_inputs

_SAME = 1e-3  # of the largest output
_REMEDY = "Give the network that it was made from, as file.py:callable, or exported by torch (.pt2)"


def read_onnx(path: Path) -> Program:
    """Make a program of the network in a file; ModelError if it cannot be converted, or computes something else."""
    onnx, runtime = import_extra("onnx", "onnx"), import_extra("onnxruntime", "onnx")
    converter = import_extra("onnx2pytorch", "onnx")
    model = onnx.load(str(path))
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        found = ", ".join(f"{value.name!r} {value.shape}" for value in inputs)
        remedy = "Give a network that takes images alone, (N, channels, H, W)"
        raise ModelError(f"--model {str(path)!r} takes {found}", remedy)
    sizes = [
        size if isinstance(size, int) else usual for size, usual in zip(inputs[0].shape, (1, 3, 224, 224), strict=True)
    ]
    example = random_inputs(sizes[0], (sizes[1], sizes[2], sizes[3]))
    _rename(model.graph)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = converter.ConvertModel(model).eval()
            program = from_script_module(torch.jit.trace(module, example, check_trace=False))  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the converter raises
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
        raise ModelError(f"--model {str(path)!r} cannot be converted: {reason}", _REMEDY) from error
    program.shape = tuple(sizes)
    expected = [torch.from_numpy(output) for output in session.run(None, {inputs[0].name: example.numpy()})]
    for one, other in zip(tree_leaves(program(example)), expected, strict=True):
        if not float((one - other).abs().max()) <= _SAME * float(other.abs().max()):
            raise ModelError(f"--model {str(path)!r} computes something else when it is converted", _REMEDY)
    return program


def _rename(graph: Any) -> None:
    """Give nodes and values names that can be those of a module's attributes, and equal weights one name."""
    weights = {weight.name: f"weight{index}" for index, weight in enumerate(graph.initializer)}
    names = {"": "", **weights}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in weights]:
        names[node.output[0]] = weights[node.input[0]]
        graph.node.remove(node)
    for index, node in enumerate(graph.node):
        node.name = f"node{index}"
        for values in (node.input, node.output):
            values[:] = [names.setdefault(name, f"value{len(names)}") for name in values]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = names.setdefault(value.name, f"value{len(names)}")
    del graph.value_info[:]
