"""What all odd heads are made of: a registry of forward passes and the layers they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (3, 16, 24)
K, C, GRID = 6, 5, (8, 12)
PLACES = GRID[0] * GRID[1]

EXACT: dict[str, Odd] = {}
INEXACT: dict[str, Odd] = {}
Layers = Callable[[], nn.Module]


class Network(nn.Module):
    def __init__(self, run: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


@dataclass(frozen=True)
class Odd:
    """A network to build, the kind of its head, and how to know its weight (C, K) and bias (C,)."""

    kind: str
    run: Callable[[Any, Tensor], Any]
    layers: dict[str, Layers]
    known: Callable[[Any], tuple[Tensor, Tensor]]
    change: Callable[[nn.Module], Any]

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        base = {"conv": lambda: nn.Conv2d(3, K, 3, stride=2, padding=1), "fc": lambda: nn.Linear(K, C)}
        network = Network(self.run, **{name: make() for name, make in (base | self.layers).items()}).eval()
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
                for tensor in (*module.parameters(), *module.buffers()):
                    if tensor.is_floating_point():
                        nn.init.uniform_(tensor, 0.5, 2)
        self.change(network)
        return network


def fc(network: Any) -> tuple[Tensor, Tensor]:
    return network.fc.weight, network.fc.bias


def identity(network: Any) -> tuple[Tensor, Tensor]:
    return torch.eye(C), torch.zeros(C)


def tokens_of(net: Any, x: Tensor) -> Tensor:
    return net.norm(net.conv(x).flatten(2).transpose(1, 2))


def add(
    name: str,
    kind: str,
    run: Callable[[Any, Tensor], Any],
    known: Callable[[Any], tuple[Tensor, Tensor]] = fc,
    change: Callable[[nn.Module], Any] = id,
    **layers: Layers,
) -> None:
    """Register a forward pass `run(network, inputs)`."""
    exact = kind in ("gap-linear", "conv-gap", "gap-norm-linear")
    (EXACT if exact else INEXACT)[name] = Odd(kind, run, layers, known, change)


def on_features(name: str, kind: str, run: Callable[[Any, Tensor], Any], **options: Any) -> None:
    """Register what happens to the features (N, K, h, w) after a ReLU."""
    add(name, kind, lambda net, x: run(net, F.relu(net.conv(x))), **options)


def on_pooled(name: str, kind: str, run: Callable[[Any, Tensor], Any], **options: Any) -> None:
    """Register what happens to the pooled features (N, K)."""
    on_features(name, kind, lambda net, features: run(net, features.mean((2, 3))), **options)


def odd(kind: str, **options: Any) -> Callable[[Callable[[Any, Tensor], Any]], Callable[[Any, Tensor], Any]]:
    """Register a function as a forward pass under its own name."""

    def register(run: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
        add(run.__name__, kind, run, **options)
        return run

    return register
