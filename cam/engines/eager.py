"""The engine that runs the network as it was written: a private copy, laid out for speed."""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cam.errors import ModelError
from cam.heads.copies import copy_network, eval_copy, random_inputs
from cam.heads.general import GeneralHead
from cam.heads.head import Head
from cam.heads.hooks import FeatureHook, forward, uncompiled
from cam.tensors import device_and_dtype

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]


class EagerEngine:
    """A private copy of a network with hooks that stay; calls at once have their own modules, which share the weights.

    BatchNorm is folded into the convolutions before it, and tensors have their channels last. The network and its
    head are on one device; inputs are (channels, H, W). With a precision below float32 only the layers use it: the
    logits are computed again from the features in float32.
    """

    name = "eager"
    reason = ""

    def __init__(
        self,
        network: nn.Module,
        head: Head | GeneralHead,
        input_shape: tuple[int, int, int],
        precision: Precision = "float32",
    ) -> None:
        self.device, self.dtype = device_and_dtype(network)
        self.head = head
        self.low_precision = None if precision == "float32" else getattr(torch, precision)
        inputs = random_inputs(2, input_shape).to(self.device, self.dtype)
        self.network = _fold_batchnorm(eval_copy(network, input_shape).to(self.device), head, inputs)
        self.network = self.network.to(memory_format=torch.channels_last)
        self._idle: deque[FeatureHook] = deque()  # of earlier calls

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, C) and features (N, K, h, w)."""
        inputs = self.to_device(inputs)
        try:
            hook = self._idle.pop()
        except IndexError:
            hook = self.new_hook()
        try:
            with torch.no_grad(), uncompiled():
                return self.run(hook, inputs)
        finally:
            self._idle.append(hook)

    def to_device(self, inputs: Tensor) -> Tensor:
        """Move inputs to the network's device, channels last."""
        return inputs.to(self.device, self.dtype, non_blocking=True, memory_format=torch.channels_last)

    def run(self, hook: FeatureHook, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run a hooked network in this engine's precision, and the head in float32."""
        if self.low_precision is None:
            return hook(inputs)
        with torch.autocast(self.device.type, self.low_precision):
            logits, features = hook(inputs)
        logits, features, head = logits.float(), features.float(), self.head
        if isinstance(head, GeneralHead):
            return head.logits(features, (inputs.shape[2], inputs.shape[3])), features
        scores = features.mean((2, 3)) @ head.weight.T  # in float32, so that the maps add up to the logits
        return head.scales(features, logits)[:, None] * scores + head.bias, features

    def new_hook(self) -> FeatureHook:
        """Copy the modules, which may store results during a call; the weights are shared."""
        shared = {id(parameter): parameter for parameter in self.network.parameters()}
        return FeatureHook(copy_network(self.network, shared), self.head.site)


def _fold_batchnorm(network: nn.Module, head: Head | GeneralHead, inputs: Tensor) -> nn.Module:
    """Fold each BatchNorm into the convolution before it, unless that changes the logits or the features."""
    folded = copy_network(network)
    with torch.no_grad(), uncompiled():
        for convolution, norm in _find_pairs(folded, inputs):
            fused = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = fused.weight, fused.bias
            for module in folded.modules():
                children = module._modules
                children.update({name: nn.Identity() for name, child in children.items() if child is norm})
        expected = forward(network, head.site, inputs)
        try:
            actual = forward(folded, head.site, inputs)
        except ModelError:  # the features were the output of a BatchNorm
            return network
    same = all(
        a.shape == e.shape and bool((a - e).abs().max() <= 1e-4 * e.abs().max().clamp(min=1))
        for a, e in zip(actual, expected, strict=True)
    )
    return folded if same else network  # another layer also reads the output of the convolution


def _find_pairs(network: nn.Module, inputs: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the convolutions whose output a BatchNorm reads, by running the network once."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that their ids stay unique
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and id(args[0]) in outputs:
            pairs.append((outputs[id(args[0])][0], module))

    modules = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    handles = [module.register_forward_hook(record) for module in modules]
    network(inputs)
    for handle in handles:
        handle.remove()
    return pairs
