"""The head of a classifier, found by running it, whatever its layers are called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cam.errors import HeadError, ModelError
from cam.features import Site
from cam.jacobian import Judgement, Subject, judge, run
from cam.maps import image_scales
from cam.probe import Probe
from cam.twins import device_and_dtype, random_inputs, twin_of

Kind = Literal["gap-linear", "conv-gap", "gap-norm-linear", "nonlinear", "one-token", "not-gap"]

_CANDIDATES = 4  # how many of the last tensors with places are judged before giving up
_NO_CANDIDATE = "no features with more than one place lie on the way to the class scores"
_WHAT_WORKS = (
    "Take a network that ends in global average pooling and a linear layer, such as resnet50, densenet121, "
    "efficientnet_b0, convnext_tiny, swin_t or squeezenet1_1"
)


@dataclass(frozen=True)
class Head:
    """What turns features into logits: logit = scale * mean over places of (weight @ features) + bias.

    Attributes:
        kind: how the head is built.
        site: where the features are taken.
        weight: (C, K), float32, logits a feature.
        bias: (C,), float32, logits.
    """

    kind: Kind
    site: Site
    weight: Tensor
    bias: Tensor

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return len(self.bias)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Head:
        """Move weight and bias.

        Example:
            >>> head = Head("gap-linear", Site("", "relu", 0), torch.eye(2), torch.zeros(2))
            >>> head.to("cpu", torch.float64).weight.dtype
            torch.float64
        """
        return replace(self, weight=self.weight.to(device, dtype), bias=self.bias.to(device, dtype))

    def scales(self, features: Tensor, logits: Tensor) -> Tensor:
        """Give the number by which a normalisation multiplies each picture; 1 where there is no normalisation.

        Args:
            features: (N, K, h, w).
            logits: (N, C).

        Returns:
            (N,), in the weight's dtype, no unit.

        Example:
            >>> head = Head("gap-linear", Site("", "relu", 0), torch.eye(2), torch.zeros(2))
            >>> head.scales(torch.rand(3, 2, 4, 4), torch.rand(3, 2)).tolist()
            [1.0, 1.0, 1.0]
        """
        if self.kind != "gap-norm-linear":
            return self.weight.new_ones(len(features))
        return image_scales(features.to(self.weight.dtype).mean((2, 3)), self.weight, self.bias, logits)


@dataclass(frozen=True)
class Verdict:
    """What a network's head is.

    Attributes:
        kind: how the head is built.
        reason: why there is no exact map; "" when there is one.
        site: where the features are taken; None when nothing came into question.
        head: weight and bias, when the map is exact.
    """

    kind: Kind
    reason: str = ""
    site: Site | None = None
    head: Head | None = None

    def exact(self) -> Head:
        """Give the head, or say why there is none.

        Raises:
            HeadError: the network has no exact map.

        Example:
            >>> Verdict("not-gap", "it flattens").exact()
            Traceback (most recent call last):
            cam.errors.HeadError: The network has no exact class activation map (not-gap): it flattens. Take a ...
        """
        if self.head is None:
            raise HeadError(f"The network has no exact class activation map ({self.kind}): {self.reason}", _WHAT_WORKS)
        return self.head


@torch.inference_mode(False)  # gradients also where the caller has switched them off
def find_head(network: nn.Module, input_shape: tuple[int, int, int]) -> Verdict:
    """Find out what a network's head is.

    The network is left as it was: a copy in evaluation mode and float64 is run on random inputs, random features
    take the place of each candidate, latest first, and the Jacobian of the logits tells what the head does.

    Args:
        network: a classifier, not wrapped.
        input_shape: (channels, H, W) that it was made for.

    Returns:
        The kind; with weight and bias where the map is exact.

    Raises:
        ModelError: the network does not run on such an input, or passes no gradient through its head.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> verdict = find_head(network, (3, 8, 8))
        >>> verdict.kind, verdict.head.weight.shape
        ('gap-linear', torch.Size([2, 4]))
    """
    twin = twin_of(network, input_shape)
    device, dtype = device_and_dtype(twin)
    inputs = random_inputs(3, input_shape).to(device, dtype)
    recorded = run(Subject(twin, inputs))[1]
    try:
        return _examine(twin.double(), inputs.double(), recorded)
    except RuntimeError:  # the network casts to a precision of its own on the way
        pass
    try:
        return _examine(twin.to(dtype), inputs, recorded)
    except RuntimeError as error:
        raise ModelError(
            f"The head cannot be differentiated: {str(error).partition('. ')[0].rstrip('.')}",
            "Switch off in evaluation what stands in autograd's way, such as reentrant checkpointing",
        ) from error


def _examine(twin: nn.Module, inputs: Tensor, recorded: Probe) -> Verdict:
    silent = [parameter for parameter in twin.parameters() if not parameter.any()]
    for parameter in silent:  # a layer that starts at zero would hide what it reads
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    judgement = _decide(Subject(twin, inputs, recorded.shapes), recorded.calls)
    for parameter in silent:
        parameter.zero_()
    if judgement is None:
        return Verdict("not-gap", _NO_CANDIDATE)
    if judgement.reason:
        return Verdict(judgement.kind, judgement.reason, judgement.site)
    head = _read(Subject(twin, inputs, recorded.shapes), judgement)
    return Verdict(head.kind, "", head.site, head)


def _decide(subject: Subject, calls: Sequence[tuple[Site, torch.Size]]) -> Judgement | None:
    """Judge the last candidates, latest first, as far as they are exact: the finest exact one decides, else the latest.

    Behind the features there may be the same in a row of tokens, or a coarser average of them.
    """
    judged: list[Judgement] = []
    for site, shape in reversed(calls):
        judgement = judge(subject, site, shape)
        if judgement is None:
            continue
        if judgement.reason and any(not each.reason for each in judged):
            break
        judged.append(judgement)
        if judgement.reason and len(judged) == _CANDIDATES:
            break
    exact = [each for each in judged if not each.reason]
    return max(exact, key=_fineness) if exact else next(iter(judged), None)


def _fineness(judgement: Judgement) -> tuple[int, bool]:
    """Order candidates by their number of places, those in rows and columns first."""
    site = judgement.site
    places = math.prod(judgement.shape[1:]) // judgement.shape[site.channel]
    return places - sum(site.tokens or ()), site.tokens is None


def _read(subject: Subject, judgement: Judgement) -> Head:
    """Read weight and bias off features that are the same at every place: logit = W g + bias, W = d logit / d g."""
    site = judgement.site
    channels = judgement.shape[site.channel]
    pooled = torch.randn(channels, generator=torch.Generator().manual_seed(2)).to(subject.inputs).requires_grad_()
    lined_up = [channels if dim == site.channel else 1 for dim in range(len(judgement.shape))]
    features = pooled.view(lined_up).expand(judgement.shape)
    logits, _ = run(subject, inject=(site, features), hold=judgement.kind == "gap-norm-linear")
    weight = _jacobian(logits[0], pooled)
    bias = (logits[0] - weight @ pooled).detach()
    bias = torch.where(bias.abs() < 1e-12 * logits.abs().max(), 0.0, bias)  # what rounding leaves of none
    head = Head(judgement.kind, site, weight.float(), bias.float())
    if weight.shape[0] == weight.shape[1] and torch.allclose(head.weight, torch.eye(len(weight)).to(head.weight)):
        return replace(head, kind="conv-gap")
    return head


def _jacobian(outputs: Tensor, variables: Tensor) -> Tensor:
    """Differentiate (C,) with respect to (K,): (C, K)."""
    unit = torch.eye(len(outputs)).to(outputs)
    try:
        parts = [
            torch.autograd.grad(outputs, variables, rows, retain_graph=True, is_grads_batched=True)[0]
            for rows in torch.split(unit, 32)
        ]
    except RuntimeError:  # an operation written by hand that cannot be batched
        parts = [torch.autograd.grad(outputs, variables, row, retain_graph=True)[0][None] for row in unit]
    return torch.cat(parts)
