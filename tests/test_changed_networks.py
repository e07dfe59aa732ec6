"""A network that was changed after it was wrapped is noticed, whatever changed it; one that was not is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import check_message
from torch import Tensor, nn

import cam
from cam.engines.checked import make_engine
from cam.errors import ModelError
from cam.runs.explainer import choose_engine
from cam.runs.options import RunOptions

IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 40, 4, 4), nn.BatchNorm2d(40), nn.ReLU())
        self.fc, self.factor = nn.Linear(40, 50), 1.0
        self.register_buffer("temperature", torch.ones(1), persistent=False)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("inputs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.inputs += len(x)
        return self.factor * self.fc(self.body(x).mean((2, 3))) / self.temperature


def train(network: nn.Module, fused: bool = False) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, fused=fused)
    network(torch.ones(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()


def forward_in_training_mode(network: nn.Module) -> None:
    with torch.no_grad():
        network.train()(torch.ones(2, 3, 16, 16))
    network.eval()


def load(network: nn.Module, factor: float) -> None:
    network.load_state_dict({name: factor * tensor for name, tensor in network.state_dict().items()})


def write(tensor: Tensor, value: float) -> None:
    with torch.no_grad():
        tensor.view(-1)[1] += value


CHANGES: dict[str, tuple[Callable[[Net], object], str]] = {
    "a training step": (train, "weights"),
    "a fused training step": (lambda net: train(net, fused=True), "weights"),
    "batch statistics": (forward_in_training_mode, "weights"),
    "another checkpoint": (lambda net: load(net, 1 + 1e-5), "weights"),
    "one weight": (lambda net: write(net.fc.weight, 1e-5), "weights"),
    "one bias": (lambda net: write(net.fc.bias, 1e-5), "weights"),
    "through data": (lambda net: net.fc.weight.data.mul_(1 + 1e-5), "weights"),
    "other data": (lambda net: setattr(net.fc.weight, "data", net.fc.weight.data + 1e-5), "weights"),
    "one weight through data": (lambda net: net.fc.weight.data[37, 11:12].add_(1e-5), "weights"),
    "through numpy": (lambda net: net.body[0].weight.detach().numpy().__imul__(1 + 1e-5), "weights"),
    "what no checkpoint holds": (lambda net: net.temperature.add_(1e-5), "weights"),
    "another precision": (lambda net: net.half().float(), "weights"),
    "another layer": (lambda net: setattr(net, "fc", copy.deepcopy(net.fc)), "layers"),
    "another activation": (lambda net: net.body.__setitem__(2, nn.GELU()), "layers"),
    "another parameter": (lambda net: setattr(net.fc, "bias", None), "weights"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed_as_what_it_is(name):
    classifier = cam.wrap(Net(), input_size=16)
    before = cam.explain(classifier, IMAGE)
    change, what = CHANGES[name]
    change(classifier.network)
    for use in (
        lambda: cam.explain(classifier, IMAGE),
        lambda: next(iter(cam.explain_all(classifier, [IMAGE]))).logit,
        lambda: classifier.to(torch.device("cpu")),
    ):
        with pytest.raises(
            ModelError, match=f"^The {what} of 'Net' changed after it was wrapped. Wrap it again"
        ) as error:
            use()
        check_message(str(error.value))
        assert "--fit" not in str(error.value)
    after = cam.explain(cam.wrap(classifier.network, input_size=16), IMAGE)
    assert after.completeness_error < 1e-5
    assert before.completeness_error < 1e-5


KEEPS: dict[str, Callable[[Net], object]] = {
    "nothing": lambda net: None,
    "modes": lambda net: net.train().eval().train(),
    "the same checkpoint": lambda net: load(net, 1),
    "another layout": lambda net: net.to(memory_format=torch.channels_last),
    "gradients": lambda net: net(torch.ones(2, 3, 16, 16)).sum().backward(),
    "a copy elsewhere": lambda net: net.fc.weight.data.clone().add_(1),
    "moved and back": lambda net: net.double().float(),
}


@pytest.mark.parametrize("name", KEEPS)
def test_what_leaves_the_weights_alone_is_not_taken_for_a_change(name):
    network = Net()
    network.forward = lambda x: network.fc(network.body(x).mean((2, 3)))  # without the count of calls
    network.eval()
    classifier = cam.wrap(network, input_size=16)
    before = cam.explain(classifier, IMAGE)
    KEEPS[name](network)
    if name == "modes":
        network.train()
    for _ in range(2):
        np.testing.assert_allclose(cam.explain(classifier, IMAGE).cam, before.cam, rtol=1e-5, atol=1e-6)


def test_what_the_network_writes_itself_is_not_taken_for_a_change():
    classifier = cam.wrap(Net(), input_size=16)
    with ThreadPoolExecutor(4) as pool:
        logits = list(pool.map(lambda _: cam.explain(classifier, IMAGE).logit, range(12)))
    assert max(logits) - min(logits) < 1e-6
    assert classifier.network.inputs >= classifier.network.calls >= 12


def test_a_changed_network_is_not_copied_into_an_engine():
    network = Net()
    classifier = cam.wrap(network, input_size=16)
    parts = network, classifier.head, (3, 16, 16)
    copied = replace(classifier, engine=make_engine("eager", *parts))
    before = cam.explain(copied, IMAGE).logit
    write(network.fc.bias, 0.5)
    assert cam.explain(copied, IMAGE).logit == before  # its own copy has not changed
    with pytest.raises(ModelError, match="Wrap it again"):
        choose_engine(classifier, RunOptions(engine="eager"), 100, 32)


def test_a_changed_attribute_shows_in_the_sums_of_the_maps():
    classifier = cam.wrap(Net(), input_size=16)
    classifier.network.factor = 2.0
    with pytest.raises(ModelError, match=r"miss the class scores by .*Wrap the network again"):
        cam.explain(classifier, IMAGE)


def test_a_copy_of_a_classifier_watches_its_own_network():
    classifier = cam.wrap(Net(), input_size=16)
    other = copy.deepcopy(classifier)
    write(classifier.network.fc.bias, 0.5)
    cam.explain(other, IMAGE)
    write(other.network.fc.bias, 0.5)
    with pytest.raises(ModelError, match="Wrap it again"):
        cam.explain(other, IMAGE)
