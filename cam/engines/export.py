"""Networks translated for a faster machine: torch's compiler and ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from cam.engines.eager import EagerEngine
from cam.errors import ModelError
from cam.heads.copies import random_inputs
from cam.heads.hooks import Engine

Shape = tuple[int, int, int]


def compiled(eager: EagerEngine, shape: Shape) -> Engine:
    """Compile a network with its weights frozen, for inputs of one size, batches of any size and threads of one core.

    Args:
        eager: the engine whose network is compiled, in its precision.
        shape: (channels, H, W) of the inputs.

    Raises:
        Exception: whatever torch's compiler has against the network.
    """
    with _quiet():
        module = _exported(eager, shape).module(check_guards=False)
        run = torch.compile(module, options={"freezing": True})

        def engine(inputs: Tensor) -> tuple[Tensor, Tensor]:
            if inputs.shape[1:] != shape:
                raise ModelError(f"It was compiled for inputs of {shape[1]} x {shape[2]}", "Leave others to eager")
            count = len(inputs)
            if count == 1:  # one picture would be compiled anew
                inputs = inputs.repeat(2, 1, 1, 1)
            with torch.no_grad():
                logits, features = run(eager.place(inputs))
            return logits[:count], features[:count]

        example = eager.place(random_inputs(2, shape))
        torch._dynamo.mark_dynamic(example, 0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the threads are the caller's; with another number it would be compiled anew
        try:
            with torch.no_grad():
                run(example)
        finally:
            torch.set_num_threads(threads)
    return engine


def onnxruntime(eager: EagerEngine, shape: Shape) -> Engine:
    """Translate a network for ONNX Runtime; for inputs of any size that its layers do not depend on.

    Args:
        eager: the engine whose network is translated.
        shape: (channels, H, W) to record it with.

    Raises:
        Exception: whatever the translator or the runtime have against the network.
    """
    runtime: Any = import_module("onnxruntime")
    with _quiet():
        program: Any = torch.onnx.export(_exported(eager, shape), dynamo=True, verbose=False)
    model: Any = program.model_proto
    _free_sizes(model.graph)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the threads are the caller's
    options.log_severity_level = 4  # what goes wrong comes as an exception too
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def engine(inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = session.run(None, {name: inputs.contiguous().numpy()})
        return torch.from_numpy(logits), torch.from_numpy(features)

    return engine


class _Both(nn.Module):
    """A module that returns logits and features."""

    def __init__(self, eager: EagerEngine) -> None:
        super().__init__()
        self.eager, self.tap = eager, eager.fresh_tap()
        self.network = self.tap.network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.eager.take(self.tap, inputs)


def _exported(eager: EagerEngine, shape: Shape) -> torch.export.ExportedProgram:
    """Record what the network does with inputs of one size, in batches of any size."""
    example = eager.place(random_inputs(2, shape))
    batch = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad():
        return torch.export.export(_Both(eager).eval(), (example,), dynamic_shapes=batch)


def _free_sizes(graph: Any) -> None:
    """Forget the sizes a graph was recorded with: most networks run at any, and each is checked before it is used."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if index != 1:
                dim.dim_param = f"{value.name}_{index}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what translators have to say about their own code."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
