"""Where in a network the last spatial features are, and how to take them during one forward pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cam.errors import ModelError
from cam.heads.head import Site
from cam.heads.outputs import find_logits

# Inputs (N, channels, H, W) -> logits (N, C) and features (N, K, h, w); may be called from several threads at once.
Engine: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


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
def eval_mode(network: nn.Module) -> Iterator[None]:
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


class FeatureHook:
    """A pair of hooks around the layer of a site, which take the features of every pass of one thread.

    Args:
        network: in evaluation mode.
        site: where the features are.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> logits, features = FeatureHook(network, Site("0", "conv2d", 0))(torch.zeros(1, 3, 8, 8))
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
    with eval_mode(network), torch.set_grad_enabled(gradients):
        tap = FeatureHook(network, site)
        try:
            return tap(inputs)
        finally:
            tap.remove()
