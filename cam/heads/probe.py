"""Experiments on a network: record every call, replace a call's result, and hold normalization scales constant."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from cam.heads.head import Site
from cam.heads.hooks import operation_name, uncompiled
from cam.heads.normalization import HELD, Call, hold_scale
from cam.heads.outputs import find_logits
from cam.tensors import version_of

# Calls that take nearly all of a network's time.
_COSTLY = {"conv2d", "max_pool2d", "linear", "matmul", "bmm", "scaled_dot_product_attention", "conv_transpose2d"}


_NOISE = 65537  # random numbers in place of a result, repeated; a prime, so that no two images get the same


def _has_equal_norms(x: Tensor) -> bool:
    """True if all images have the same norm, as behind a normalization, and not behind a gate."""
    rows = x.detach().flatten(1)
    norms = [torch.linalg.vector_norm(rows, p, 1) for p in (1, 2, torch.inf)]
    return any(bool(norm.max() - norm.min() <= 1e-2 * norm.max()) for norm in norms)


_token = "_cam_token"  # attribute of tensors that says which probe knows them, and in which version


class CallCounter:
    """Counts the calls of one forward pass, to tell their sites; `stack` is from `track_modules`."""

    def __init__(self, stack: list[str]) -> None:
        self.stack = stack
        self.counts: Counter[tuple[str, str]] = Counter()  # by layer and operation

    def next_site(self, operation: str) -> Site:
        """The site of the next call of an operation."""
        site = Site(self.stack[-1], operation, self.counts[self.stack[-1], operation])
        for layer in set(self.stack):
            self.counts[layer, operation] += 1
        return site


class Probe(TorchFunctionMode):
    """Sees every call of one forward pass, functional ones too.

    It replaces the result or the argument of the call at a site (`inject`) and holds the scales of normalizations
    constant (`hold`). Before that site, costly calls return random numbers of the shapes that an `earlier` pass
    recorded: the head does not depend on what the layers before it compute, so they need not run. Those that the logits
    do not depend on never run.
    """

    def __init__(
        self,
        stack: list[str],
        batch: int,
        inject: tuple[Site, Tensor] | None = None,
        hold: bool = False,
        earlier: Probe | None = None,
    ) -> None:
        super().__init__()
        self.batch, self.inject, self.hold = batch, inject, hold
        self.calls_made = CallCounter(stack)
        self.skipped: dict[Site, torch.Size] = earlier.shapes if earlier else {}
        self.unused: set[Site] = earlier.unused if earlier else set()
        self.calls: list[tuple[Site, torch.Size]] = []  # that could return or take the features, in order
        self.shapes: dict[Site, torch.Size] = {}  # of the results of costly calls
        self.nodes: dict[Site, Node | None] = {}  # of these calls, in the autograd graph
        self.dtypes = {torch.float64}  # of all results
        self.injected = False
        self.held = False  # True if a scale behind the site was held constant
        self.gated = False  # True if one was, by which the images get other norms: no normalization's
        self.generator = torch.Generator().manual_seed(3)
        self._gradients = torch.is_grad_enabled()
        self._token = object()
        self._taken: tuple[Tensor, Tensor] | None = None  # the argument at the site, and what replaces it

    def __torch_function__(
        self, func: Call, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch._C._set_grad_enabled:
            return None  # a no_grad block inside the network would hide the head from autograd
        site = self.calls_made.next_site(operation_name(func))
        if self._gradients and not (torch.is_grad_enabled() or torch.is_inference_mode_enabled()):
            return func(*args, **(kwargs or {}))  # inside an autograd.Function, which has its own gradient
        # inference_mode would hide it too. Autograd's own copies survive in-place calls and override those of
        # checkpointing; nothing goes back through a pass that only records.
        pack = torch.clone if self.inject else lambda _: None
        with torch.inference_mode(False), saved_tensors_hooks(pack, lambda saved: saved):
            return self._record(site, func, args, kwargs or {})

    def know(self, tensors: Iterable[Tensor]) -> None:
        """Take no argument among these tensors for features, until something writes into it."""
        for tensor in tensors:
            vars(tensor)[_token] = self._token, version_of(tensor)

    def _record(self, site: Site, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = self._look_at_arguments(site, args, kwargs)
        out = self._call(site, func, args, kwargs)
        if not isinstance(out, Tensor):
            return out
        if out.is_floating_point():
            self.dtypes.add(out.dtype)
        if site.operation in _COSTLY:
            self.shapes[site], self.nodes[site] = out.shape, out.grad_fn
        if self.inject and self.inject[0] == site:
            self.injected = True
            injected = self.inject[1].to(out.dtype)
            in_place = any(out is argument for argument in args)  # then the caller keeps its own argument
            out = out.copy_(injected) if in_place else injected.clone()
        self.know([out])
        self._add(site, out)
        return out

    def _look_at_arguments(self, site: Site, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Add arguments that no call returned, as an autograd.Function or a scripted function does, or inject one."""
        if self.inject and self.inject[0].argument is None:
            return args, kwargs
        leaves, spec = tree_flatten((args, kwargs))
        for index, leaf in enumerate(leaves):
            if not isinstance(leaf, Tensor):
                continue
            is_known = vars(leaf).get(_token) == (self._token, version_of(leaf))
            if not (self.inject or is_known or site.operation in ("__get__", "__set__")):  # attributes
                self.know([leaf])
                self._add(replace(site, argument=index), leaf)
            if self.inject and self.inject[0] == replace(site, argument=index):
                self.injected = True
                self._taken = leaf, self.inject[1].to(leaf.dtype).clone()
            if self._taken and leaf is self._taken[0]:
                leaves[index] = self._taken[1]
        replaced: tuple[tuple[Any, ...], dict[str, Any]] = tree_unflatten(leaves, spec)
        return replaced

    def _add(self, site: Site, tensor: Tensor) -> None:
        if (
            tensor.is_floating_point()
            and tensor.ndim in (3, 4)
            and tensor.shape[0] == self.batch
            and sum(size > 1 for size in tensor.shape[1:]) >= 2  # channels, and more than one position
        ):
            self.calls.append((site, tensor.shape))
            self.nodes[site] = tensor.grad_fn

    def keep_used(self, logits: Tensor) -> None:
        """Forget the calls whose results the logits do not depend on, such as those of a decoder."""
        if logits.grad_fn is None:
            return
        used: set[Node | None] = {None}  # what is cut off from the graph may count
        waiting = [logits.grad_fn]
        while waiting:
            if (node := waiting.pop()) not in used:
                used.add(node)
                waiting += [following for following, _ in node.next_functions if following is not None]
        self.calls = [(site, shape) for site, shape in self.calls if self.nodes[site] in used]
        self.unused = {site for site in self.shapes if self.nodes[site] not in used}

    def _call(self, site: Site, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if site in self.skipped and (not self.injected or site in self.unused):
            like = next(arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor))
            shape = self.skipped[site]
            noise = torch.randn(_NOISE, generator=self.generator).to(like)  # drawing more takes as long as a pass
            return noise.repeat(-(-shape.numel() // _NOISE))[: shape.numel()].view(shape)
        if not self.hold:
            return func(*args, **kwargs)
        held = hold_scale(site.operation, args, Tensor.detach)
        self.held |= self.injected and (held is not None or func in HELD)
        if held is None:
            return HELD[func](*args, **kwargs, hold=Tensor.detach) if func in HELD else func(*args, **kwargs)
        out = func(*held, **kwargs)
        self.gated |= self.injected and not _has_equal_norms(out)
        return out


@contextmanager
def track_modules(network: nn.Module) -> Iterator[list[str]]:
    """Yield a list of the names of the modules that are running, innermost last; remove the hooks afterwards."""
    stack = [""]
    handles = []
    for name, module in network.named_modules():
        if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
            handles.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Experiment:
    """An evaluation copy of a network, different inputs (N, channels, H, W), and what an earlier pass recorded."""

    network: nn.Module
    inputs: Tensor
    recorded: Probe | None = None

    def record(self) -> tuple[Tensor, Probe]:
        """Run the network once, unchanged: logits (N, C) and a probe with the calls that they depend on."""
        leaf = self.inputs.detach().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about gradients of what the network turns into numbers
            try:
                logits, probe = self.run(inputs=leaf.clone())
            except RuntimeError:  # it calls numpy(), which allows no gradients
                logits, probe = self.run()
        probe.keep_used(logits)
        return logits.detach(), probe

    def run(
        self, inject: tuple[Site, Tensor] | None = None, hold: bool = False, inputs: Tensor | None = None
    ) -> tuple[Tensor, Probe]:
        """Run the network once with other features at a site, always with gradients: logits (N, C) and the probe."""
        inputs = self.inputs if inputs is None else inputs
        with track_modules(self.network) as stack, uncompiled(), torch.enable_grad():
            probe = Probe(stack, len(inputs), inject, hold, self.recorded)
            probe.know([inputs, *self.network.parameters(), *self.network.buffers()])
            with probe:
                return find_logits(self.network(inputs), len(inputs)), probe
