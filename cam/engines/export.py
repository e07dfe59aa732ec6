"""Networks translated for torch's compiler and ONNX Runtime."""

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


def compiled(eager: EagerEngine, shape: tuple[int, int, int]) -> Engine:
    """Compile the network of an eager engine with frozen weights, for inputs (channels, H, W) in batches of any size.

    It runs on one thread at a time. Raises whatever torch's compiler raises.
    """
    with _quiet():
        module = _exported(eager, shape).module(check_guards=False)
        run = torch.compile(module, options={"freezing": True})

        def engine(inputs: Tensor) -> tuple[Tensor, Tensor]:
            if inputs.shape[1:] != shape:
                raise ModelError(f"It was compiled for inputs of {shape[1]} x {shape[2]}", "Use the eager engine")
            count = len(inputs)
            if count == 1:  # a batch of one would be compiled again
                inputs = inputs.repeat(2, 1, 1, 1)
            with torch.no_grad():
                logits, features = run(eager.to_device(inputs))
            return logits[:count], features[:count]

        example = eager.to_device(random_inputs(2, shape))
        torch._dynamo.mark_dynamic(example, 0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the caller has the threads; another number would compile again
        try:
            with torch.no_grad():
                run(example)
        finally:
            torch.set_num_threads(threads)
    return engine


def onnxruntime(eager: EagerEngine, shape: tuple[int, int, int]) -> Engine:
    """Translate the network of an eager engine for ONNX Runtime, for inputs of any size that its layers accept."""
    runtime: Any = import_module("onnxruntime")
    with _quiet():
        program: Any = torch.onnx.export(_exported(eager, shape), dynamo=True, verbose=False)
    model: Any = program.model_proto
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if index != 1:  # most networks accept any size, and each is checked before it is used
                dim.dim_param = f"{value.name}_{index}"
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the caller has the threads
    options.log_severity_level = 4  # errors are raised, too
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def engine(inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = session.run(None, {name: inputs.contiguous().numpy()})
        return torch.from_numpy(logits), torch.from_numpy(features)

    return engine


class _LogitsAndFeatures(nn.Module):
    """A module that returns logits and features."""

    def __init__(self, eager: EagerEngine) -> None:
        super().__init__()
        self.eager, self.hook = eager, eager.new_hook()
        self.network = self.hook.network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.eager.run(self.hook, inputs)


def _exported(eager: EagerEngine, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """Record the network with inputs of one size, in batches of any size."""
    example = eager.to_device(random_inputs(2, shape))
    batch = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad():
        return torch.export.export(_LogitsAndFeatures(eager).eval(), (example,), dynamic_shapes=batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings of translators."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
