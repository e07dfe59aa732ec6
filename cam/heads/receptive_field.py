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
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.heads.head import Head, Site
from cam.heads.hooks import feature_hook
from cam.heads.pasting import Pastes, centroids, energy_of, make_pastes, orient
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
def measure_grid(network: nn.Module, head: Head, input_shape: tuple[int, int, int]) -> tuple[Site, Grid] | None:
    """Measure where the cells of a map lie, for a network from `eval_copy` made for (channels, H, W).

    Returns:
        The site, which gives rows and columns as they lie in the image, and the grid; stretched over the input if the
        map does not grow with the input. None if the cells are not places in the image.
    """
    answers = _paste_patches(network, head, input_shape, gradients=True)
    pastes, inputs, features = answers.pastes, answers.inputs, answers.features
    cells, size = (features.shape[2], features.shape[3]), (input_shape[1], input_shape[2])
    if answers.silent:  # nothing can be measured
        return head.site, stretched(cells, size)
    site = _oriented(answers, head.site)
    reliable = site is not None
    if site is None and (site := _oriented_when_larger(network, head, input_shape)) is None:
        return None
    features, energy = site.orient(features), site.orient(answers.energy)
    cells = features.shape[2], features.shape[3]
    steps = [_stride(network, site, input_shape, axis, cells[axis]) for axis in (0, 1)]
    if None in steps:
        return site, stretched(cells, size)
    stride, middle_cell = np.array(steps, float), (np.array(cells) - 1) / 2
    by_pastes = pastes.centers - stride * (centroids(energy) - middle_cell)
    turned_pairs = by_pastes.reshape(2, -1, 2).mean(0)[: None if reliable else 0]
    middle = _middle(_middles_by_gradients(inputs, features, answers.weights, stride), turned_pairs, stride)
    if not np.isfinite(middle).all():
        return site, stretched(cells, size)
    offset = middle - stride * middle_cell
    return site, Grid((float(offset[0]), float(offset[1])), (float(stride[0]), float(stride[1])), "measured")


@dataclass(frozen=True)
class _Answers:
    """How features (N, K, h, w) of the backgrounds change when patches are pasted: with the energy (M, h, w)."""

    pastes: Pastes
    inputs: Tensor
    features: Tensor
    energy: Tensor
    weights: Tensor  # (K, 1, 1), as the head weighs the channels

    @property
    def silent(self) -> bool:
        """True if the features change by no more than rounding errors, as dead ones do."""
        features = self.features.detach()
        largest = float((features.float() * self.weights).square().sum(1).max())
        return float(self.energy.max()) <= (_ROUNDING * torch.finfo(features.dtype).eps) ** 2 * largest


def _paste_patches(network: nn.Module, head: Head, shape: tuple[int, int, int], *, gradients: bool = False) -> _Answers:
    pastes, norms = make_pastes(shape).with_turned(), head.weight.double().norm(dim=0)
    weights = (norms / norms.max() if norms.any() else torch.ones_like(norms)).float().view(-1, 1, 1)
    device, dtype = device_and_dtype(network)
    inputs = pastes.backgrounds.to(device, dtype)
    inputs, features, changed = _features(network, head.site, inputs, pastes.images.to(device, dtype), gradients)
    halves = [half.repeat(len(changed) // len(features), 1, 1, 1) for half in features.detach().chunk(2)]
    change = (changed.float() - torch.cat(halves).float()) * weights
    return _Answers(pastes, inputs, features, energy_of(change), weights)


def _features(
    network: nn.Module, site: Site, inputs: Tensor, images: Tensor, gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, their features, with gradients if the network allows them, and the features of images."""
    batch = len(inputs) // 2
    changed = torch.cat([_run(network, site, part) for part in torch.split(images, batch)])
    if gradients:
        with suppress(RuntimeError):  # it leaves torch in between
            inputs = inputs.requires_grad_()
            return inputs, _run(network, site, inputs, gradients=True), changed
    inputs = inputs.detach()
    return inputs, torch.cat([_run(network, site, part) for part in torch.split(inputs, batch)]), changed


def _run(network: nn.Module, site: Site, inputs: Tensor, *, gradients: bool = False) -> Tensor:
    """Features (N, K, h, w), also if the network fails after them, as a fixed pool does at another input size."""
    with feature_hook(network, site, gradients=gradients) as hook:
        return hook.features(inputs)


def _oriented(answers: _Answers, site: Site) -> Site | None:
    """The site with rows and columns as in the image; None if the cells do not answer in their order."""
    oriented, correlations = orient(site, answers.energy, answers.pastes.centers)
    return None if any(correlations < _MIN_CORRELATION) else oriented


def _oriented_when_larger(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Site | None:
    """The same at a larger input, of which every cell sees a smaller part; None if the network takes one size only."""
    larger = shape[0], _LARGER * shape[1], _LARGER * shape[2]
    with suppress(Exception):
        return _oriented(_paste_patches(network, head, larger), head.site)
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


def _stride(network: nn.Module, site: Site, shape: tuple[int, int, int], axis: int, cells: int) -> float | None:
    """Pixels from cell to cell along an axis: the mean step of the input sizes at which the map gains a cell.

    None if the map does not grow with the input. Small inputs are cheap; the network may need larger ones.
    """
    length, other = shape[1 + axis], shape[2 - axis]
    small = min(length, math.ceil(2 * length / cells)), min(other, max(_SHORT, math.ceil(length / cells)))
    for start, width in (small, (length, other)):
        with suppress(Exception):  # the network takes one size only, or none so small
            if stride := _step(_cell_counter(network, site, shape[0], axis, width), start):
                return stride
    with suppress(Exception):  # it takes some sizes only, such as multiples of its stride
        more = _cell_counter(network, site, shape[0], axis, other)(2 * length) - cells
        return length / more if more > 0 else None
    return None


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


def _cell_counter(network: nn.Module, site: Site, channels: int, axis: int, short: int) -> Callable[[int], int]:
    """Make the function that counts the cells along an axis of an input of any length."""
    device, dtype = device_and_dtype(network)

    @cache
    def count(length: int) -> int:
        size = (length, short) if axis == 0 else (short, length)
        return _run(network, site, torch.zeros(1, channels, *size, device=device, dtype=dtype)).shape[2 + axis]

    return count
