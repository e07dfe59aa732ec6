"""Paste patches into random images: which cells answer shows whether the cells of a map are places in the image.

An average over an ensemble, over views of an image or over learned queries weighs its parts evenly too, but they lie
nowhere in the image. Pasting also shows rows and columns that are swapped or mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.heads.copies import random_inputs
from cam.heads.head import Site

_BACKGROUNDS, _PASTES = 2, 6
_SIDES = 0.12, 0.2, 0.3  # of a patch, shares of the image's
_SOFT = 0.25  # share of half a patch's side over which it fades in and out
_SPREAD = 0.7548776662, 0.5698402910  # multiples of them, modulo 1, fill the unit square evenly
_NOISE = 0.1  # share of the largest change, below which a cell does not answer
_SPREAD_OUT = 0.2  # share of what is left, that does not say where rows and columns lie


@dataclass(frozen=True)
class Pastes:
    """Random images with and without a patch; the second half of each is the first, turned by 180 degrees.

    An average over both halves is nearly free of what the images look like.
    """

    backgrounds: Tensor  # (B, channels, H, W), network inputs
    images: Tensor  # (N, channels, H, W), a background with a patch
    background: Tensor  # (N,), which of the backgrounds that is
    centers: NDArray[np.float64]  # (N, 2), (y, x) of the visible part of each patch, pixels


def make_pastes(shape: tuple[int, int, int]) -> Pastes:
    """Paste soft-edged textured patches of several sizes into network inputs (channels, H, W), spread evenly."""
    rng = np.random.default_rng(0)
    backgrounds, patches = random_inputs(_BACKGROUNDS, shape, 2), random_inputs(_PASTES, shape, 3)
    spread = (np.arange(_PASTES)[:, None] * np.array(_SPREAD) + rng.random(2)) % 1
    background = torch.arange(_PASTES) % _BACKGROUNDS
    masks, centers = [], []
    for number, position in enumerate(spread):
        profiles = []
        for length, share in zip(shape[1:], position, strict=True):
            radius = max(_SIDES[number % len(_SIDES)] * length / 2, 1.0)
            distance = np.abs(np.arange(length) + 0.5 - share * length)
            profiles.append(np.clip((radius * (1 + _SOFT) - distance) / (2 * _SOFT * radius), 0, 1))
        centers.append([profile @ np.arange(len(profile)) / profile.sum() for profile in profiles])
        masks.append(torch.from_numpy(np.outer(*profiles)).float())
    images = torch.lerp(backgrounds[background], patches[rng.permutation(_PASTES)], torch.stack(masks)[:, None])
    return Pastes(
        torch.cat((backgrounds, backgrounds.flip(2, 3))),
        torch.cat((images, images.flip(2, 3))),
        torch.cat((background, background + _BACKGROUNDS)),
        np.concatenate((centers, np.array(shape[1:]) - 1 - centers)),
    )


def energy_of(change: Tensor) -> Tensor:
    """Energy (N, h, w) of the change of features (N, K, h, w), less what counts as noise."""
    return without_noise(change.double().square().sum(1).cpu())


def without_noise(energy: Tensor) -> Tensor:
    """Energy (N, h, w) less what counts as noise."""
    return (energy - _NOISE * energy.amax((1, 2), keepdim=True)).clamp(min=0)


def orient(site: Site, energy: Tensor, centers: NDArray[np.float64]) -> tuple[Site, NDArray[np.float64]]:
    """Find how rows and columns of the features lie in the image, from the energy (N, h, w) of N pastes at (N, 2).

    Returns:
        The site that gives them as they lie, and the correlations (2,) of pasted with answering positions along y and
        x; NaN along an axis with one cell.
    """
    sites = site, replace(site, transposed=True)
    both = [_correlations(candidate.orient(energy), centers) for candidate in sites]
    best = int(np.nansum(np.abs(both[1])) > np.nansum(np.abs(both[0])))
    flipped = bool(both[best][0] < 0), bool(both[best][1] < 0)
    return replace(sites[best], flipped=flipped), np.abs(both[best])


def centroids(energy: Tensor) -> NDArray[np.float64]:
    """Centroid (N, 2) of the energy (N, h, w) of each paste, in rows and columns; NaN where there is none."""
    along = [energy.sum(3 - axis) @ torch.arange(energy.shape[axis]).to(energy) for axis in (1, 2)]
    return (torch.stack(along, 1) / energy.sum((1, 2))[:, None]).numpy()


def _correlations(energy: Tensor, centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations (2,), by the strongest answers: normalizations over the image spread the faint ones."""
    largest = energy.amax((1, 2))
    answers = centroids((energy - _SPREAD_OUT * largest[:, None, None]).clamp(min=0))
    answered = np.isfinite(answers[:, 0])
    weights = largest.sqrt().numpy()[answered]
    correlations = []
    for axis in (0, 1):
        pasted, cells = centers[answered, axis], answers[answered, axis]
        if len(cells) < 3 or cells.std() < 1e-6:
            correlations.append(0.0)
            continue
        covariance = np.cov(pasted, cells, aweights=weights)
        correlations.append(float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])))
    return np.where(np.array(energy.shape[1:]) == 1, np.nan, correlations)
