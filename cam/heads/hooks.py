"""Running a network without changing it, and taking its features during one forward pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cam.errors import ModelError
from cam.heads.head import Site
from cam.heads.outputs import find_logits

# Inputs (N, channels, H, W) -> logits (N, C) and features (N, K, h, w); several threads may call it at once.
Engine: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
network_lock = threading.RLock()  # all threads share a network's training flags and hooks


class _Eager:
    """The compiler's stance, which all threads share: eager while any thread needs it."""

    lock = threading.Lock()
    users = 0
    undo = ExitStack()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run code compiled by `torch.compile` or `nn.Module.compile` as it was written, so that its calls are seen."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes a second
        yield
        return
    with _Eager.lock:
        if _Eager.users == 0:
            _Eager.undo.enter_context(torch.compiler.set_stance("force_eager"))
        _Eager.users += 1
    try:
        yield
    finally:
        with _Eager.lock:
            _Eager.users -= 1
            if _Eager.users == 0:
                _Eager.undo.close()


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode without gradients, one thread at a time, and restore its training flags."""
    with network_lock:
        flags = [(module, module.training) for module in network.modules()]
        try:
            network.eval()
            with torch.no_grad(), uncompiled():
                yield
        finally:
            for module, training in flags:
                module.training = training


def operation_name(func: Callable[..., Any]) -> str:
    """Short name of a torch function: `relu_`, `conv2d`, `add`."""
    return str(getattr(func, "__name__", func)).partition(".")[0]  # without the overload, as in add.Tensor


class FeatureHook(TorchFunctionMode):
    """Hooks on the layer of a site that return the features with the logits, for a network in evaluation mode.

    While the layer runs, every call is seen. A hook serves one call at a time.
    """

    def __init__(self, network: nn.Module, site: Site) -> None:
        super().__init__()
        self.network, self.site = network, site
        self._count = 0
        self._results: list[Tensor] = []
        self._active = ExitStack()
        layer = network.get_submodule(site.layer)
        self._handles = (
            layer.register_forward_pre_hook(lambda *_: self._active.enter_context(self) and None, prepend=True),
            layer.register_forward_hook(lambda *_: self._active.close(), always_call=True),
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if operation_name(func) != self.site.operation:
            return func(*args, **(kwargs or {}))
        features, is_site = None, self._count == self.site.occurrence
        self._count += 1
        if is_site and self.site.argument is not None:
            features = tree_leaves((args, kwargs or {}))[self.site.argument].clone()
        out = func(*args, **(kwargs or {}))
        if is_site and self.site.argument is None and isinstance(out, Tensor):
            features = out.clone()  # the network may change it in place later
        self._results += [] if features is None else [features]
        return out

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network once: logits (N, C) and features (N, K, h, w)."""
        logits = find_logits(self._run(inputs), inputs.shape[0])
        return logits, self._features(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Run the network for the features alone; it may fail after them, as fixed pools do at another input size."""
        try:
            self._run(inputs)
        except Exception:
            if not self._results:
                raise
        return self._features(inputs)

    def _run(self, inputs: Tensor) -> Any:
        self._count = 0
        self._results.clear()
        with self._active:
            return self.network(inputs)

    def _features(self, inputs: Tensor) -> Tensor:
        site = self.site
        if not self._results:
            raise ModelError(
                f"The network did not make the call {site.operation!r} in layer {site.layer!r} that gives the features",
                "Give inputs of the size the network was made for, or report the network",
            )
        return site.to_grid(self._results[0], (inputs.shape[-2], inputs.shape[-1]))

    def remove(self) -> None:
        """Remove the hooks from the network."""
        for handle in self._handles:
            handle.remove()


@contextmanager
def feature_hook(network: nn.Module, site: Site, *, gradients: bool = False) -> Iterator[FeatureHook]:
    """Hook a network in evaluation mode, one thread at a time, and remove the hooks afterwards."""
    with eval_mode(network), torch.set_grad_enabled(gradients):
        hook = FeatureHook(network, site)
        try:
            yield hook
        finally:
            hook.remove()


def forward(network: nn.Module, site: Site, inputs: Tensor, *, gradients: bool = False) -> tuple[Tensor, Tensor]:
    """Run a network once on (N, channels, H, W) of its own dtype and device: logits (N, C), features (N, K, h, w).

    It adds only one pair of hooks, around the layer of the site, which are removed afterwards, also after an
    exception.
    """
    with feature_hook(network, site, gradients=gradients) as hook:
        return hook(inputs)
