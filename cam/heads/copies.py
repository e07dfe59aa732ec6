"""Copies of a network to experiment on, and random inputs to experiment with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cam.errors import ModelError
from cam.heads.hooks import eval_mode
from cam.tensors import device_and_dtype


def random_inputs(number: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Make network inputs that differ in color, contrast and grain.

    Args:
        number: how many, at least 2 to differ.
        shape: (channels, H, W).
        seed: the same seed gives the same inputs.

    Returns:
        (number, channels, H, W), float32, about zero mean and unit variance as after normalization.

    Example:
        >>> random_inputs(2, (3, 8, 6)).shape
        torch.Size([2, 3, 8, 6])
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


def eval_copy(network: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Copy a network, without gradients and in evaluation mode, to a device that knows float64.

    Args:
        network: a classifier, not wrapped.
        input_shape: (channels, H, W) that it was made for.

    Raises:
        ModelError: the network does not run on such an input.

    Example:
        >>> twin = eval_copy(nn.Conv2d(3, 4, 3), (3, 8, 8))
        >>> twin.weight.shape, twin.training
        (torch.Size([4, 3, 3, 3]), False)
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            f"The network is a {type(network).__name__}, whose layers cannot be watched",
            "Give the Python module that it was scripted from",
        )
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    try:
        with eval_mode(network):  # fills its caches, and leaves no tensor that cannot be copied
            network(inputs)
    except Exception as error:  # whatever a stranger's network may raise
        raise ModelError(
            f"The network does not run on an input of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}",
            "Give the size it was made for (--input-size), one --mean and --std if it takes gray pictures, or mend it",
        ) from error
    twin = copy.deepcopy(network).eval().requires_grad_(False)
    return twin.cpu() if inputs.device.type == "mps" else twin
