"""Engines give what the network gives, in any number of threads, and leave it alone."""

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
from cam.engines.checked import make_engine
from cam.engines.eager import EagerEngine
from cam.errors import UsageError
from cam.heads.copies import random_inputs
from cam.maps.activation import class_activation_maps, completeness_error

INPUTS = [random_inputs(2, (3, 32, 32 + 8 * (seed % 3)), seed) for seed in range(8)]
LIBRARIES = ("onnxruntime", "onnx", "onnxscript")


def missed(engine, classifier, inputs) -> float:
    """Largest difference from the bare network, as a share of the largest logit and feature."""
    found, expected = engine(inputs), classifier.forward(inputs)[:2]
    if classifier.binary:
        expected = expected[0][:, 1:], expected[1]
    assert [each.shape for each in found] == [each.shape for each in expected]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


# --- threads


@pytest.mark.parametrize("engine", [None, EagerEngine])
@pytest.mark.parametrize("kind", NETWORKS)
def test_threads_get_what_one_thread_gets_and_the_network_stays_as_it_was(engine, kind, device):
    classifier = wrapped(kind, device)
    classifier.network.train()
    before = state_of(classifier.network)
    running = classifier if engine is None else replace(classifier, engine=engine(*engine_parts(classifier)))
    expected = [running.forward(inputs)[:2] for inputs in INPUTS]

    def fifty(first: int) -> bool:
        answers = ((call % 8, running.forward(INPUTS[call % 8])) for call in range(first, first + 50))
        return all(torch.equal(got, want) for i, each in answers for got, want in zip(each, expected[i], strict=False))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fifty, range(4))) == [True] * 4
    assert state_of(classifier.network) == before


class Keeping(nn.Module):
    """Keeps a result in the module and reads it later, after another thread may have run."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.conv, self.fc, self.barrier = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), [barrier]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = self.conv(x)
        if threading.current_thread() is not threading.main_thread():
            self.barrier[0].wait(10)
        return self.fc(self.kept.mean((2, 3)))

    def __deepcopy__(self, memo: dict[int, object]) -> Keeping:
        twin = Keeping(self.barrier[0])
        twin.load_state_dict(self.state_dict())
        return twin


def test_a_network_that_keeps_results_keeps_those_of_each_thread_apart(device):
    classifier = cam.wrap(Keeping(threading.Barrier(2)).to(device), input_size=32)
    engine = EagerEngine(*engine_parts(classifier))
    alone = [engine(inputs)[0] for inputs in (BATCH, 2 * BATCH)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda inputs: engine(inputs)[0], (BATCH, 2 * BATCH)))
    assert [torch.equal(a, b) for a, b in zip(alone, together, strict=True)] == [True, True]


# --- BatchNorm


class Shared(nn.Module):
    """The result of the convolution is read by the BatchNorm and by the addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc((x + F.relu(self.norm(x))).mean((2, 3)))


class EndsInNorm(nn.Module):
    """The features are the result of the BatchNorm, which follows the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(("build", "left"), [(NETWORKS["gap-linear"], 0), (Shared, 1), (EndsInNorm, 1)])
def test_batchnorm_is_folded_where_that_changes_nothing(build, left, device):
    network = build().to(device).eval()
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    classifier = cam.wrap(network, input_size=32)
    engine = EagerEngine(*engine_parts(classifier))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in engine.network.modules()) == left
    assert missed(engine, classifier, BATCH) < 1e-5


# --- the engines there are


def onnxruntime_or_skip(device: torch.device) -> None:
    for library in LIBRARIES:
        pytest.importorskip(library, reason=f"{library} is not installed: pip install gapcam[onnxruntime]")
    if device.type != "cpu":
        pytest.skip("onnxruntime runs on the CPU")


@pytest.mark.parametrize("kind", ["conv-gap", "gap-norm-linear"])
def test_onnxruntime_gives_what_eager_gives(kind, device):
    onnxruntime_or_skip(device)
    classifier = wrapped(kind, device)
    engine = make_engine("onnxruntime", *engine_parts(classifier))
    for number, height, width in ((3, 32, 32), (1, 32, 32), (2, 40, 56), (2, 24, 32)):
        assert missed(engine, classifier, random_inputs(3, (3, height, width))[:number]) < 1e-4
    assert engine.reason == ""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: engine(BATCH)[0], range(40)))
    assert all(torch.equal(found[0], each) for each in found)


class Blocks(nn.Module):
    """A row of tokens from a number of places that is recorded with the network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 8, 8), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).relu()
        places = torch.arange(x.shape[2] * x.shape[3]).view(1, 1, *x.shape[2:]) / 100
        return self.fc((x + places).mean((2, 3)))


def test_sizes_that_a_translation_does_not_know_go_to_eager(device):
    onnxruntime_or_skip(device)
    classifier = cam.wrap(Blocks(), input_size=32)
    engine = make_engine("onnxruntime", *engine_parts(classifier))
    assert missed(engine, classifier, BATCH) < 1e-4
    assert engine.reason == ""
    assert missed(engine, classifier, random_inputs(2, (3, 40, 56))) < 1e-4
    assert "for inputs of 40 x 56" in engine.reason


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_compile_gives_what_eager_gives(device):
    classifier = wrapped(device=device)
    engine = make_engine("compile", *engine_parts(classifier))
    for number in (3, 1, 4):
        assert missed(engine, classifier, random_inputs(4, (3, 32, 32))[:number]) < 1e-4
    assert engine.reason == ""
    assert missed(engine, classifier, INPUTS[1]) < 1e-4
    assert "compiled for inputs of 32 x 32" in engine.reason


@pytest.mark.parametrize(
    ("pictures", "installed", "name"), [(10**6, True, "onnxruntime"), (10**6, False, "eager"), (10, True, "eager")]
)
def test_auto_takes_what_pays(monkeypatch, pictures, installed, name):
    monkeypatch.setattr("cam.engines.checked._missing", lambda: [] if installed else ["onnx"])
    monkeypatch.setattr("cam.engines.export.onnxruntime", lambda eager, shape: eager)
    assert make_engine("auto", *engine_parts(wrapped()), pictures=pictures).name == name


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("cam.engines.checked.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UsageError, match=r"needs onnxscript, which is not installed.*gapcam\[onnxruntime\]"):
        make_engine("onnxruntime", *engine_parts(wrapped()))


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    heavy = ("onnxruntime", "onnx", "torch._inductor", "torch._dynamo")
    code = f"import sys, cam.engines; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "precision", "sentence"),
    [
        ("openvino", "float32", "--engine must be one of auto, eager, compile, onnxruntime, got 'openvino'."),
        ("eager", "int8", "--precision must be one of float32, bfloat16, float16, got 'int8'."),
        ("eager", "bfloat16", "--precision bfloat16 is slower than float32 on cpu, and inexact. Use"),
    ],
)
def test_what_there_is_not_is_a_usage_error(name, precision, sentence):
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
    assert 1e-5 < missed(engine, classifier, BATCH) < 0.05
