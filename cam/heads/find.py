"""The head of a classifier, found by running it, whatever its layers are called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cam.errors import HeadError, ModelError
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.criteria import Candidate, Subject, classify_candidate, run
from cam.heads.head import Head, Kind, Site
from cam.heads.probe import Probe
from cam.tensors import device_and_dtype

_CANDIDATES = 4  # how many of the last tensors with places are judged before giving up

_NO_CANDIDATE = "no features with more than one place lie on the way to the class scores"

_WHAT_WORKS = (
    "Take a network that ends in global average pooling and a linear layer, such as resnet50, densenet121, "
    "efficientnet_b0, convnext_tiny, swin_t or squeezenet1_1"
)


@dataclass(frozen=True)
class HeadReport:
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
            >>> HeadReport("not-gap", "it flattens").exact()
            Traceback (most recent call last):
            cam.errors.HeadError: The network has no exact class activation map (not-gap): it flattens. Take a ...
        """
        if self.head is None:
            raise HeadError(f"The network has no exact class activation map ({self.kind}): {self.reason}", _WHAT_WORKS)
        return self.head


@torch.inference_mode(False)  # gradients also where the caller has switched them off
def find_head(network: nn.Module, input_shape: tuple[int, int, int]) -> HeadReport:
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
        >>> head_report = find_head(network, (3, 8, 8))
        >>> head_report.kind, head_report.head.weight.shape
        ('gap-linear', torch.Size([2, 4]))
    """
    twin = eval_copy(network, input_shape)
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


def _examine(twin: nn.Module, inputs: Tensor, recorded: Probe) -> HeadReport:
    silent = [parameter for parameter in twin.parameters() if not parameter.any()]
    for parameter in silent:  # a layer that starts at zero would hide what it reads
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    candidate = _decide(Subject(twin, inputs, recorded.shapes), recorded.calls)
    for parameter in silent:
        parameter.zero_()
    if candidate is None:
        return HeadReport("not-gap", _NO_CANDIDATE)
    if candidate.reason:
        return HeadReport(candidate.kind, candidate.reason, candidate.site)
    head = _read(Subject(twin, inputs, recorded.shapes), candidate)
    return HeadReport(head.kind, "", head.site, head)


def _decide(subject: Subject, calls: Sequence[tuple[Site, torch.Size]]) -> Candidate | None:
    """Judge the last candidates, latest first, as far as they are exact: the finest exact one decides, else the latest.

    Behind the features there may be the same in a row of tokens, or a coarser average of them.
    """
    judged: list[Candidate] = []
    for site, shape in reversed(calls):
        candidate = classify_candidate(subject, site, shape)
        if candidate is None:
            continue
        if candidate.reason and any(not each.reason for each in judged):
            break
        judged.append(candidate)
        if candidate.reason and len(judged) == _CANDIDATES:
            break
    exact = [each for each in judged if not each.reason]
    return max(exact, key=_fineness) if exact else next(iter(judged), None)


def _fineness(candidate: Candidate) -> tuple[int, bool]:
    """Order candidates by their number of places, those in rows and columns first."""
    site = candidate.site
    places = math.prod(candidate.shape[1:]) // candidate.shape[site.channel]
    return places - sum(site.tokens or ()), site.tokens is None


def _read(subject: Subject, candidate: Candidate) -> Head:
    """Read weight and bias off features that are the same at every place: logit = W g + bias, W = d logit / d g."""
    site = candidate.site
    channels = candidate.shape[site.channel]
    pooled = torch.randn(channels, generator=torch.Generator().manual_seed(2)).to(subject.inputs).requires_grad_()
    lined_up = [channels if dim == site.channel else 1 for dim in range(len(candidate.shape))]
    features = pooled.view(lined_up).expand(candidate.shape)
    logits, _ = run(subject, inject=(site, features), hold=candidate.kind == "gap-norm-linear")
    weight = _jacobian(logits[0], pooled)
    bias = (logits[0] - weight @ pooled).detach()
    bias = torch.where(bias.abs() < 1e-12 * logits.abs().max(), 0.0, bias)  # what rounding leaves of none
    head = Head(candidate.kind, site, weight.float(), bias.float())
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
