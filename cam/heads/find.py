"""Find the head of a classifier by running it, whatever its layers are called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cam.errors import CamError, HeadError, ModelError
from cam.heads.checks import check_classifier_was_not_removed, check_has_classifier, check_repeatable
from cam.heads.copies import eval_copy, random_inputs, run_error
from cam.heads.criteria import NOT_FINITE, Candidate, classify_candidate, tolerance_of
from cam.heads.head import Head, Kind, Site
from cam.heads.probe import Experiment, Probe
from cam.heads.receptive_field import measure_grid
from cam.maps.geometry import Grid
from cam.tensors import device_and_dtype, no_tf32

_MAX_CANDIDATES = 4  # of the last tensors with positions, before giving up
_NO_FEATURES = (
    "no features with more than one position lead to the class scores (a 1 x 1 map, detach() or numpy() behind it, or "
    "several views made of each image)"
)
_NO_PLACES = (
    "what its class score averages over are not places in the image: patches pasted into the image change the features "
    "in no order of rows and columns (learned queries, shuffled tokens, averaged views of the image, or an ensemble: "
    "explain its members one by one)"
)


@dataclass(frozen=True)
class HeadReport:
    """The head of a network, or the reason why it has no exact map."""

    kind: Kind  # how the head is built
    reason: str = ""  # why there is no exact map; "" if there is one
    site: Site | None = None  # where the features are taken; None if the network has no candidate
    head: Head | None = None  # weight and bias, if the map is exact
    grid: Grid | None = None  # where the cells of the map lie in the input, if the map is exact

    def exact(self) -> Head:
        """Return the head, or raise a HeadError with the reason why the network has no exact map."""
        if self.head is None:
            remedy = (
                "Leave out --exact-only (method='exact') for a complete map, if there is one, or use a network that "
                "ends in global average pooling and a linear layer, such as resnet50, efficientnet_b0 or squeezenet1_1"
            )
            if self.reason.startswith(NOT_FINITE):
                remedy = "Check the weights: an earlier checkpoint may have numbers only"
            raise HeadError(f"The network has no exact class activation map ({self.kind}): {self.reason}", remedy)
        return self.head


@torch.inference_mode(False)  # gradients even if the caller has disabled them
def find_head(network: nn.Module, input_shape: tuple[int, int, int]) -> HeadReport:
    """Find the head of a network.

    The network is not changed: a copy in evaluation mode and float64 runs on random inputs, random features replace
    each candidate, latest first, and the Jacobian of the logits shows what the head computes. Patches pasted into
    random inputs show whether the cells of its map are places in the image, and where.

    Args:
        network: a classifier, not wrapped.
        input_shape: (channels, H, W) that it was made for.

    Returns:
        The kind; with weight, bias and grid if the map is exact.

    Raises:
        ModelError: the network does not run on an input of that size, or its head cannot be differentiated.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> head_report = find_head(network, (3, 8, 8))
        >>> head_report.kind, head_report.head.weight.shape, head_report.grid.stride
        ('gap-linear', torch.Size([2, 4]), (2.0, 2.0))
    """
    return find_head_in_copy(eval_copy(network, input_shape), input_shape)


@torch.inference_mode(False)
def find_head_in_copy(network: nn.Module, input_shape: tuple[int, int, int]) -> HeadReport:
    """Find the head of a network from `eval_copy`, which changes its precision meanwhile."""
    check_has_classifier(network)
    reports = _find_heads(network, input_shape)
    for report in reports:
        if report.head is None:
            return report
        if located := measure_grid(network, report.head.site, report.head.weight.double().norm(dim=0), input_shape):
            site, grid = located
            return replace(report, site=site, head=replace(report.head, site=site), grid=grid)
    return HeadReport("no-places", _NO_PLACES, reports[0].site)


def _find_heads(network: nn.Module, input_shape: tuple[int, int, int]) -> list[HeadReport]:
    """Exact heads, the finest map first, or the report of a network without one."""
    device, dtype = device_and_dtype(network)
    inputs = random_inputs(3, input_shape).to(device, dtype)
    try:
        with no_tf32():
            logits, recorded = Experiment(network, inputs).record()
    except CamError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise run_error(network, inputs, error) from error
    if not logits.isfinite().all():
        return [HeadReport("not-gap", NOT_FINITE)]
    check_repeatable(network, inputs, logits, max(map(tolerance_of, recorded.dtypes)))
    for precision in (torch.float64, dtype):
        try:
            return _reports(network.to(precision), inputs.to(precision), recorded)
        except CamError:
            raise
        except Exception as error:  # in float64, because the network casts to another precision
            reason = error
        finally:
            network.to(dtype)
    raise ModelError(
        f"The head cannot be differentiated: {str(reason).partition('. ')[0].rstrip('.')}",
        "Disable in evaluation mode what prevents autograd, such as reentrant checkpointing",
    ) from reason


def _reports(network: nn.Module, inputs: Tensor, recorded: Probe) -> list[HeadReport]:
    experiment = Experiment(network, inputs, recorded)
    zero = [parameter for parameter in network.parameters() if not parameter.any()]
    for parameter in zero:  # a layer initialized to zero would hide what it reads
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    try:
        candidates = _best_candidates(experiment, recorded.calls)
    finally:
        for parameter in zero:
            parameter.zero_()
    if not candidates or (candidates[0].reason and candidates[0].shape == inputs.shape):  # the inputs, turned
        return [HeadReport("not-gap", _NO_FEATURES)]
    if candidates[0].reason:
        return [HeadReport(candidates[0].kind, candidates[0].reason, candidates[0].site)]
    heads = [_read_head(experiment, candidate) for candidate in candidates]
    if _has_no_linear(heads[0].weight):
        check_classifier_was_not_removed(network, inputs)
    return [HeadReport(head.kind, "", head.site, head) for head in heads]


def _best_candidates(experiment: Experiment, calls: Sequence[tuple[Site, torch.Size]]) -> list[Candidate]:
    """Classify the last candidates, latest first, while they are exact: the exact ones, finest first, else the latest.

    The features may be followed by the same in a row of tokens, or by a coarser average of them.
    """
    candidates: list[Candidate] = []
    exact: dict[tuple[int, bool], Candidate] = {}  # the latest of each fineness
    for site, shape in reversed(calls):
        try:
            candidate = classify_candidate(experiment, site, shape)
        except RuntimeError:
            if exact:  # autograd does not lead any farther back, as through reentrant checkpointing
                break
            raise
        if candidate is None:
            continue
        if candidate.reason and exact:
            break
        candidates.append(candidate)
        if not candidate.reason:
            exact.setdefault(_fineness(candidate), candidate)
        elif len(candidates) == _MAX_CANDIDATES:
            break
    return [exact[fineness] for fineness in sorted(exact, reverse=True)] or candidates[:1]


def _fineness(candidate: Candidate) -> tuple[int, bool]:
    """Order candidates by their number of positions, rows and columns before tokens."""
    site = candidate.site
    positions = math.prod(candidate.shape[1:]) // candidate.shape[site.channel]
    return positions - sum(site.tokens or ()), site.tokens is None


def _read_head(experiment: Experiment, candidate: Candidate) -> Head:
    """Read weight and bias from features g that are the same at every position: logit = W g + bias, W = dlogit / dg."""
    site = candidate.site
    images, channels = candidate.shape[0], candidate.shape[site.channel]
    pooled = torch.randn(images, channels, generator=torch.Generator().manual_seed(2)).to(experiment.inputs)
    pooled = (pooled * torch.logspace(0, 1, images).to(pooled)[:, None]).requires_grad_()
    aligned = [size if dim in (0, site.channel) else 1 for dim, size in enumerate(candidate.shape)]
    features = pooled.view(aligned).expand(candidate.shape)
    logits, _ = experiment.run((site, features), hold=candidate.kind == "gap-norm-linear")
    weight = _weight_among(experiment.network, logits.detach(), pooled.detach())
    if weight is None:
        weight = _jacobian(logits[0], pooled)
    if site.constant:
        weight, bias = _add_scaled_bias(weight, logits, pooled)
    else:
        bias = (logits[0] - weight @ pooled[0]).detach()
    bias = torch.where(bias.abs() < 1e-12 * logits.abs().max(), 0.0, bias)  # rounding around zero
    head = Head(candidate.kind, site, weight.float(), bias.float())
    if weight.shape[0] == weight.shape[1] and torch.allclose(head.weight, torch.eye(len(weight)).to(head.weight)):
        return replace(head, kind="conv-gap")
    return head


def _add_scaled_bias(weight: Tensor, logits: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Split logit = s (W g + a) + b, of images with other scales s: the weight [W, a] (C, K + 1), and b (C,)."""
    mixture = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(4)).to(logits)
    rows = torch.autograd.grad((logits @ mixture).sum(), pooled)[0]
    scales = rows @ rows[0] / rows[0].square().sum()
    rest = (logits - scales[:, None] * (pooled @ weight.T)).detach()
    solution = torch.linalg.lstsq(torch.stack([scales, torch.ones_like(scales)], 1), rest).solution
    return torch.cat([weight, solution[:1].T], 1), solution[1]


def _has_no_linear(weight: Tensor) -> bool:
    """True if a weight (C, K) may be that of a pool or a normalization alone: each class is one of the channels."""
    if weight.shape[0] != weight.shape[1] or len(weight) == 1:
        return False
    others = weight[~torch.eye(len(weight), dtype=torch.bool, device=weight.device)].view(len(weight), -1)
    return bool((others.amax(1) - others.amin(1)).max() <= 1e-4 * weight.abs().max())


def _weight_among(network: nn.Module, logits: Tensor, pooled: Tensor) -> Tensor | None:
    """The identity or parameter (C, K) that turns differences of random features (N, K) into those of logits (N, C).

    None if there is none: then differentiating thousands of classes takes time and memory.
    """
    differences, expected = pooled[1:] - pooled[:1], logits[1:] - logits[:1]
    if differences.shape == expected.shape and (differences - expected).abs().max() <= 1e-12 * logits.abs().max():
        return torch.eye(logits.shape[1]).to(logits)
    for parameter in network.parameters():
        if math.prod(parameter.shape[2:]) == 1 and parameter.shape[:2] == (logits.shape[1], pooled.shape[1]):
            weight = parameter.detach().flatten(1)
            if (differences @ weight.T - expected).abs().max() <= 1e-12 * logits.abs().max():
                return weight
    return None


def _jacobian(outputs: Tensor, variables: Tensor) -> Tensor:
    """Differentiate (C,) with respect to the first of (N, K): (C, K)."""
    if len(outputs) > 2 * variables.shape[1]:  # a column for each variable, which are fewer
        with suppress(RuntimeError):  # an operation that cannot be differentiated twice
            sums = torch.zeros_like(outputs, requires_grad=True)
            gradient = torch.autograd.grad(outputs, variables, sums, create_graph=True)[0][0]
            return _rows(gradient, sums).T
    return _rows(outputs, variables)[:, 0]


def _rows(outputs: Tensor, variables: Tensor) -> Tensor:
    """Differentiate (C,) with respect to variables of any shape: (C, ...)."""
    parts: list[Tensor] = []
    classes = torch.arange(len(outputs), device=outputs.device)
    for some in torch.split(classes, 32):
        unit = (some[:, None] == classes).to(outputs)
        try:
            parts += torch.autograd.grad(outputs, variables, unit, retain_graph=True, is_grads_batched=True)
        except RuntimeError:  # a custom operation that cannot be batched
            parts += [torch.autograd.grad(outputs, variables, row, retain_graph=True)[0][None] for row in unit]
    return torch.cat(parts).detach()
