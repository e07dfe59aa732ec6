"""The proof accepts exact maps and no others, in the network's own precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from odd_heads import EXACT, SHAPE, Network, fc
from torch import nn
from torch.nn import functional as F

from cam.errors import HeadError
from cam.heads.copies import random_inputs
from cam.heads.find import find_head
from cam.heads.prove import Proof, prove_head


def network_and_head(device, name="functional_relu"):
    network = EXACT[name].build().to(device)
    return network, find_head(network, SHAPE).exact()


@pytest.mark.parametrize("change", ["weight", "bias", "kind"])
def test_a_head_that_is_a_little_wrong_is_refused(change, device):
    network, head = network_and_head(device, "layer_norm" if change == "kind" else "functional_relu")
    wrong = {
        "weight": lambda: replace(head, weight=1.01 * head.weight),
        "bias": lambda: replace(head, bias=head.bias + 0.01),
        "kind": lambda: replace(head, kind="gap-linear"),
    }[change]()
    with pytest.raises(HeadError, match="miss the class scores"):
        prove_head(network, wrong, SHAPE)
    assert prove_head(network, head, SHAPE).error <= 1e-5


def test_a_network_that_is_not_deterministic_is_refused(device):
    network = Network(
        lambda net, x: net.fc(F.relu(net.conv(x)).mean((2, 3))) + torch.randn(5, device=x.device),
        conv=nn.Conv2d(3, 6, 3),
        fc=nn.Linear(6, 5),
    ).to(device)
    quiet = Network(lambda net, x: net.fc(F.relu(net.conv(x)).mean((2, 3))), conv=network.conv, fc=network.fc)
    with pytest.raises(HeadError, match="same finite scores twice"):
        prove_head(network, find_head(quiet, SHAPE).exact(), SHAPE)


def test_weights_that_are_not_numbers_are_refused(device):
    network, head = network_and_head(device)
    nn.init.constant_(network.conv.weight, float("nan"))
    with pytest.raises(HeadError, match=r"by nan of the largest"):
        prove_head(network, head, SHAPE)
    nn.init.constant_(network.fc.weight, float("nan"))
    assert "not finite" in find_head(network, SHAPE).reason


def test_huge_features_are_accepted(device):
    network, _ = network_and_head(device)
    with torch.no_grad():
        network.conv.weight.mul_(1e6)
        network.fc.weight[0] -= network.fc.weight.mean()
    proof = prove_head(network, find_head(network, SHAPE).exact(), SHAPE, 16, in_float64=True)
    assert proof.error64 <= 1e-4


def test_a_network_that_insists_on_float32(device):
    network = Network(
        lambda net, x: net.fc(F.relu(net.conv(x.float())).mean((2, 3))), conv=nn.Conv2d(3, 6, 3), fc=nn.Linear(6, 5)
    ).to(device)
    head_report = find_head(network, SHAPE)
    assert head_report.kind == "gap-linear"
    head = head_report.exact()
    torch.testing.assert_close((head.weight, head.bias), fc(network), rtol=1e-5, atol=1e-5)
    proof = prove_head(network, head, SHAPE, 7, in_float64=True)
    assert proof == Proof(7, proof.error, None)
    assert proof.error <= 1e-5


def test_random_inputs_differ_and_are_repeatable():
    inputs = random_inputs(4, (3, 32, 48))
    assert torch.equal(inputs, random_inputs(4, (3, 32, 48)))
    assert not torch.equal(inputs, random_inputs(4, (3, 32, 48), seed=1))
    contrast = inputs.std((2, 3)).mean(1)
    assert contrast[-1] > 2 * contrast[0]
    steps = (inputs.diff(dim=3).square().mean((1, 2, 3)) / inputs.var((2, 3)).mean(1)).tolist()
    assert steps == sorted(steps)  # from coarse to fine grain
