"""Measure where in the input the cells of a map have their evidence from, without knowing the network.

Convolution arithmetic gives one answer and stretching the map over the input another; training changes both, because a
padded network learns to make its grid cover the image. So the distance between cells is taken from how the grid grows
with the input, and the middle of the grid from the effective receptive field of its middle cells (Luo et al. 2016).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.heads.head import Site
from cam.heads.hooks import feature_hook
from cam.heads.pasting import Pastes, centroids, energy_of, make_pastes, orient
from cam.heads.tape import record
from cam.maps.geometry import Grid, stretched
from cam.tensors import device_and_dtype

Vectors: TypeAlias = NDArray[np.float64]  # along y and x, (N, 2) or (2,)

# Correlation of pasted and answering positions: real networks have 0.96 and more, tokens window by window up to 0.82.
_MIN_CORRELATION = 0.85
_LARGER = 3  # times the input size: what a cell sees is a smaller part of the map there
_ROUNDING = 10  # times the precision of a number
_MORE_CELLS = 4  # over which a stride is averaged, because some networks gain several cells at once
_MAX_DISAGREEMENT = 0.5  # strides, of the middles by gradients and by pastes
_MIN_ERROR = 0.001  # strides
_SHORT = 32  # pixels; most networks run on inputs of that side


@torch.inference_mode(False)  # gradients even if the caller has disabled them
def measure_grid(
    network: nn.Module, site: Site, weights: Tensor, input_shape: tuple[int, int, int]
) -> tuple[Site, Grid] | None:
    """Measure where the cells of a map lie, for a network from `eval_copy` made for (channels, H, W).

    The weights (K,) say how much the classes look at each channel.

    Returns:
        The site, which gives rows and columns as they lie in the image, and the grid; stretched over the input if the
        map does not grow with the input. None if the cells are not places in the image.
    """
    pastes, weights = make_pastes(input_shape), _at_most_1(weights)
    inputs = pastes.backgrounds.to(*device_and_dtype(network)).requires_grad_()
    try:
        features = _features(network, site, inputs, gradients=True)
    except RuntimeError:  # it leaves torch in between
        features = _features(network, site, inputs.detach())
    energy = _energy(network, site, pastes, features, weights)
    cells, size = (features.shape[2], features.shape[3]), (input_shape[1], input_shape[2])
    largest = float((features.detach().float() * weights).square().sum(1).max())
    if float(energy.max()) <= (_ROUNDING * torch.finfo(features.dtype).eps) ** 2 * largest:  # as of dead features
        return site, stretched(cells, size)
    oriented = _oriented(site, energy, pastes)
    reliable = oriented is not None
    for orient_otherwise in (_oriented_without_gates, _oriented_when_larger):
        oriented = oriented or orient_otherwise(network, site, weights, input_shape)
    if oriented is None:
        return None
    site = oriented
    features, energy = site.orient(features), site.orient(energy)
    cells = features.shape[2], features.shape[3]
    count = _cell_counter(network, site, input_shape[0])
    steps = [_stride(count, axis, size[axis], cells[axis]) for axis in (0, 1)]
    if None in steps:
        return site, stretched(cells, size)
    stride, middle_cell = np.array(steps, float), (np.array(cells) - 1) / 2
    by_pastes = pastes.centers - stride * (centroids(energy) - middle_cell)
    turned_pairs = by_pastes.reshape(2, -1, 2).mean(0)[: None if reliable else 0]
    middle = _middle(_middles_by_gradients(inputs, features, weights, stride), turned_pairs, stride)
    if not np.isfinite(middle).all():
        return site, stretched(cells, size)
    offset = middle - stride * middle_cell
    return site, Grid((float(offset[0]), float(offset[1])), (float(stride[0]), float(stride[1])), "measured")


def _at_most_1(weights: Tensor) -> Tensor:
    """Weights (K, 1, 1) of the channels over the largest."""
    return (weights / weights.max() if weights.any() else torch.ones_like(weights)).float().view(-1, 1, 1)


def _features(network: nn.Module, site: Site, inputs: Tensor, *, gradients: bool = False) -> Tensor:
    """Features (N, K, h, w), also if the network fails after them, as a fixed pool does at another input size."""
    with feature_hook(network, site, gradients=gradients) as hook:
        return torch.cat([hook.features(part) for part in torch.split(inputs.to(*device_and_dtype(network)), 2)])


def _energy(network: nn.Module, site: Site, pastes: Pastes, features: Tensor, weights: Tensor) -> Tensor:
    """Energy (N, h, w) of how features (B, K, h, w) of the backgrounds change when patches are pasted."""
    before = features.detach()[pastes.background.to(features.device)].float()
    return energy_of((_features(network, site, pastes.images).float() - before) * weights)


def _oriented(site: Site, energy: Tensor, pastes: Pastes) -> Site | None:
    """The site with rows and columns as in the image; None if the cells do not answer in their order."""
    oriented, correlations = orient(site, energy, pastes.centers)
    return None if any(correlations < _MIN_CORRELATION) else oriented


def _oriented_without_gates(
    network: nn.Module, site: Site, weights: Tensor, shape: tuple[int, int, int]
) -> Site | None:
    """The same with gates of the whole image, which a patch moves everywhere, as they are without it."""
    pastes, (device, dtype) = make_pastes(shape), device_and_dtype(network)
    tape = record(network, pastes.backgrounds[:1].to(device, dtype))
    slots = [slot for other, slot in tape.cuts() if other == site]
    if not slots:
        return None

    def features(values: dict[int, Tensor]) -> Tensor:
        return site.to_grid(values[slots[0]], (shape[1], shape[2]))

    with torch.no_grad(), suppress(RuntimeError):  # of a call that cannot be run again
        before = [tape.values(image[None].to(device, dtype)) for image in pastes.backgrounds]
        changes = []
        for number, image in zip(pastes.background.tolist(), pastes.images, strict=True):
            values = tape.values(image[None].to(device, dtype), global_values=before[number])
            changes.append(features(values) - features(before[number]))
        return _oriented(site, energy_of(torch.cat(changes).float() * weights), pastes)
    return None


def _oriented_when_larger(network: nn.Module, site: Site, weights: Tensor, shape: tuple[int, int, int]) -> Site | None:
    """The same at a larger input, of which every cell sees a smaller part; None if the network takes one size only."""
    pastes = make_pastes((shape[0], _LARGER * shape[1], _LARGER * shape[2]))
    with suppress(Exception):
        features = _features(network, site, pastes.backgrounds)
        return _oriented(site, _energy(network, site, pastes, features, weights), pastes)
    return None


def _middles_by_gradients(inputs: Tensor, features: Tensor, weights: Tensor, stride: Vectors) -> Vectors:
    """Middle (N, 2) of the map by what the middle row and column see in each input, pixels; NaN without a gradient.

    A random mixture of the channels at every cell makes many independent measurements in one pass. Of an even number of
    rows the turned images take the other middle one.
    """
    if not features.requires_grad:
        return np.full((len(inputs), 2), np.nan)
    mixture = torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).to(features)
    evidence = (features * mixture * weights.to(features)).sum(1)
    middles = []
    for axis in (1, 2):
        cells = evidence.shape[axis]
        rows = (cells - 1) // 2, cells // 2
        halves = [half.select(axis, row).sum() for half, row in zip(evidence.chunk(2), rows, strict=True)]
        try:
            (gradient,) = torch.autograd.grad(halves[0] + halves[1], inputs, retain_graph=True)
        except RuntimeError:  # through reentrant checkpointing
            return np.full((len(inputs), 2), np.nan)
        profile = gradient.cpu().double().abs().sum((1, 4 - axis)).numpy()
        with np.errstate(invalid="ignore"):  # a gradient of zero
            center = profile @ np.arange(profile.shape[1]) / profile.sum(1)
        middles.append(center - stride[axis - 1] * (np.repeat(rows, len(inputs) // 2) - (cells - 1) / 2))
    return np.stack(middles, 1)


def _middle(by_gradients: Vectors, by_pastes: Vectors, stride: Vectors) -> Vectors:
    """Middle of the map, (2,), from measurements (N, 2): the mean of both methods, weighted by their standard errors.

    If they disagree, the gradient misleads.
    """
    gradient, gradient_error = _mean_and_error(by_gradients, stride)
    paste, paste_error = _mean_and_error(by_pastes, stride)
    weight = paste_error**2 / (gradient_error**2 + paste_error**2)
    mean = weight * gradient + (1 - weight) * paste
    agree = np.abs(gradient - paste) <= _MAX_DISAGREEMENT * stride  # False for NaN
    middle: Vectors = np.where(agree, mean, np.where(np.isnan(paste), gradient, paste))
    return middle


def _mean_and_error(centers: Vectors, stride: Vectors) -> tuple[Vectors, Vectors]:
    """Mean and standard error (2,) of measurements (N, 2), those that failed left out."""
    centers = centers[np.isfinite(centers).all(1)]
    if len(centers) < 2:
        return np.full(2, np.nan), np.full(2, np.nan)
    return centers.mean(0), np.maximum(centers.std(0, ddof=1) / len(centers) ** 0.5, _MIN_ERROR * stride)


def _cell_counter(network: nn.Module, site: Site, channels: int) -> Callable[[int, int], int]:
    """Make the function that counts the rows (axis 0) or columns (axis 1) of the map of a square input."""
    run = cache(lambda side: _features(network, site, torch.zeros(1, channels, side, side)).shape)
    return lambda axis, side: run(side)[2 + axis]


def _stride(count_cells: Callable[[int, int], int], axis: int, length: int, cells: int) -> float | None:
    """Pixels from cell to cell along an axis: the mean step of the input sizes at which the map gains a cell.

    None if the map does not grow with the input. Small inputs are cheap; the network may need larger ones.
    """
    count = partial(count_cells, axis)
    for start in (min(length, max(_SHORT, math.ceil(2 * length / cells))), length):
        with suppress(Exception):  # the network takes one size only, or none so small
            if stride := _step(count, start):
                return stride
    try:
        more = count(2 * length) - cells
    except Exception:  # it takes one size only
        return length / cells
    return length / more if more > 0 else None  # it takes some sizes only, such as multiples of its stride


def _step(count: Callable[[int], int], start: int) -> float | None:
    cells = count(start)
    rough = math.ceil(start / cells)
    end = start + (1 if count(start + rough) > cells else 2) * rough
    first = bisect_left(range(end), cells + 1, start, key=count)
    guess = first + _MORE_CELLS * (start // cells)
    if count(guess - 1) < cells + 1 + _MORE_CELLS <= count(guess):
        return start // cells
    last = bisect_left(range(first + 2 * _MORE_CELLS * rough), cells + 1 + _MORE_CELLS, first, key=count)
    return (last - first) / _MORE_CELLS if count(last) > cells + _MORE_CELLS else None
