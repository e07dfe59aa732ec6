"""The engine that runs the network as it was written: a private copy, laid out for speed."""

from __future__ import annotations

import copy
import threading
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cam.errors import ModelError
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.head import Head
from cam.heads.hooks import FeatureHook, uncompiled
from cam.tensors import device_and_dtype

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]


class EagerEngine:
    """A private copy of a network with hooks that stay; each thread has its own modules, which share the weights.

    BatchNorm is folded into the convolutions before it, and tensors have their channels last. The network and its
    head are on one device; inputs are (channels, H, W). With a precision below float32 only the layers use it: the
    logits are computed again from the features in float32.
    """

    name = "eager"
    reason = ""

    def __init__(
        self, network: nn.Module, head: Head, input_shape: tuple[int, int, int], precision: Precision = "float32"
    ) -> None:
        self.device, self.dtype = device_and_dtype(network)
        self.head = head
        self.low = None if precision == "float32" else getattr(torch, precision)
        inputs = random_inputs(2, input_shape).to(self.device, self.dtype)
        self.network = _folded(eval_copy(network, input_shape).to(self.device), head, inputs)
        self.network = self.network.to(memory_format=torch.channels_last)
        self._of_thread = threading.local()

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (N, C) and features (N, K, h, w)."""
        inputs = self.place(inputs)
        tap: FeatureHook | None = getattr(self._of_thread, "tap", None)
        if tap is None:
            self._of_thread.tap = tap = self.fresh_tap()
        with torch.no_grad(), uncompiled():
            return self.take(tap, inputs)

    def place(self, inputs: Tensor) -> Tensor:
        """Bring inputs to the network, channels last."""
        return inputs.to(self.device, self.dtype, non_blocking=True, memory_format=torch.channels_last)

    def take(self, tap: FeatureHook, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network under a tap in this engine's precision; the head in float32."""
        if self.low is None:
            return tap(inputs)
        with torch.autocast(self.device.type, self.low):
            logits, features = tap(inputs)
        return _recomputed(self.head, logits.float(), features.float())

    def fresh_tap(self) -> FeatureHook:
        """Copy the modules, which may store results between calls, for one thread; the weights are shared."""
        shared = {id(parameter): parameter for parameter in self.network.parameters()}
        return FeatureHook(copy.deepcopy(self.network, shared), self.head.site)


def _recomputed(head: Head, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Give the logits that the features have in float32, so that the maps add up to them."""
    pooled = features.mean((2, 3)) @ head.weight.T
    return head.scales(features, logits)[:, None] * pooled + head.bias, features


def _folded(network: nn.Module, head: Head, inputs: Tensor) -> nn.Module:
    """Fold every BatchNorm into the convolution whose result it reads, unless that changes what comes out."""
    folded = copy.deepcopy(network)
    with torch.no_grad(), uncompiled():
        for convolution, norm in _pairs(folded, inputs):
            fused = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = fused.weight, fused.bias
            for module in folded.modules():
                module._modules.update({key: nn.Identity() for key, part in module._modules.items() if part is norm})
        expected = FeatureHook(copy.deepcopy(network), head.site)(inputs)
        try:
            found = FeatureHook(copy.deepcopy(folded), head.site)(inputs)
        except ModelError:  # the features were the result of a BatchNorm
            return network
    same = all(
        got.shape == want.shape and bool((got - want).abs().max() <= 1e-4 * want.abs().max().clamp(min=1))
        for got, want in zip(found, expected, strict=True)
    )
    return folded if same else network  # another layer reads the convolution too


def _pairs(network: nn.Module, inputs: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions of a network whose result goes into a BatchNorm."""
    results: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors are held, so that no two have one id
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def keep(convolution: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(convolution, nn.Conv2d):
            results[id(out)] = convolution, out

    def pair(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and id(args[0]) in results:
            pairs.append((results[id(args[0])][0], norm))

    hooks = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks += [
        module.register_forward_pre_hook(pair) for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return pairs
