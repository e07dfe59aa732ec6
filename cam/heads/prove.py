"""Prove a head on fresh random inputs: every map must add up to its logit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cam.errors import HeadError
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.criteria import tolerance_of
from cam.heads.general import GeneralHead
from cam.heads.head import Head
from cam.heads.hooks import forward
from cam.maps.activation import class_activation_maps, completeness_error
from cam.tensors import device_and_dtype

MAX_MISSED = 0.1  # of max(1, |logit|), that a complete map may miss


@dataclass(frozen=True)
class Proof:
    """Largest completeness error over random inputs and all classes, of a complete map the predicted ones; no unit."""

    inputs: int  # number of random inputs
    error: float  # in the network's own precision
    error64: float | None = None  # in float64; None if it was not measured, or the network casts to another precision


def prove_head(
    network: nn.Module, head: Head, input_shape: tuple[int, int, int], inputs: int = 4, *, in_float64: bool = False
) -> Proof:
    """Check that mean(cam) + bias is the logit for all classes of fresh random inputs (Zhou et al. 2016, eq. 2).

    The input shape is (channels, H, W); `in_float64` also checks a float64 copy of the network. Raises HeadError if the
    maps do not add up, so that they must not be shown.
    """
    images = proof_inputs(input_shape, inputs)
    error, error64 = check_maps(network, head, images)[0], None
    if in_float64:
        with suppress(RuntimeError):  # the network casts to another precision
            error64 = check_maps(eval_copy(network, input_shape).double(), head, images)[0]
    return Proof(inputs, error, error64)


def proof_inputs(input_shape: tuple[int, int, int], inputs: int = 4) -> Tensor:
    """Inputs (N, channels, H, W) that the head was not found with, always the same."""
    return random_inputs(inputs, input_shape, seed=1)


def check_maps(network: nn.Module, head: Head | GeneralHead, images: Tensor) -> tuple[float, Tensor, Tensor]:
    """Largest completeness error of inputs, their logits (N, C) and features; or a HeadError."""
    device, dtype = device_and_dtype(network)
    logits, features = forward(network, head.site, images.to(device, dtype))
    if isinstance(head, GeneralHead):
        return _check_general(head, logits, features, (images.shape[2], images.shape[3])), logits, features
    head = head.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = max(tolerance_of(features.dtype), tolerance_of(logits.dtype))
    logits = logits.to(head.weight.dtype)
    cams = head.scales(features, logits).view(-1, 1, 1, 1) * class_activation_maps(features, head.weight)
    # Rounding grows with the largest class score: a score near zero may be a difference of huge numbers.
    errors = (cams.mean((2, 3)) + head.bias - logits).abs().amax(1) / logits.abs().amax(1).clamp(min=1)
    if not errors.max() <= tolerance:  # also if it is NaN
        raise HeadError(
            f"The class activation maps of {len(images)} random inputs miss the class scores by "
            f"{float(errors.max()):.2g} of the largest, more than {tolerance:g}",
            "Check that the network gives the same finite scores twice in evaluation mode",
        )
    return float(completeness_error(cams, head.bias, logits).max()), logits, features


def _check_general(head: GeneralHead, logits: Tensor, features: Tensor, input_size: tuple[int, int]) -> float:
    """Largest completeness error of the predicted classes; a HeadError if the features do not give the logits."""
    missed = (head.logits(features, input_size) - logits).abs().max() / logits.abs().max().clamp(min=1)
    if not missed <= tolerance_of(features.dtype):  # also if it is NaN
        problem = f"The class scores do not follow from the features alone: they miss by {float(missed):.2g}"
        raise HeadError(problem, "Check that the network gives the same finite scores twice in evaluation mode")
    if head.method not in ("integrated", "shapley"):
        head = replace(head, method="integrated")
    classes = [[class_idx] for class_idx in logits.argmax(1).tolist()]
    found = head.class_maps(features, classes, input_size)
    of_images = zip(found, logits, classes, strict=True)
    errors = [float(completeness_error(maps.maps, maps.base, scores[c])[0]) for maps, scores, c in of_images]
    if not max(errors) <= MAX_MISSED:
        problem = f"The complete maps of random inputs miss the class scores by {max(errors):.2g} of the score"
        raise HeadError(problem, "Use another --method or an earlier --layer: the slopes of the head jump too much")
    return max(errors)
