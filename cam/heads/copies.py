"""Copies of a network to experiment on, and random inputs to experiment with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cam.errors import ModelError
from cam.heads.hooks import eval_mode
from cam.tensors import device_and_dtype


def random_inputs(number: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Network inputs (number, channels, H, W), float32, that differ in color, contrast and texture.

    Their mean is about zero and their variance about one, as after normalization. Give at least 2 if they must differ.
    """
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    frequency = frequency.clamp(min=1 / max(height, width))
    slope = torch.linspace(1.3, 0.3, number).view(-1, 1, 1, 1)  # 1 is the spectrum of photographs, 0 white noise
    noise = torch.fft.rfft2(torch.randn(number, *shape, generator=generator))
    texture = torch.fft.irfft2(noise / frequency**slope, (height, width))
    texture = texture / texture.std((1, 2, 3), keepdim=True)
    contrast = torch.linspace(0.5, 1.5, number).view(-1, 1, 1, 1)
    tint = 0.5 * torch.randn(number, channels, 1, 1, generator=generator)
    return torch.addcmul(tint, texture, contrast)


def run_once(network: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Run a network on one random input, which initializes its lazy layers and fills its caches.

    Raises:
        ModelError: the network does not run on an input of that shape, or is a TorchScript module.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            f"The network is a {type(network).__name__}, whose layers cannot be watched",
            "Give the Python module that it was scripted from",
        )
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    try:
        with eval_mode(network):
            network(inputs)
    except Exception as error:  # a user's network may raise anything
        raise ModelError(
            f"The network does not run on an input of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}",
            "Give the size it was made for (--input-size), one --mean and --std if it takes gray images, or fix it",
        ) from error


def eval_copy(network: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Copy an unwrapped network in evaluation mode, without gradients, on a device that supports float64."""
    run_once(network, input_shape)  # also replaces tensors that cannot be copied
    network_copy = copy.deepcopy(network).eval().requires_grad_(False)
    return network_copy.cpu() if device_and_dtype(network)[0].type == "mps" else network_copy
