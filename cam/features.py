"""Where in a network the last spatial features are, and how to take them during one forward pass."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cam.errors import ModelError
from cam.outputs import find_logits

# Inputs (N, channels, H, W) -> logits (N, C) and features (N, K, h, w); may be called from several threads at once.
Engine: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Site:
    """One call inside a network whose result are the features; sites are equal when the call is the same.

    Attributes:
        layer: name of the innermost module that makes the call, "" for the network itself.
        operation: name of the function called, such as `relu_`.
        occurrence: which of the calls of that operation made while the layer runs, from 0, in one forward pass.
        channel: dimension of the tensor that holds the channels.
        tokens: how many tokens in front and at the end are no places (class and register tokens), where the places
            are a row of tokens; else None.
    """

    layer: str
    operation: str
    occurrence: int
    channel: int = field(default=1, compare=False)
    tokens: tuple[int, int] | None = field(default=None, compare=False)

    def to_grid(self, tensor: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Lay the tensor taken at this site out as features (N, K, h, w).

        Args:
            tensor: what the call returned, (N, ...), channels and places in this site's own order.
            input_size: (H, W) of the network's input, whose aspect tells how tokens stand in rows.

        Example:
            >>> Site("", "relu", 0, channel=2, tokens=(1, 0)).to_grid(torch.zeros(1, 7, 16), (64, 96)).shape
            torch.Size([1, 16, 2, 3])
        """
        tensor = tensor.movedim(self.channel, 1)
        if self.tokens is None:
            return tensor
        front, end = self.tokens
        tokens = tensor[:, :, front : tensor.shape[2] - end]
        return tokens.reshape(*tokens.shape[:2], *grid_of(tokens.shape[2], input_size))


def grid_of(places: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Arrange a number of places in rows and columns with the aspect of the input.

    Example:
        >>> grid_of(6, (64, 96))
        (2, 3)
    """
    height, width = input_size
    pairs = [(rows, places // rows) for rows in range(1, places + 1) if places % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] * width / (pair[1] * height))))


class _Taker(TorchFunctionMode):
    """Keep the result of the wanted call."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.seen = 0
        self.taken: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = operation_name(func)
        if name == self.site.operation:
            if self.seen == self.site.occurrence and isinstance(out, Tensor):
                self.taken = out.clone()  # the network may change it in place later
            self.seen += 1
        return out


def operation_name(func: Callable[..., Any]) -> str:
    """Name a torch function the way a person would: `relu_`, `conv2d`, `add`."""
    return str(getattr(func, "__name__", func))


class _Stance:
    """How many are running a network as it was written; the stance of torch's compiler is one for all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.undo = ExitStack()

    def take(self) -> None:
        with self.lock:
            if self.users == 0:
                self.undo.enter_context(torch.compiler.set_stance("force_eager"))
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.undo.close()


_STANCE = _Stance()
_BORROWED = threading.RLock()  # a network has one set of training flags and hooks for all threads


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run what `torch.compile` and `nn.Module.compile` have compiled as it was written, so that its calls are seen."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and it takes a second to import
        yield
        return
    _STANCE.take()
    try:
        yield
    finally:
        _STANCE.leave()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation without gradients, and put every module's training flag back afterwards.

    One thread at a time does so; the others wait.
    """
    with _BORROWED:
        flags = [(module, module.training) for module in network.modules()]
        try:
            network.eval()
            with torch.no_grad(), uncompiled():
                yield
        finally:
            for module, training in flags:
                module.training = training


class Tap:
    """A pair of hooks around the layer of a site, which take the features of every pass of one thread.

    Args:
        network: in evaluation mode.
        site: where the features are.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> logits, features = Tap(network, Site("0", "conv2d", 0))(torch.zeros(1, 3, 8, 8))
        >>> features.shape
        torch.Size([1, 4, 6, 6])
    """

    def __init__(self, network: nn.Module, site: Site) -> None:
        self.network, self.site = network, site
        self._taker = _Taker(site)
        self._entered = ExitStack()
        layer = network.get_submodule(site.layer)
        self._hooks = (
            layer.register_forward_pre_hook(lambda *_: self._enter(), prepend=True),
            layer.register_forward_hook(lambda *_: self._entered.close(), always_call=True),
        )

    def _enter(self) -> None:
        self._entered.enter_context(self._taker)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network once: logits (N, C) and features (N, K, h, w).

        Raises:
            ModelError: the call of the site was not made in this pass.
        """
        site, self._taker = self.site, _Taker(self.site)
        with self._entered:
            logits = find_logits(self.network(inputs))
        if self._taker.taken is None:
            raise ModelError(
                f"The call {site.operation!r} in layer {site.layer!r} that gives the features was not made this time",
                "Give inputs of the size the network was made for, or report the network",
            )
        height, width = inputs.shape[-2:]
        return logits, site.to_grid(self._taker.taken, (height, width))

    def remove(self) -> None:
        """Take the hooks off the network."""
        for hook in self._hooks:
            hook.remove()


def forward(network: nn.Module, site: Site, inputs: Tensor, *, gradients: bool = False) -> tuple[Tensor, Tensor]:
    """Run a network once and take its class scores and the features on the way.

    The only thing added to the bare forward pass is one pair of hooks around the layer of the site; they are
    gone afterwards, also after an exception. Of several threads one at a time has the network.

    Args:
        network: a classifier, not wrapped.
        site: where the features are.
        inputs: (N, 3, H, W), in the network's own dtype and on its device.
        gradients: whether to record them.

    Returns:
        Logits (N, C) and features (N, K, h, w), in the network's dtype.

    Raises:
        ModelError: the call of the site was not made in this pass.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> logits, features = forward(network, Site("0", "conv2d", 0), torch.zeros(1, 3, 8, 8))
        >>> features.shape
        torch.Size([1, 4, 6, 6])
    """
    with evaluating(network), torch.set_grad_enabled(gradients):
        tap = Tap(network, site)
        try:
            return tap(inputs)
        finally:
            tap.remove()
