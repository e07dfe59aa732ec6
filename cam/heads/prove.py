"""Prove a head on fresh random inputs: every map must add up to its logit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam.errors import HeadError
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.criteria import tolerance_of
from cam.heads.head import Head
from cam.heads.hooks import forward
from cam.maps.activation import class_activation_maps, completeness_error
from cam.tensors import device_and_dtype


@dataclass(frozen=True)
class Proof:
    """Largest completeness error over random inputs and all classes, no unit.

    Attributes:
        inputs: number of random inputs.
        error: in the network's own precision.
        error64: in float64; None when it was not asked for, or the network insists on a precision of its own.
    """

    inputs: int
    error: float
    error64: float | None = None


def prove_head(
    network: nn.Module, head: Head, input_shape: tuple[int, int, int], inputs: int = 4, *, in_float64: bool = False
) -> Proof:
    """Check that mean(cam) + bias is the logit for all classes of fresh random inputs (Zhou et al. 2016, eq. 2).

    Args:
        network: the classifier the head was found in, not wrapped.
        head: its head.
        input_shape: (channels, H, W).
        inputs: how many.
        in_float64: whether to check a copy of the network in float64 too.

    Raises:
        HeadError: the maps do not add up, so that they must not be shown.

    Example:
        >>> from cam.heads.find import find_head
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> head = find_head(network, (3, 8, 8)).exact()
        >>> prove_head(network, head, (3, 8, 8), in_float64=True).error64 < 1e-6
        True
    """
    device, dtype = device_and_dtype(network)
    pictures = random_inputs(inputs, input_shape, seed=1).to(device, dtype)
    error, _ = _largest_error(network, head.to(device), pictures)
    return Proof(inputs, error, _error_in_float64(network, head, pictures) if in_float64 else None)


def proved_scores(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> Tensor:
    """Check the maps of one random input, the same each time, and give its class scores.

    Args:
        network: the classifier the head was found in, not wrapped.
        head: its head.
        input_shape: (channels, H, W).

    Returns:
        (C,), float32, on the CPU.

    Raises:
        HeadError: the maps do not add up, so that they must not be shown.

    Example:
        >>> from cam.heads.find import find_head
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> proved_scores(network, find_head(network, (3, 8, 8)).exact(), (3, 8, 8)).shape
        torch.Size([2])
    """
    device, dtype = device_and_dtype(network)
    _, logits = _largest_error(network, head.to(device), random_inputs(1, input_shape, seed=1).to(device, dtype))
    return logits[0].float().cpu()


def _error_in_float64(network: nn.Module, head: Head, pictures: Tensor) -> float | None:
    channels, height, width = pictures.shape[1:]
    twin = eval_copy(network, (channels, height, width))
    device, _ = device_and_dtype(twin)
    try:
        return _largest_error(twin.double(), head.to(device, torch.float64), pictures.to(device, torch.float64))[0]
    except RuntimeError:  # the network casts to a precision of its own on the way
        return None


def _largest_error(network: nn.Module, head: Head, pictures: Tensor) -> tuple[float, Tensor]:
    """The largest completeness error, and the logits (N, C)."""
    logits, features = forward(network, head.site, pictures)
    tolerance = max(tolerance_of(features.dtype), tolerance_of(logits.dtype))
    logits = logits.to(head.weight.dtype)
    weight = head.scales(features, logits).view(-1, 1, 1) * head.weight
    cams = class_activation_maps(features, weight)
    # Rounding is as large as the largest class score allows: a score near zero may be a difference of huge numbers.
    missed = (cams.mean((2, 3)) + head.bias - logits).abs().amax(1) / logits.abs().amax(1).clamp(min=1)
    if not missed.max() <= tolerance:  # also when it is not a number
        raise HeadError(
            f"The class activation maps of {len(pictures)} random inputs miss the class scores by "
            f"{float(missed.max()):.2g} of the largest, more than {tolerance:g}",
            "Check that the network gives the same finite scores twice in evaluation mode",
        )
    return float(completeness_error(cams, head.bias, logits).max()), logits
