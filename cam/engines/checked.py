"""Engines: ways to run a network faster than as it stands, from several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cam.engines.eager import EagerEngine, Precision
from cam.errors import UsageError
from cam.heads.head import Head
from cam.heads.hooks import Engine
from cam.maps.activation import class_activation_maps
from cam.tensors import device_and_dtype

EngineName = Literal["auto", "eager", "compile", "onnxruntime"]

# Translating for ONNX Runtime takes one core 2.4 s (SqueezeNet), 2.7 s (ResNet-18) or 5.9 s (ResNet-50), and saves 6, 4
# or 17 ms a picture: up to so many pictures a core eager is done first. Compiling takes longer and saves less.
_PAYS_FROM = 500

_TOLERANCE = 1e-3  # of a logit, and of a map

_ROUNDING = 1e-5  # of the largest logit, what single precision may come to


class CheckedEngine:
    """A faster engine that proves itself against the eager one on the first batch of each size of inputs.

    Args:
        name: of the engine.
        eager: runs what the faster one cannot.
        make: gives the faster one.

    Attributes:
        name: of the engine.
        reason: why the eager one ran instead, for some inputs or all; "" when it did not.
    """

    def __init__(self, name: str, eager: EagerEngine, make: Callable[[], Engine]) -> None:
        self.name, self.reason = name, ""
        self._eager = eager
        self._chosen: dict[torch.Size, Engine] = {}
        self._lock = threading.Lock()
        self._fast: Engine | None = None
        try:
            self._fast = make()
        except Exception as error:  # whatever a translator may raise at a stranger's network
            self.reason = f"{name} cannot translate the network ({_first_line(error)})"

    @property
    def checked(self) -> bool:
        """Whether it has proved itself, or failed to, on inputs of any size."""
        return self._fast is None or bool(self._chosen)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (N, C) and features (N, K, h, w)."""
        if self._fast is None:
            return self._eager(inputs)
        size = inputs.shape[1:]
        engine = self._chosen.get(size)
        if engine is None:
            with self._lock:
                engine = self._chosen.get(size) or self._choose(self._fast, inputs)
        return engine(inputs)

    def _choose(self, fast: Engine, inputs: Tensor) -> Engine:
        expected = self._eager(inputs)
        try:
            missed = _difference(fast(inputs), expected, self._eager.head.weight)
        except Exception as error:  # a size it was not translated for, or whatever else it may raise
            missed = f"fails ({_first_line(error)})"
        if missed:
            height, width = inputs.shape[-2:]
            self.reason = f"{self.name} {missed} for inputs of {height} x {width}"
        self._chosen[inputs.shape[1:]] = chosen = self._eager if missed else fast
        return chosen


def make_engine(
    name: EngineName,
    network: nn.Module,
    head: Head,
    input_shape: tuple[int, int, int],
    *,
    pictures: int = 1,
    precision: Precision = "float32",
) -> EagerEngine | CheckedEngine:
    """Make an engine for a network: `replace(classifier, engine=make_engine(...))` uses it.

    Args:
        name: "eager"; "compile" (torch's compiler, half a minute and more) or "onnxruntime" (some seconds, CPU only);
            "auto" takes what pays for the number of pictures.
        network: what is copied; the network itself is left alone.
        head: of the network, on its device.
        input_shape: (channels, H, W) of its inputs.
        pictures: how many there are in all, whatever of them is done; torch's threads are taken for the workers.
        precision: of the convolutions on CUDA; head and maps are in float32.

    Returns:
        The engine, with `name` and `reason`: why it had to leave inputs to the eager one, "" when it did not.

    Raises:
        UsageError: there is no such engine or precision, for this device, or its library is not installed.
    """
    device, _ = device_and_dtype(network)
    check_engine(name, device, precision)
    if name == "auto":
        pays = pictures >= _PAYS_FROM * torch.get_num_threads() and device.type == "cpu" and not _missing()
        name = "onnxruntime" if pays else "eager"
    eager = EagerEngine(network, head, input_shape, precision)
    if name == "eager":
        return eager
    from cam.engines import export as translated

    translate = translated.compiled if name == "compile" else translated.onnxruntime
    return CheckedEngine(name, eager, lambda: translate(eager, input_shape))


def check_engine(name: str, device: torch.device, precision: str) -> None:
    """See to it that there is such an engine, before anything is done for it.

    Args:
        name: as for `make_engine`.
        device: of the network.
        precision: as for `make_engine`.

    Raises:
        UsageError: there is no such engine or precision, for this device, or its library is not installed.
    """
    if name not in get_args(EngineName):
        raise UsageError(f"There is no engine {name!r}", f"Give one of {', '.join(get_args(EngineName))}")
    if precision not in get_args(Precision):
        raise UsageError(f"There is no precision {precision!r}", f"Give one of {', '.join(get_args(Precision))}")
    if precision != "float32" and device.type != "cuda":
        raise UsageError(
            f"{precision} was asked for on {device.type}, where it is slower than float32 and wrong",
            "Take --precision float32, or --device cuda where there is a GPU",
        )
    if name == "onnxruntime" and device.type != "cpu":
        raise UsageError(
            f"The engine 'onnxruntime' runs on the CPU, and the network is on {device.type}",
            "Take --device cpu, or another engine",
        )
    if name == "onnxruntime" and (missing := _missing()):
        raise UsageError(
            f"The engine 'onnxruntime' needs what is not installed: {', '.join(missing)}",
            "Run pip install 'gapcam[onnxruntime]', or take another engine",
        )


def _missing() -> list[str]:
    return [library for library in ("onnxruntime", "onnx", "onnxscript") if find_spec(library) is None]


def _difference(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], weight: Tensor) -> str:
    """Say what is wrong with an answer, "" when nothing is.

    Logits count as they are, where single precision has that much; features against the largest of them, and each
    picture's map of the predicted class against its own largest value. `weight` is the head's, (C, K).
    """
    for what, got, want in zip(("logits", "features"), found, expected, strict=True):
        if got.shape != want.shape:
            return f"gives {what} of the shape {tuple(got.shape)} instead of {tuple(want.shape)}"
    (logits, features), (wanted, wanted_features) = found, expected
    missed = float((logits - wanted).abs().max())
    if not missed <= max(_TOLERANCE, _ROUNDING * float(wanted.abs().max())):  # also when it is not a number
        return f"misses the logits by {missed:.2g}"
    classes = wanted.argmax(1)
    if not torch.equal(logits.argmax(1), classes):
        return "predicts other classes"
    if not (missed := _relative(features[None], wanted_features[None])) <= _TOLERANCE:
        return f"misses the features by {missed:.2g}"
    rows = weight[classes].unsqueeze(1).to(features.device)
    missed = _relative(*(class_activation_maps(each, rows) for each in (features, wanted_features)))
    return "" if missed <= _TOLERANCE else f"misses the maps by {missed:.2g}"


def _relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference of any part, (N, ...), over that part's largest value."""
    missed, most = ((values.flatten(1).abs().amax(1)) for values in (found - expected, expected))
    return float((missed / most.clamp(min=torch.finfo(most.dtype).tiny)).max())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
