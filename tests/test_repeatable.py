"""Networks that answer differently twice, or differently alone and in a batch, are refused when they are loaded."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from odd_heads import EXACT, SHAPE, Network
from refusals import check_message
from torch import Tensor, nn
from torch.nn import functional as F

import cam
from cam.errors import ModelError
from cam.heads.find import find_head


def network(features: Callable[[Network, Tensor], Tensor], **layers: nn.Module) -> Network:
    torch.manual_seed(0)
    layers = {"conv": nn.Conv2d(3, 16, 3), "fc": nn.Linear(16, 5)} | layers
    return Network(lambda net, x: net.fc(features(net, x).mean((2, 3))), **layers)


own = torch.Generator().manual_seed(0)
RANDOM: dict[str, Callable[[Network, Tensor], Tensor]] = {
    "dropout": lambda net, x: F.dropout(net.conv(x), 0.5),
    "rare dropout": lambda net, x: F.dropout2d(net.conv(x), 0.05),
    "faint noise": lambda net, x: net.conv(x) + 1e-4 * torch.randn_like(x[:, :1, 2:, 2:]),
    "drop path": lambda net, x: net.conv(x) * (torch.rand(len(x), 1, 1, 1, device=x.device) > 0.3),
    "noise of numpy": lambda net, x: net.conv(x) + float(np.random.rand()),
    "noise of Python": lambda net, x: net.conv(x) + (random.random() < 0.5),
    "noise of its own generator": lambda net, x: net.conv(x) + torch.randn(1, generator=own).to(x),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_network_that_is_random_in_evaluation_mode_is_refused(name, device):
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    with pytest.raises(ModelError, match=r"other class scores each time.*self\.training") as raised:
        find_head(network(RANDOM[name]).to(device), SHAPE)
    check_message(str(raised.value))


DEPENDENT: dict[str, Callable[[], Network]] = {
    "no running statistics": lambda: network(
        lambda net, x: F.relu(net.norm(net.conv(x))), norm=nn.BatchNorm2d(16, track_running_stats=False)
    ),
    "statistics of the batch": lambda: network(
        lambda net, x: F.batch_norm(net.conv(x), net.mean, net.mean + 1, training=True), mean=nn.Buffer(torch.zeros(16))
    ),
    "largest of the batch": lambda: network(lambda net, x: F.relu(net.conv(x / x.max()))),
    "the first for all": lambda: network(lambda net, x: F.relu(net.conv(x[:1].expand_as(x)))),
    "the images before": lambda: network(lambda net, x: F.relu(net.conv(x.cumsum(0)))),
    "mean of the batch": lambda: network(lambda net, x: F.relu(net.conv(x - x.mean(0, keepdim=True)))),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_a_network_whose_scores_depend_on_the_batch_is_refused(name, device):
    with pytest.raises(ModelError, match="depend on the other images of the batch") as raised:
        cam.wrap(DEPENDENT[name]().to(device), input_size=32)
    assert ("layer 'norm'" in str(raised.value)) == (name == "no running statistics")
    check_message(str(raised.value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_network_that_draws_numbers_without_using_them_is_accepted(dtype, device):
    def features(net, x):
        torch.rand(1)
        return F.relu(net.norm(net.conv(x)))

    assert find_head(network(features, norm=nn.InstanceNorm2d(16)).to(device, dtype), SHAPE).kind == "gap-linear"


def test_casting_is_not_taken_for_chance(device):
    inner = EXACT["functional_relu"].build()

    def run(net, x):
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return net.inner(x).float()

    assert find_head(Network(run, inner=inner).to(device), SHAPE).kind == "gap-linear"
