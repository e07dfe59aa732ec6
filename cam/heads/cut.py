"""Find where to cut a network without an exact map: at features from which alone the logits follow."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import takewhile
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.heads.copies import random_inputs
from cam.heads.head import Site, token_grid
from cam.heads.pasting import make_pastes, orient, without_noise
from cam.heads.probe import Experiment
from cam.heads.tape import Tape, features_at, held_run, record
from cam.maps.geometry import Size
from cam.tensors import device_and_dtype

_MIN_SIDE = 4  # rows and columns of a map, and their product the number of positions that count
_MIN_SHARE = 0.9  # of the logits that the positions move, not the class tokens
_MIN_CORRELATION = 0.7  # of pasted and answering positions
_MAX_ASPECT = 4  # of a cell, that pools of a fixed size may give it
_MAX_TOKENS = 16  # that are no positions: class and register tokens
_MAX_NUMBERS = 2**20  # of the features of one image; those of the first layers are more, and take the most time
_SILENT = 1e-6  # of the largest gradient, below which a position does not count
_SAME = 1e-3  # of the spread of the logits
_MIXING = {"linear", "matmul", "__matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}
_MIXING |= {"multi_head_attention_forward", "conv1d", "conv2d", "conv_transpose2d", "addmm", "convolution"}


@dataclass(frozen=True)
class Cut:
    """Where a network is cut."""

    site: Site  # with channels, tokens and orientation
    weights: Tensor  # (K,), how much the logits depend on each channel
    share: float = 1.0  # of the logits that the positions move; the rest is in class tokens
    cells: Size = (0, 0)  # (h, w) of the map


def find_cut(network: nn.Module, input_shape: tuple[int, int, int], layer: str | None = None) -> Cut | None:
    """Find the last features with positions from which alone the logits follow, in a network from `eval_copy`.

    Of those with no mixing of positions in between, such as before and after a max pool, it takes the finest. Class
    tokens carry more and more of the logits from block to block: it takes the last features whose positions move
    nine tenths of them, because maps of later ones lie less well (docs/evaluation.md).

    Args:
        network: in evaluation mode.
        input_shape: (channels, H, W) that it was made for.
        layer: name of a module to cut in; None for any.

    Returns:
        None if there is no such place.
    """
    images = random_inputs(2, input_shape).to(*device_and_dtype(network))
    tape = record(network, images[:1])
    slots = {
        site: slot
        for site, slot in tape.cuts()
        if _may_have_positions(tape.shapes[slot], any_size=layer is not None)
        and (layer is None or f"{site.layer}.".startswith(f"{layer}."))
    }
    jacobians = _jacobians(tape, images[:1], slots) if slots else {}
    located = locate(network, jacobians, input_shape)
    grids = {site: found.to_grid(jacobians[site], input_shape[1:])[0].abs() for site, found in located.items()}
    with torch.no_grad():
        values = [tape.values(image[None]) for image in images]

    @cache
    def share(site: Site) -> float:
        features = [of_image[slots[site]][0] for of_image in values]
        return _share(tape.after(slots[site]), features, located[site])

    usable = _usable([site for site in slots if site in located], grids)
    first = bisect_left(usable, True, key=lambda site: share(site) >= _MIN_SHARE)  # it grows towards the input
    for number, site in enumerate(usable[first:] or usable[-1:], first):
        slot = slots[site]
        if not _follows(network, tape.after(slot), site, values[0][slot], images[:1]):
            continue
        unmixed = takewhile(partial(_is_unmixed, tape, slots, site), usable[number:])
        finest = max(unmixed, key=lambda other: grids[other][0].numel(), default=site)  # of equals the latest
        grid = grids[finest]
        return Cut(located[finest], grid.square().sum((1, 2)).sqrt(), share(finest), (grid.shape[1], grid.shape[2]))
    return None


def _usable(sites: Sequence[Site], grids: Mapping[Site, Tensor]) -> list[Site]:
    """Those with enough rows, columns and positions that count; if there are none, the one with most positions.

    The `grids` are the gradients (K, h, w), absolute.
    """
    counting = {site: int((grids[site].amax(0) > _SILENT * grids[site].max()).sum()) for site in sites}
    usable = [site for site in sites if counting[site] >= _MIN_SIDE**2 and min(grids[site].shape[1:]) >= _MIN_SIDE]
    small = [site for site in sites if counting[site] > 1]
    return usable or sorted(small, key=lambda site: grids[site][0].numel(), reverse=True)[:1]


def _may_have_positions(shape: Sequence[int], any_size: bool) -> bool:
    is_grid = len(shape) in (3, 4) and shape[0] == 1 and sum(size > 1 for size in shape[1:]) >= 2
    return is_grid and (any_size or math.prod(shape) <= _MAX_NUMBERS)


def _jacobians(tape: Tape, inputs: Tensor, slots: Mapping[Site, int]) -> dict[Site, Tensor]:
    """Gradients of a random mixture of the logits with respect to the tensors that move it."""
    with torch.enable_grad():
        values = tape.values(inputs.clone().requires_grad_())
        logits = values[cast(int, tape.end)]
        mixture = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(5)).to(logits)
        slots = {site: slot for site, slot in slots.items() if values[slot].requires_grad}
        if not (slots and logits.requires_grad):
            return {}
        tensors = [values[slot] for slot in slots.values()]
        found = torch.autograd.grad((logits @ mixture).sum(), tensors, allow_unused=True)
    gradients = {site: gradient for site, gradient in zip(slots, found, strict=True) if gradient is not None}
    return {site: gradient for site, gradient in gradients.items() if gradient.isfinite().all() and gradient.any()}


def locate(network: nn.Module, jacobians: Mapping[Site, Tensor], input_shape: tuple[int, int, int]) -> dict[Site, Site]:
    """Find out which dimensions of tensors are channels, rows and columns, by pasting patches into images.

    The Jacobians (1, ...) say how much each number counts. Tensors whose positions answer in no order are left out.
    """
    pastes = make_pastes(input_shape)
    energies: dict[tuple[Site, int], list[Tensor]] = {}
    device_dtype = device_and_dtype(network)
    order = []
    for number, background in enumerate(pastes.backgrounds):
        of_background = (pastes.background == number).nonzero()[:, 0]
        order.append(of_background)
        images = torch.cat([background[None], pastes.images[of_background]]).to(*device_dtype)
        for site, features in features_at(network, jacobians.keys(), images).items():
            if features.shape[1:] != jacobians[site].shape[1:] or len(features) != len(images):
                continue
            change = (features[1:] - features[:1]).double().square()
            for channel in range(1, features.ndim):
                others = [dim for dim in range(features.ndim) if dim != channel]
                weight = jacobians[site].double().square().sum(others, keepdim=True)
                energies.setdefault((site, channel), []).append((change * weight).sum(channel).cpu())
    centers = pastes.centers[torch.cat(order).numpy()]
    best: dict[Site, tuple[float, Site]] = {}
    for (site, channel), parts in energies.items():
        if len(parts) == len(pastes.backgrounds):
            for guess in _layouts(replace(site, channel=channel), torch.cat(parts), input_shape[1:]):
                oriented, correlation = _fit(guess, torch.cat(parts), centers, input_shape[1:])
                if correlation >= max(_MIN_CORRELATION, best.get(site, (0.0, site))[0] + 1e-9):
                    best[site] = correlation, oriented
    return {site: oriented for site, (_, oriented) in best.items()}


def _layouts(site: Site, energy: Tensor, size: tuple[int, int]) -> Iterator[Site]:
    """The ways in which a site's positions (N, ...) may be rows and columns of a map of an input of (H, W) pixels."""
    if energy.ndim == 3:
        aspect = energy.shape[1] * size[1] / (energy.shape[2] * size[0])
        if 1 / _MAX_ASPECT < aspect < _MAX_ASPECT:  # else one of them holds the channels
            yield site
        return
    count = energy.shape[1]

    def distortion(extra: int) -> float:
        rows, columns = token_grid(count - extra, size)
        return abs(math.log((rows * size[1]) / (columns * size[0])))

    extra = min(range(min(_MAX_TOKENS, count - _MIN_SIDE) + 1), key=distortion, default=0)  # of equals the fewest
    if distortion(extra) < math.log(3 / 2):
        for front in range(extra + 1):
            yield replace(site, tokens=(front, extra - front))


def _fit(site: Site, energy: Tensor, centers: NDArray[np.float64], size: tuple[int, int]) -> tuple[Site, float]:
    """The site with rows and columns as in the image, and how well its positions answer in their order, -1 to 1."""
    positions = replace(site, channel=1).to_grid(energy[:, None], size)[:, 0]
    oriented, correlations = orient(site, without_noise(positions), centers)
    return oriented, float(np.nan_to_num(correlations, nan=-1).min())


def _is_unmixed(tape: Tape, slots: Mapping[Site, int], later: Site, site: Site) -> bool:
    """True if no call between a site and a later one mixes positions or channels."""
    steps = tape.after(slots[site]).steps
    between = steps[: len(steps) - len(tape.after(slots[later]).steps)]
    return not any(step.site.operation in _MIXING for step in between)


def _follows(network: nn.Module, tape: Tape, site: Site, features: Tensor, inputs: Tensor) -> bool:
    """True if a tape gives the logits that the network has with other features (1, ...) at its site."""
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(6)).to(features)
    features = features * (1 + 0.5 * noise)
    try:
        expected, probe = Experiment(network, inputs).run((site, features))
        actual = tape(features)
    except RuntimeError:
        return False
    size = float(torch.stack([expected.amax() - expected.amin(), expected.abs().amax()]).amax())
    return probe.injected and float((actual - expected).abs().max()) <= _SAME * size


def _share(tape: Tape, images: Sequence[Tensor], site: Site) -> float:
    """Share of the change of the logits, when all tokens vanish, that comes from those that are positions.

    The features (...) are those of a few images.
    """
    if not any(site.tokens or ()):
        return 1.0
    front, end = site.tokens or (0, 0)
    moved, total = 0.0, 0.0
    for features in images:
        others = features.clone()
        others.narrow(2 - site.channel, front, others.shape[2 - site.channel] - front - end).zero_()
        rows = torch.stack([features, others, torch.zeros_like(features)])
        logits = held_run(tape, features[None])(rows, torch.zeros(3, dtype=torch.long, device=features.device))
        logits = logits - logits.mean(1, keepdim=True) if logits.shape[1] > 1 else logits
        by_positions, by_all = logits[0] - logits[1], logits[0] - logits[2]
        moved, total = moved + float(by_positions @ by_all), total + float(by_all @ by_all)
    return moved / total if total else 0.0
