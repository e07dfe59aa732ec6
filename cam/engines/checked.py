"""Engines: ways to run a network faster, from several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cam.engines import export
from cam.engines.eager import EagerEngine, Precision
from cam.errors import UsageError
from cam.heads.general import GeneralHead
from cam.heads.head import Head
from cam.heads.hooks import Engine
from cam.maps.activation import class_activation_maps
from cam.tensors import device_and_dtype

EngineName = Literal["auto", "eager", "compile", "onnxruntime"]

# Images a core. Translating for ONNX Runtime takes one core 2.4 to 5.9 s and saves 0 to 17 ms an image, so that it pays
# from 250 to 2,000 images a core, by processor and network, or never. Compiling takes longer and saves less.
_PAYS_FROM = 1000
_TOLERANCE = 1e-3  # of a logit, and of a map
_ROUNDING = 1e-5  # of the largest logit: rounding errors of single precision


class CheckedEngine:
    """A faster engine that is checked against the eager one on the first batch of each input size.

    `reason` says why the eager engine ran instead, for some inputs or all; it is "" if it did not.
    """

    def __init__(self, name: str, eager: EagerEngine, make: Callable[[], Engine]) -> None:
        self.name, self.reason = name, ""
        self._eager = eager
        self._engines: dict[torch.Size, Engine] = {}
        self._lock = threading.Lock()
        try:
            self._fast = make()
        except Exception as error:  # a translator may raise anything
            self._fast = eager
            self.reason = f"{name} cannot translate the network ({_first_line(error)})"

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, C) and features (N, K, h, w)."""
        size = inputs.shape[1:]
        with self._lock:
            if size not in self._engines:
                self._engines[size] = self._choose(inputs)
        return self._engines[size](inputs)

    def _choose(self, inputs: Tensor) -> Engine:
        expected = self._eager(inputs)
        try:
            problem = _difference(self._fast(inputs), expected, self._eager.head)
        except Exception as error:  # for example an input size that it was not translated for
            problem = f"fails ({_first_line(error)})"
        if not problem:
            return self._fast
        self.reason = f"{self.name} {problem} for inputs of {inputs.shape[2]} x {inputs.shape[3]}"
        return self._eager


def make_engine(
    name: EngineName,
    network: nn.Module,
    head: Head | GeneralHead,
    input_shape: tuple[int, int, int],
    *,
    images: int = 1,
    precision: Precision = "float32",
) -> EagerEngine | CheckedEngine:
    """Make an engine for a network, of which it takes a copy: `replace(classifier, engine=make_engine(...))`.

    It takes "compile" (torch's compiler) half a minute and more, and "onnxruntime" (CPU only) some seconds; "auto"
    chooses the fastest for the number of images, if each of torch's threads is a worker. `input_shape` is
    (channels, H, W). The precision is that of the convolutions on CUDA; head and maps are in float32.
    """
    device, _ = device_and_dtype(network)
    check_engine(name, device, precision)
    if name == "auto":
        pays = images >= _PAYS_FROM * torch.get_num_threads() and device.type == "cpu" and not _missing()
        name = "onnxruntime" if pays else "eager"
    eager = EagerEngine(network, head, input_shape, precision)
    if name == "eager":
        return eager
    translate = export.compiled if name == "compile" else export.onnxruntime
    return CheckedEngine(name, eager, lambda: translate(eager, input_shape))


def check_engine(name: str, device: torch.device, precision: str) -> None:
    """Raise UsageError unless there is an engine of this name and precision for the device, with its library."""
    for option, value, allowed in ("engine", name, EngineName), ("precision", precision, Precision):
        if value not in get_args(allowed):
            problem = f"--{option} must be one of {', '.join(get_args(allowed))}, got {value!r}"
            raise UsageError(problem, f"Use --{option} {get_args(allowed)[0]}")
    if precision != "float32" and device.type != "cuda":
        problem = f"--precision {precision} is slower than float32 on {device.type}, and inexact"
        raise UsageError(problem, "Use --precision float32, or --device cuda where there is a GPU")
    if name == "onnxruntime" and device.type != "cpu":
        raise UsageError(f"--engine onnxruntime runs on the CPU, not on {device.type}", "Use --engine eager")
    if name == "onnxruntime" and (missing := _missing()):
        problem = f"--engine onnxruntime needs {', '.join(missing)}, which is not installed"
        raise UsageError(problem, "Run pip install 'gapcam[onnxruntime]', or use --engine eager")


def _missing() -> list[str]:
    return [library for library in ("onnxruntime", "onnx", "onnxscript") if find_spec(library) is None]


def _difference(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], head: Head | GeneralHead) -> str:
    """Describe how logits, features or maps of the predicted classes miss the expected ones; "" if they do not."""
    if [tensor.shape for tensor in actual] != [tensor.shape for tensor in expected]:
        return "gives results of another shape"
    (logits, features), (expected_logits, expected_features) = actual, expected
    error = float((logits - expected_logits).abs().max())
    if not error <= max(_TOLERANCE, _ROUNDING * float(expected_logits.abs().max())):  # also if it is NaN
        return f"misses the logits by {error:.2g}"
    classes = expected_logits.argmax(1)
    if not torch.equal(logits.argmax(1), classes):
        return "predicts other classes"
    if not (error := _relative_error(features[None], expected_features[None])) <= _TOLERANCE:
        return f"misses the features by {error:.2g}"
    if isinstance(head, GeneralHead):
        return ""
    rows = head.weight[classes].unsqueeze(1).to(features.device)
    error = _relative_error(class_activation_maps(features, rows), class_activation_maps(expected_features, rows))
    return "" if error <= _TOLERANCE else f"misses the maps by {error:.2g}"


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest error of any row, (N, ...), over that row's largest value."""
    error, largest = (values.flatten(1).abs().amax(1) for values in (actual - expected, expected))
    return float((error / largest.clamp(min=torch.finfo(largest.dtype).tiny)).max())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
