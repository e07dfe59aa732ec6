"""Networks that cannot be copied, watched or run are refused in one sentence, or explained all the same."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import check_message
from torch import Tensor, nn
from torch.nn import functional as F

import cam
from cam.engines.checked import make_engine
from cam.errors import ModelError, UsageError
from cam.tensors import hash_tensors

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


class Net(nn.Module):
    """Features are a convolution with a ReLU; the class scores are a linear layer on their mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU()), nn.Linear(8, 3)

    def pool(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(x))


def with_attribute(value: Callable[[Net], object]) -> Net:
    network = Net()
    network.something = value(network)
    return network


def scripted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def frozen() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.script(Net().eval()))


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, torch.qint8)


def int8_weight() -> nn.Module:
    network = Net()
    network.fc.weight = nn.Parameter(network.fc.weight.to(torch.int8), requires_grad=False)
    return network


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


class BrokenState(Net):
    def get_extra_state(self) -> object:
        raise RuntimeError("no state")


class Trainer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Net()

    def train(self, trainer: object = None, **arguments: object) -> None:
        raise AssertionError("it trains")


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def locked_layer() -> nn.Module:
    network = Net()
    network.body[0].something = Locked()
    return network


class SqueezedBeforeNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(F.adaptive_avg_pool2d(self.body(x), 1).squeeze()))


def volumes(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv3d(channels, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(Net().eval(), (torch.zeros(2, 3, 32, 32),))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "scripted child": (lambda: nn.Sequential(scripted(Net().body), nn.Flatten()), "Layer '0' is a RecursiveScript"),
    "frozen child": (lambda: nn.Sequential(frozen()), "Layer '0' is a RecursiveScript"),
    "quantized": (quantized, "Layer 'fc' is a quantized Linear"),
    "int8 weight": (int8_weight, "'fc.weight' is quantized.*int8"),
    "meta": (on_meta, "'body.0.weight' is on the device meta"),
    "exported layer": (lambda: nn.Sequential(exported().module()), "Layer '0' comes from torch.export"),
    "exported program": (exported, "must be a torch.nn.Module, got ExportedProgram"),
    "state dict": (lambda: Net().state_dict(), "must be a torch.nn.Module, got OrderedDict"),
    "broken state": (BrokenState, "state_dict\\(\\) fails: RuntimeError: no state"),
    "trainer": (Trainer, "Trainer, whose train\\(\\) trains it.*\\.model"),
    "object with a lock": (lambda: with_attribute(lambda _: Locked()), "'something' .*copied.*lock"),
    "object with a lock in a layer": (locked_layer, "'body.0.something' .*copied.*lock"),
    "volumes of three channels": (lambda: volumes(3), "volumes or video"),
    "volumes of one channel": (lambda: volumes(1), "volumes or video"),
    "squeezed before a norm": (SqueezedBeforeNorm, "on two images, but not on one alone: .*flatten"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_is_not_supported_is_refused_in_one_sentence(name):
    build, message = REFUSED[name]
    with pytest.raises((ModelError, UsageError), match=message) as raised:
        cam.wrap(build(), input_size=32)
    check_message(str(raised.value))


@pytest.mark.parametrize("name", ["scripted child", "trainer", "meta"])
def test_a_factory_of_one_is_refused_before_it_is_changed(name, monkeypatch):
    monkeypatch.setitem(globals(), "factory", REFUSED[name][0])
    with pytest.raises(ModelError, match=REFUSED[name][1]):
        cam.load_classifier(f"{__name__}:factory", device="cpu", input_size=32)


class WithState(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        assert state == {"version": 2}


class Squeezed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.body(x), 1).squeeze())


class ProbabilitiesFirst(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = super().forward(x)
        return logits.softmax(1), logits


def with_sparse_buffer() -> nn.Module:
    network = Net()
    network.register_buffer("graph", torch.eye(3).to_sparse())
    return network


class ReadyToQuantize(Net):
    def __init__(self) -> None:
        super().__init__()
        self.adder = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.adder.add(self.pool(x), torch.zeros(8)))


def with_scripted_activation() -> nn.Module:
    network = Net()
    network.body[1] = scripted(network.body[1])
    return network


EXPLAINED: dict[str, Callable[[], nn.Module]] = {
    "lock": lambda: with_attribute(lambda _: threading.Lock()),
    "lock in a dictionary": lambda: with_attribute(lambda _: {"a": [threading.Lock()]}),
    "computed tensors in a list": lambda: with_attribute(lambda network: [network.fc.weight + n for n in range(2)]),
    "generator": lambda: with_attribute(lambda _: (number for number in range(3))),
    "random generator": lambda: with_attribute(lambda _: torch.Generator()),
    "computed tensor": lambda: with_attribute(lambda network: 2 * network.fc.weight),
    "extra state": WithState,
    "sparse buffer": with_sparse_buffer,
    "squeezed": Squeezed,
    "scripted activation": with_scripted_activation,
    "ready to be quantized": ReadyToQuantize,
    "probabilities first": ProbabilitiesFirst,
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_odd_network_is_explained_like_a_plain_one(name):
    network = EXPLAINED[name]()
    classifier = cam.wrap(network, input_size=32)
    assert classifier.head.weight.equal(network.fc.weight.detach())
    parts = classifier.network, classifier.head, (3, 32, 32)
    expected = [cam.explain(cam.wrap(Net(), input_size=32), IMAGE)] * 2
    actual = [
        cam.explain(model, IMAGE) for model in (classifier, replace(classifier, engine=make_engine("eager", *parts)))
    ]
    for one, other in zip(actual, expected, strict=True):
        assert one.class_idx == other.class_idx
        np.testing.assert_allclose(one.cam, other.cam, rtol=1e-5, atol=1e-5)


def test_what_is_no_tensor_does_not_count_in_the_hash_of_tensors():
    assert hash_tensors(WithState().state_dict()) == hash_tensors(Net().state_dict())
    assert hash_tensors({"a": torch.eye(2)}) == hash_tensors({"a": torch.eye(2).to_sparse()})
    assert hash_tensors({"a": torch.eye(2)}) != hash_tensors({"a": torch.ones(2, 2)})


def test_a_checkpoint_of_a_network_with_extra_state_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "factory", WithState)
    torch.save(WithState().state_dict(), tmp_path / "a.pt")
    classifier = cam.load_classifier(f"{__name__}:factory", weights=tmp_path / "a.pt", device="cpu", input_size=32)
    assert classifier.head.classes == 3
