"""Judge a candidate for the features by the Jacobian of the logits with respect to it.

A tensor F is the last features of an exact map when its Jacobian J is *even* (the same at every place), the *same*
for different pictures, and *closed*: logit - <J, F> is the same for different pictures, so that nothing bypasses F.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cam.heads.head import Site, token_grid
from cam.heads.hooks import uncompiled
from cam.heads.outputs import find_logits
from cam.heads.probe import Probe, watching

_NONLINEAR = "what follows the pooling is not linear, so that the class score cannot be shared out over the places"

_NOT_FINITE = "the class scores of random features are not finite (weights that are not numbers, or overflow)"

_SOFTMAX = "the network returns probabilities or their logarithms, and softmax is not linear; let it return the logits"

_ONE_TOKEN = "the class score is read off one token, and the other places have no part in it"

_UNEVEN = "the places do not count alike in the class score (flatten + fully connected, max pooling, map of one place)"

_NO_GRID = "the average runs over a row of tokens that does not lie in rows and columns (a class token among them)"

_BYPASS = "part of the class score does not come from the last features (several levels or poolings are joined)"


def tolerance_of(dtype: torch.dtype) -> float:
    """Give the relative error that an exact head stays below: far above rounding, far below a nonlinear head's.

    In float32 exact heads measure under 1e-4, nonlinear ones over 6e-2; in float64 parts may still be cast to float32.

    Example:
        >>> tolerance_of(torch.bfloat16)
        0.03
    """
    return {torch.float64: 1e-5, torch.float32: 1e-3}.get(dtype, 3e-2)


@dataclass(frozen=True)
class Candidate:
    """What one candidate is.

    Attributes:
        kind: how the network's head is built if this candidate decides.
        reason: why the map would not be exact; "" when it is.
        site: the candidate, with its channels and places told apart.
        shape: of the candidate's tensor.
    """

    kind: Literal["gap-linear", "gap-norm-linear", "nonlinear", "one-token", "not-gap"]
    reason: str
    site: Site
    shape: Sequence[int]


@dataclass(frozen=True)
class Subject:
    """A network to experiment on.

    Attributes:
        network: a copy in evaluation mode.
        inputs: (N, channels, H, W), different pictures.
        shapes: of the results of costly calls, from a first pass; they need not be computed again.
    """

    network: nn.Module
    inputs: Tensor
    shapes: Mapping[Site, torch.Size] = field(default_factory=dict)


def run(subject: Subject, inject: tuple[Site, Tensor] | None = None, hold: bool = False) -> tuple[Tensor, Probe]:
    """Run a network once under a probe, with gradients even where the network switches them off.

    Args:
        subject: network and inputs.
        inject: site and tensor to put in the place of its result.
        hold: whether to hold the scales of normalizations constant.

    Returns:
        Logits (N, C) and the probe with what it saw.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 5))
        >>> logits, probe = run(Subject(network, torch.zeros(3, 3, 4, 4)))
        >>> [site.layer for site, shape in probe.calls], logits.shape
        (['0'], torch.Size([3, 5]))
    """
    network, inputs = subject.network, subject.inputs
    shapes = subject.shapes if inject else {}
    with (
        watching(network) as stack,
        uncompiled(),
        torch.enable_grad(),
        Probe(stack, len(inputs), inject, hold, shapes) as probe,
    ):
        return find_logits(network(inputs)), probe


def classify_candidate(subject: Subject, site: Site, shape: Sequence[int]) -> Candidate | None:
    """Judge one candidate by putting random features in its place.

    Args:
        subject: network and inputs.
        site: the call whose result is the candidate.
        shape: of that result.

    Returns:
        What it is; None where the logits do not depend on it.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> classify_candidate(Subject(network, torch.rand(3, 3, 8, 8)), Site("0", "conv2d", 0), (3, 4, 6, 6)).kind
        'not-gap'
    """
    tolerance = tolerance_of(subject.inputs.dtype)
    plain = _respond(subject, site, shape, hold=False)
    if plain is None:
        return None
    if not plain.jacobian.isfinite().all():
        return Candidate("not-gap", _NOT_FINITE, site, shape)
    placed = _tell_places(plain.jacobian, site, tolerance)
    if isinstance(placed, str):
        return Candidate("one-token" if placed == _ONE_TOKEN else "not-gap", placed, site, shape)
    if placed.tokens and not _in_rows(placed.tokens, shape[3 - placed.channel], subject.inputs.shape[2:]):
        return Candidate("not-gap", _NO_GRID, site, shape)
    if plain.same(tolerance):
        closed = plain.closed(tolerance)
        return Candidate("gap-linear" if closed else "not-gap", "" if closed else _BYPASS, placed, shape)
    held = _respond(subject, site, shape, hold=True)
    if held is not None and held.proportional(tolerance) and held.closed(tolerance):
        return Candidate("gap-norm-linear", "", placed, shape)
    return Candidate("nonlinear", _SOFTMAX if plain.probabilities else _NONLINEAR, placed, shape)


@dataclass(frozen=True)
class _Response:
    """How the logits, in a few random mixtures of classes, respond to features put in.

    Attributes:
        jacobian: (mixtures, N, ...) with the features' own dimensions.
        rest: scores less <J, F>, (N, mixtures).
        size: largest score, to which `rest` is compared.
        probabilities: whether the logits are probabilities or their logarithms.
    """

    jacobian: Tensor
    rest: Tensor
    size: float
    probabilities: bool

    def same(self, tolerance: float) -> bool:
        return _spread(self.jacobian, 1) <= tolerance * float(self.jacobian.abs().max())

    def closed(self, tolerance: float) -> bool:
        return _spread(self.rest, 0) <= tolerance * self.size

    def proportional(self, tolerance: float) -> bool:
        """Whether pictures differ by one factor each."""
        rows = self.jacobian.transpose(0, 1).flatten(1)
        if not rows.any(1).all():
            return False
        factors = rows @ rows[0] / rows[0].square().sum()
        deviation = (rows - factors[:, None] * rows[0]).abs().amax(1)
        return bool((deviation <= tolerance * rows.abs().amax(1)).all())


def _respond(subject: Subject, site: Site, shape: Sequence[int], *, hold: bool) -> _Response | None:
    strengths = torch.logspace(-0.5, 1, shape[0]).view(-1, *[1] * (len(shape) - 1))
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(*shape, generator=generator)
    for dim in range(1, len(shape)):  # whichever holds the channels: their averages must differ as much
        offsets = [size if each in (0, dim) else 1 for each, size in enumerate(shape)]
        features = features + 2 * torch.randn(*offsets, generator=generator)
    features = strengths * features
    response = _respond_to(subject, site, features, hold)
    if response is not None and not response.jacobian.isfinite().all():  # roots and logarithms want features above 0
        return _respond_to(subject, site, features.abs(), hold)
    return response


def _respond_to(subject: Subject, site: Site, features: Tensor, hold: bool) -> _Response | None:
    features = features.to(subject.inputs).requires_grad_()
    logits, probe = run(subject, (site, features), hold)
    if not probe.injected or not logits.requires_grad:
        return None
    mixtures = torch.randn(logits.shape[1], 3, generator=torch.Generator().manual_seed(4)).to(logits)
    scores = logits @ mixtures
    gradients = [torch.autograd.grad(s.sum(), features, retain_graph=True, allow_unused=True)[0] for s in scores.T]
    jacobian = torch.stack([torch.zeros_like(features) if g is None else g for g in gradients])
    if not jacobian.any():
        return None
    with torch.no_grad():
        explained = (jacobian * features).flatten(2).sum(2).T
        sums = torch.stack([logits, logits.exp()]).sum(2)
        probabilities = logits.shape[1] > 1 and bool(torch.isclose(sums, torch.ones_like(sums)).all(1).any())
        return _Response(jacobian, scores - explained, float(scores.abs().max()), probabilities)


def _spread(values: Tensor, dim: int) -> float:
    return float((values.amax(dim) - values.amin(dim)).max())


def _tell_places(jacobian: Tensor, site: Site, tolerance: float) -> Site | str:
    """Tell channels from places: J is the same along the places; say why not where it is so along none.

    A row of tokens may hold class or register tokens at its ends, where J is zero.
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
    """Say where along a dimension J is not zero, (size,) bool; None where it differs among those places."""
    slices = jacobian.movedim(dim, 0).flatten(1)
    limit = tolerance * float(jacobian.abs().max())
    alive = slices.abs().amax(1) > limit
    return alive if alive.any() and _spread(slices[alive], 0) <= limit else None


def _in_rows(tokens: tuple[int, int], length: int, input_size: Sequence[int]) -> bool:
    """Whether a row of tokens can be arranged with about the aspect of the input: a class token spoils it."""
    height, width = input_size
    rows, columns = token_grid(length - sum(tokens), (height, width))
    return 2 / 3 < (rows * width) / (columns * height) < 3 / 2
