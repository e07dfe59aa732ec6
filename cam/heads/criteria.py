"""Classify a candidate for the features by the Jacobian of the logits with respect to it.

A tensor F holds the last features of an exact map if its Jacobian J is *even* (the same at every position), the *same*
for different images, and *closed*: logit - <J, F> is the same for different images, so that nothing bypasses F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cam.heads.head import Kind, Site, token_grid
from cam.heads.probe import Experiment, Probe

_NONLINEAR = "what follows the pooling is not linear, so the class score cannot be divided among the positions"
NOT_FINITE = "the class scores of random inputs are not finite (weights that are not numbers, or overflow)"
SOFTMAX = "the network returns probabilities or their logarithms, and softmax is not linear; let it return the logits"
SIGMOID = "the network returns numbers from 0 to 1, as a sigmoid in its forward pass does; let it return the logits"
_ONE_TOKEN = "the class score is read from one token, and the other positions do not contribute"
_UNEVEN = "the positions do not count equally in the class score (flatten + fully connected, max pooling, 1 x 1 map)"
_NO_GRID = (
    "the average runs over rows of numbers that are no grid of rows and columns (a class token is among them, or they "
    "are views of the image, or an ensemble: explain its members one by one)"
)
_BYPASS = (
    "part of the class score does not come from the last features (several levels, poolings or networks are joined)"
)


def tolerance_of(dtype: torch.dtype) -> float:
    """Relative error that an exact head stays below: far above rounding, far below a nonlinear head's.

    In float32 exact heads measure under 1e-4, nonlinear ones over 6e-2; in float64 parts may still be cast to float32.
    """
    return {torch.float64: 1e-5, torch.float32: 1e-3}.get(dtype, 3e-2)


@dataclass(frozen=True)
class Candidate:
    """Kind of head if this tensor holds the features, the reason why it is not exact or "", its site and shape."""

    kind: Kind
    reason: str
    site: Site
    shape: Sequence[int]


def classify_candidate(experiment: Experiment, site: Site, shape: Sequence[int]) -> Candidate | None:
    """Classify the result of the call at a site by replacing it with random features; None if the logits ignore it."""
    tolerance = tolerance_of(experiment.inputs.dtype)
    response = _respond(experiment, site, shape, hold=False)
    if response is None:
        return None
    if not response.jacobian.isfinite().all():
        return Candidate("not-gap", NOT_FINITE, site, shape)
    located = _find_channels(response.jacobian, site, tolerance)
    if isinstance(located, str):
        return Candidate("one-token" if located == _ONE_TOKEN else "not-gap", located, site, shape)
    if located.tokens:
        height, width = experiment.inputs.shape[2:]
        rows, columns = token_grid(shape[3 - located.channel] - sum(located.tokens), (height, width))
        if not 2 / 3 < (rows * width) / (columns * height) < 3 / 2:  # a class token spoils the grid
            return Candidate("not-gap", _NO_GRID, site, shape)
    if response.same(tolerance):
        closed = response.closed(tolerance)
        return Candidate("gap-linear" if closed else "not-gap", "" if closed else _BYPASS, located, shape)
    held = _respond(experiment, site, shape, hold=True)
    if held is not None and (factors := held.factors(tolerance)) is not None:
        if held.closed(tolerance):
            return Candidate("gap-norm-linear", "", located, shape)
        if held.closed_by_scale(factors, tolerance):
            return Candidate("gap-norm-linear", "", replace(located, constant=True), shape)
    return Candidate("nonlinear", response.reason, located, shape)


@dataclass(frozen=True)
class _Response:
    """How the logits, in a few random mixtures of classes, respond to injected features."""

    jacobian: Tensor  # (mixtures, N, ...) with the features' own dimensions
    rest: Tensor  # scores - <J, F>, (N, mixtures)
    size: float  # largest absolute score
    reason: str  # why the head would not be linear
    held: bool  # True if a scale was held constant
    gated: bool  # True if one of them is not a normalization's

    def same(self, tolerance: float) -> bool:
        return _spread(self.jacobian, 1) <= tolerance * float(self.jacobian.abs().max())

    def closed(self, tolerance: float) -> bool:
        return _spread(self.rest, 0) <= tolerance * self.size

    def closed_by_scale(self, factors: Tensor, tolerance: float) -> bool:
        """True if nothing but a bias that is scaled as the features are, and one that is not, bypasses them."""
        if self.gated:
            return False
        known = torch.stack([torch.ones_like(factors), factors], 1)
        left = self.rest - known @ torch.linalg.lstsq(known, self.rest).solution
        return float(left.abs().max()) <= tolerance * self.size

    def factors(self, tolerance: float) -> Tensor | None:
        """Factors (N,) by which the Jacobians of the images differ from the first; None if they differ otherwise."""
        rows = self.jacobian.transpose(0, 1).flatten(1)
        if not self.held or not rows.any(1).all():
            return None
        factors = rows @ rows[0] / rows[0].square().sum()
        deviation = (rows - factors[:, None] * rows[0]).abs().amax(1)
        return factors if bool((deviation <= tolerance * rows.abs().amax(1)).all()) else None


def _respond(experiment: Experiment, site: Site, shape: Sequence[int], *, hold: bool) -> _Response | None:
    """Inject random features of very different strengths."""
    strengths = torch.logspace(-0.5, 1, shape[0], dtype=torch.float32).view(-1, *[1] * (len(shape) - 1))
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(*shape, generator=generator, dtype=torch.float32)
    for dim in range(1, len(shape)):  # whichever holds the channels: their averages must differ as much
        offsets = [size if axis in (0, dim) else 1 for axis, size in enumerate(shape)]
        features = features + 2 * torch.randn(*offsets, generator=generator, dtype=torch.float32)
    features = strengths * features
    response = None
    for variant in (features, features.abs(), 1e-2 * features):  # roots need positive features, a sigmoid small ones
        response = _respond_to(experiment, site, variant, hold)
        if response is None or (response.jacobian.isfinite().all() and response.jacobian.any()):
            return response
    return response if response and response.jacobian.any() else None


def _respond_to(experiment: Experiment, site: Site, features: Tensor, hold: bool) -> _Response | None:
    features = features.to(experiment.inputs).requires_grad_()
    logits, probe = experiment.run((site, features), hold)
    if not probe.injected or not logits.requires_grad:
        return None
    mixtures = torch.randn(logits.shape[1], 3, generator=torch.Generator().manual_seed(4)).to(logits)
    scores = logits @ mixtures
    gradients = [torch.autograd.grad(s.sum(), features, retain_graph=True, allow_unused=True)[0] for s in scores.T]
    jacobian = torch.stack([torch.zeros_like(features) if g is None else g for g in gradients])
    with torch.no_grad():
        explained = (jacobian * features).flatten(2).sum(2).T
        return _Response(
            jacobian, scores - explained, float(scores.abs().max()), _reason(logits, probe), probe.held, probe.gated
        )


def _reason(logits: Tensor, probe: Probe) -> str:
    """Why a head is not linear, as its outputs (N, C) for very different features show."""
    sums = torch.stack([logits, logits.exp()]).sum(2)
    if logits.shape[1] > 1 and bool(torch.isclose(sums, torch.ones_like(sums)).all(1).any()):
        return SOFTMAX
    has_sigmoid = logits.numel() > 9 or any("sigmoid" in operation for _, operation in probe.calls_made.counts)
    return SIGMOID if 0 <= logits.min() <= logits.max() <= 1 and has_sigmoid else _NONLINEAR


def _spread(values: Tensor, dim: int) -> float:
    return float((values.amax(dim) - values.amin(dim)).max())


def _find_channels(jacobian: Tensor, site: Site, tolerance: float) -> Site | str:
    """The site with its channel dimension, the one along which J may vary; a reason if J varies along more.

    A row of tokens may have class or register tokens at its ends, where J is zero.
    """
    alive = {dim: _even_along(jacobian, dim + 1, tolerance) for dim in range(1, jacobian.ndim - 1)}
    if len(alive) == 3:
        for channel in (1, 3, 2):
            if all(even is not None and bool(even.all()) for dim, even in alive.items() if dim != channel):
                return replace(site, channel=channel)
        return _UNEVEN
    for channel in (2, 1):
        even = alive[3 - channel]
        if even is None:
            continue
        first, last = int(even.nonzero()[0]), int(even.nonzero()[-1])
        if first == last and len(even) > 1:
            return _ONE_TOKEN
        if bool(even[first : last + 1].all()):
            return replace(site, channel=channel, tokens=(first, len(even) - 1 - last))
    return _UNEVEN


def _even_along(jacobian: Tensor, dim: int, tolerance: float) -> Tensor | None:
    """Where along a dimension J is not zero, (size,) bool; None if J differs among those positions."""
    slices = jacobian.movedim(dim, 0).flatten(1)
    limit = tolerance * float(jacobian.abs().max())
    alive = slices.abs().amax(1) > limit
    return alive if alive.any() and _spread(slices[alive], 0) <= limit else None
