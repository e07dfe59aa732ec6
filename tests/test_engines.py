"""Engines give what the network gives, in any number of threads, and leave the network alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from small import BATCH, NETWORKS, engine_parts, wrapped
from test_features import state_of
from torch import nn
from torch.nn import functional as F

import cam
from cam.engines.checked import CheckedEngine, make_engine
from cam.engines.eager import EagerEngine
from cam.errors import UsageError
from cam.heads.copies import random_inputs
from cam.maps.activation import class_activation_maps, completeness_error

INPUTS = [random_inputs(2, (3, 32, 32 + 8 * (seed % 3)), seed) for seed in range(8)]


def relative_error(engine, classifier, inputs) -> float:
    """Largest difference from the bare network, as a share of the largest logit and feature."""
    actual, expected = engine(inputs), classifier.forward(inputs)[:2]
    if classifier.binary:
        expected = expected[0][:, 1:], expected[1]
    assert [tensor.shape for tensor in actual] == [tensor.shape for tensor in expected]
    return max(float((a - e).abs().max() / e.abs().max()) for a, e in zip(actual, expected, strict=True))


# --- threads


@pytest.mark.parametrize("engine", [None, EagerEngine])
@pytest.mark.parametrize("kind", NETWORKS)
def test_threads_get_what_one_thread_gets_and_the_network_is_unchanged(engine, kind, device):
    classifier = wrapped(kind, device)
    classifier.network.train()
    before = state_of(classifier.network)
    running = classifier if engine is None else replace(classifier, engine=engine(*engine_parts(classifier)))
    expected = [running.forward(inputs)[:2] for inputs in INPUTS]

    def fifty_calls(first):
        results = ((call % 8, running.forward(INPUTS[call % 8])[:2]) for call in range(first, first + 50))
        return all(torch.equal(a, e) for i, actual in results for a, e in zip(actual, expected[i], strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fifty_calls, range(4))) == [True] * 4
    assert state_of(classifier.network) == before


class Stateful(nn.Module):
    """Stores a result in the module and reads it later, after another thread may have run."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.conv, self.fc, self.barrier = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), [barrier]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.stored = self.conv(x)
        if threading.current_thread() is not threading.main_thread():
            self.barrier[0].wait(10)
        return self.fc(self.stored.mean((2, 3)))

    def __deepcopy__(self, memo: dict[int, object]) -> Stateful:
        duplicate = Stateful(self.barrier[0])
        duplicate.load_state_dict(self.state_dict())
        return duplicate


def test_threads_that_follow_each_other_share_a_copy_of_the_modules(device, monkeypatch):
    classifier, copies = wrapped(device=device), []
    engine = EagerEngine(*engine_parts(classifier))
    new_hook = engine.new_hook
    monkeypatch.setattr(engine, "new_hook", lambda: copies.append(new_hook()) or copies[-1])
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(engine, random_inputs(2, (3, 64, 64)).to(device)).result()
    assert len(copies) == 1


def test_threads_do_not_share_results_stored_in_modules(device):
    classifier = cam.wrap(Stateful(threading.Barrier(2)).to(device), input_size=32)
    engine = EagerEngine(*engine_parts(classifier))
    alone = [engine(inputs)[0] for inputs in (BATCH, 2 * BATCH)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda inputs: engine(inputs)[0], (BATCH, 2 * BATCH)))
    assert [torch.equal(a, b) for a, b in zip(alone, together, strict=True)] == [True, True]


# --- BatchNorm


class ConvNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)


class OutputReadTwice(ConvNorm):
    """The BatchNorm and the addition both read the output of the convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc((x + F.relu(self.norm(x))).mean((2, 3)))


class EndsInNorm(ConvNorm):
    """The features are the output of the BatchNorm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(("build", "norms"), [(NETWORKS["gap-linear"], 0), (OutputReadTwice, 1), (EndsInNorm, 1)])
def test_batchnorm_is_folded_if_that_changes_nothing(build, norms, device):
    network = build().to(device).eval()
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    classifier = cam.wrap(network, input_size=32)
    engine = EagerEngine(*engine_parts(classifier))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in engine.network.modules()) == norms
    assert relative_error(engine, classifier, BATCH) < 1e-5


# --- ONNX Runtime and torch.compile


def onnxruntime_or_skip(device: torch.device) -> None:
    for library in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(library, reason=f"{library} is not installed: pip install gapcam[onnxruntime]")
    if device.type != "cpu":
        pytest.skip("onnxruntime runs on the CPU")


@pytest.mark.parametrize("kind", ["conv-gap", "gap-norm-linear"])
def test_onnxruntime_gives_what_eager_gives(kind, device):
    onnxruntime_or_skip(device)
    classifier = wrapped(kind, device)
    engine = make_engine("onnxruntime", *engine_parts(classifier))
    for number, height, width in ((3, 32, 32), (1, 32, 32), (2, 40, 56), (2, 24, 32)):
        assert relative_error(engine, classifier, random_inputs(3, (3, height, width))[:number]) < 1e-4
    assert engine.reason == ""
    with ThreadPoolExecutor(4) as pool:
        logits = list(pool.map(lambda _: engine(BATCH)[0], range(40)))
    assert all(torch.equal(logits[0], other) for other in logits)


class FixedSize(nn.Module):
    """Adds numbers to the features whose count is recorded with the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 8, 8), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).relu()
        positions = torch.arange(x.shape[2] * x.shape[3]).view(1, 1, *x.shape[2:]) / 100
        return self.fc((x + positions).mean((2, 3)))


def test_sizes_that_a_translation_does_not_know_go_to_eager(device):
    onnxruntime_or_skip(device)
    classifier = cam.wrap(FixedSize(), input_size=32)
    engine = make_engine("onnxruntime", *engine_parts(classifier))
    assert relative_error(engine, classifier, BATCH) < 1e-4
    assert engine.reason == ""
    assert relative_error(engine, classifier, random_inputs(2, (3, 40, 56))) < 1e-4
    assert "for inputs of 40 x 56" in engine.reason


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_compile_gives_what_eager_gives(device):
    classifier = wrapped(device=device)
    engine = make_engine("compile", *engine_parts(classifier))
    for number in (3, 1, 4):
        assert relative_error(engine, classifier, random_inputs(4, (3, 32, 32))[:number]) < 1e-4
    assert engine.reason == ""
    assert relative_error(engine, classifier, INPUTS[1]) < 1e-4
    assert "compiled for inputs of 32 x 32" in engine.reason


# --- the choice of an engine


@pytest.mark.parametrize(
    ("images", "installed", "name"), [(10**6, True, "onnxruntime"), (10**6, False, "eager"), (10, True, "eager")]
)
def test_auto_chooses_the_fastest(monkeypatch, images, installed, name):
    monkeypatch.setattr("cam.engines.checked._missing", lambda: [] if installed else ["onnx"])
    monkeypatch.setattr("cam.engines.export.onnxruntime", lambda eager, shape: eager)
    assert make_engine("auto", *engine_parts(wrapped()), images=images).name == name


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("cam.engines.checked.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UsageError, match=r"needs onnxscript, which is not installed.*gapcam\[onnxruntime\]"):
        make_engine("onnxruntime", *engine_parts(wrapped()))


def test_importing_engines_imports_nothing_heavy():
    heavy = ("onnxruntime", "onnx", "torch._inductor", "torch._dynamo")
    code = f"import sys, cam.engines.checked; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "precision", "sentence"),
    [
        ("openvino", "float32", "--engine must be one of auto, eager, compile, onnxruntime, got 'openvino'."),
        ("eager", "int8", "--precision must be one of float32, bfloat16, float16, got 'int8'."),
        ("eager", "bfloat16", "--precision bfloat16 is slower than float32 on cpu, and inexact. Use"),
    ],
)
def test_unknown_engines_and_precisions_are_errors(name, precision, sentence):
    with pytest.raises(UsageError) as caught:
        make_engine(name, *engine_parts(wrapped()), precision=precision)
    assert str(caught.value).startswith(sentence)


# --- precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_maps_add_up_whatever_the_precision_of_the_layers(kind, precision, device):
    classifier = wrapped(kind, device)
    engine = EagerEngine(*engine_parts(classifier), precision)  # autocast works on the CPU too
    logits, features = engine(BATCH)
    assert (logits.dtype, features.dtype) == (torch.float32, torch.float32)
    head = classifier.head
    cams = class_activation_maps(features, head.scales(features, logits).view(-1, 1, 1) * head.weight)
    assert float(completeness_error(cams, head.bias, logits).max()) < 1e-5
    assert 1e-5 < relative_error(engine, classifier, BATCH) < 0.05


# --- the check of a faster engine


@pytest.mark.parametrize(
    ("fast", "reason"),
    [
        (lambda logits, features: (logits + 2e-3, features), "misses the logits by 0.002"),
        (lambda logits, features: (logits, 1.01 * features), "misses the features by 0.01"),
        (lambda logits, features: (logits * torch.nan, features), "misses the logits by nan"),
        (lambda logits, features: (logits, features[:, :, 1:]), "gives results of another shape"),
        (lambda logits, features: 1 / 0, "fails (ZeroDivisionError: division by zero)"),
    ],
)
def test_a_wrong_engine_is_not_used(fast, reason, device):
    eager = EagerEngine(*engine_parts(wrapped(device=device)))
    engine = CheckedEngine("fast", eager, lambda: lambda inputs: fast(*eager(inputs)))
    for _ in range(2):
        assert all(map(torch.equal, engine(BATCH), eager(BATCH)))
    assert engine.reason.startswith("fast " + reason)
    assert engine.reason.endswith("for inputs of 32 x 32")


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_maps_must_be_right_and_not_only_features(error, device):
    """A channel of weight 0 may be so large that an error in the other channels is a small share of it."""

    class LargeChannel(EagerEngine):
        def __call__(self, inputs):
            logits, features = super().__call__(inputs)
            return logits, torch.cat([1e6 + features[:, :1], features[:, 1:]], 1)

    eager = LargeChannel(*engine_parts(wrapped(device=device)))
    weight = eager.head.weight.clone()
    weight[:, 0] = 0
    eager.head = replace(eager.head, weight=weight)
    added = torch.full((weight.shape[1], 1, 1), error, device=device)
    added[0] = 1
    engine = CheckedEngine("fast", eager, lambda: lambda inputs: (eager(inputs)[0], eager(inputs)[1] + added))
    engine(BATCH)
    assert engine.reason.startswith("fast misses the maps by") == bool(engine.reason) == (error > 0)


@pytest.mark.parametrize("error", [0.0, 0.01])
def test_a_weak_image_beside_a_strong_one_must_be_right_too(error, device):
    """Its features are a hundredth of the other's, and 1 % of them is a small share of the whole batch."""
    strength = torch.tensor([1.0, 0.01, 1.0], device=device).view(3, 1, 1, 1)

    class OneWeak(EagerEngine):
        def __call__(self, inputs):
            logits, features = super().__call__(inputs)
            return logits, strength * features

    eager = OneWeak(*engine_parts(wrapped(device=device)))
    factor = 1 + error * (strength < 1)
    engine = CheckedEngine("fast", eager, lambda: lambda inputs: (eager(inputs)[0], factor * eager(inputs)[1]))
    engine(BATCH)
    assert engine.reason == ("fast misses the maps by 0.01 for inputs of 32 x 32" if error else "")


def test_the_same_class_must_win_a_near_tie(device):
    eager = EagerEngine(*engine_parts(wrapped(device=device)))
    with torch.no_grad():
        eager.network[-1].weight[1] = eager.network[-1].weight[0]
        eager.network[-1].bias[:2] = 100
        eager.network[-1].bias[1] += 5e-4
    added = torch.tensor([8e-4, 0, 0, 0, 0], device=device)
    engine = CheckedEngine("fast", eager, lambda: lambda inputs: (eager(inputs)[0] + added, eager(inputs)[1]))
    engine(BATCH)
    assert engine.reason == "fast predicts other classes for inputs of 32 x 32"


def test_eager_runs_if_an_engine_cannot_be_made(device):
    eager = EagerEngine(*engine_parts(wrapped(device=device)))
    engine = CheckedEngine("fast", eager, lambda: [][0])
    assert torch.equal(engine(BATCH)[0], eager(BATCH)[0])
    assert engine.reason == "fast cannot translate the network (IndexError: list index out of range)"


def test_a_good_engine_is_checked_once_for_each_size(device):
    eager, calls = EagerEngine(*engine_parts(wrapped(device=device))), []
    engine = CheckedEngine("fast", eager, lambda: lambda inputs: calls.append(inputs.shape) or eager(inputs))
    for inputs in (BATCH, BATCH, random_inputs(2, (3, 40, 32)), BATCH):
        engine(inputs)
    assert [shape[2] for shape in calls] == [32, 32, 32, 40, 40, 32]
    assert engine.reason == ""
