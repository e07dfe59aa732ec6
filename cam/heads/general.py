"""A head of any kind: it is run again, from the features to the logits, to divide a logit among the positions."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from cam.errors import ModelError, reason_of
from cam.heads.copies import random_inputs
from cam.heads.head import Kind, Site
from cam.heads.hooks import eval_mode
from cam.heads.tape import Tape, held_run, record
from cam.maps.complete import FIRST_NODES, RunOfImages, Shares, gradients, integrated_gradients, shapley_values
from cam.maps.references import Reference, reference_map
from cam.tensors import device_and_dtype

GeneralMethod: TypeAlias = Literal["integrated", "shapley"] | Reference
Method: TypeAlias = Literal["exact"] | GeneralMethod
_MAX_GROUPS = 8  # of cells along an axis, for Shapley values
_MAX_TAPES = 8
_MAX_CLASSES = 16  # at once: each has as many slopes as there are features


@dataclass(frozen=True)
class ClassMaps:
    """Maps of T classes of one image."""

    maps: Tensor  # (T, h, w), logit units; their mean plus the base is the logit, or they are a reference
    base: Tensor  # (T,), logits where the features are zero
    runs: int  # nodes of integrated gradients, or permutations of Shapley values
    sampling_error: float = 0.0  # standard error of Shapley values, as a share of their size


class Tapes:
    """What follows a site of a network, recorded once for each input size; the network must be in evaluation mode."""

    def __init__(self, network: nn.Module, site: Site, channels: int) -> None:
        self.network, self.site, self.channels = network, site, channels
        self._tapes: dict[object, Tape] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Tapes], tuple[nn.Module, Site, int]]:
        return type(self), (self.network, self.site, self.channels)  # calls cannot be copied

    def at(self, size: tuple[int, int]) -> Tape:
        """The tape for inputs of (H, W) pixels."""
        device, dtype = device_and_dtype(self.network)
        with self._lock:
            key = size, device, dtype
            if key not in self._tapes:
                inputs = random_inputs(1, (self.channels, *size)).to(device, dtype)
                with eval_mode(self.network):
                    tape = record(self.network, inputs)
                slots = [slot for site, slot in tape.cuts() if site == self.site]
                if not slots:
                    problem = f"The class scores do not follow from the features alone for inputs of {size}"
                    raise ModelError(problem, "Give inputs of the size the network was made for")
                while len(self._tapes) >= _MAX_TAPES:
                    del self._tapes[next(iter(self._tapes))]
                self._tapes[key] = tape.after(slots[0])
            return self._tapes[key]


@dataclass(frozen=True)
class GeneralHead:
    """A network cut at features from which alone the logits follow.

    The map of a class is what each position adds when all positions grow together from zero (integrated gradients), or
    come in random order (Shapley values), while tokens that are no positions stay. Normalizations keep the scale that
    they have at the features, because the path from zero would be a step at its start without it.
    """

    kind: Kind  # how the head is built
    reason: str  # why its map is not exact; "" if it could be
    site: Site  # where the features are taken, raw
    classes: int
    method: GeneralMethod
    tapes: Tapes = field(repr=False, compare=False)
    nodes: int | None = None  # of integrated gradients; None for as many as they need
    permutations: int = 4  # of Shapley values
    seed: int = 0  # of their orders
    share: float = 1.0  # of the logits that the positions move; the rest is in class tokens
    cost: float = 0.0  # of running the head once, in forward passes, by multiplications and additions
    groups: int = 0  # of cells that come together in Shapley values
    binary: bool = False  # True if one logit z stands for two classes, -z and z

    @property
    def cost_of_map(self) -> float:
        """What a map of one class takes, in forward passes: going back through the head takes as long as forward."""
        if self.method == "shapley":
            return self.cost * self.permutations * (self.groups + 1)
        return 2 * self.cost * ((self.nodes or FIRST_NODES) if self.method == "integrated" else 1)

    def describe(self) -> str:
        """One line: how maps are computed, where, and what they take."""
        names = {"integrated": "complete (integrated gradients", "shapley": "complete (Shapley values"}
        text = f"map: {names.get(self.method, f'not complete ({self.method}')} from layer {self.site.layer!r} on)"
        text += f", about {max(self.cost_of_map, 0.01):.2g} forward passes for each class"
        return text if self.share > 0.995 else f"{text}; the positions move {100 * self.share:.0f} % of the scores"

    def to_grid(self, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Rearrange the features, as the network has them, as (N, K, h, w)."""
        return replace(self.site, raw=False).to_grid(features, input_size)

    def logits(self, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Run the head on features of N images, as the network has them: (N, C)."""
        with torch.no_grad():
            return self.tapes.at(input_size).rows(features)

    @torch.inference_mode(False)
    def class_maps(
        self, features: Tensor, classes: Sequence[Sequence[int]], input_size: tuple[int, int]
    ) -> list[ClassMaps]:
        """Compute the maps of some classes of each of N images from their features (N, ...), as the network has them.

        Images share runs of the head, except for Shapley values, whose rows of one image fill a run.
        """
        unique = [list(dict.fromkeys(of_image)) for of_image in classes]
        most = max(map(len, unique))
        padded = torch.tensor([of_image + of_image[-1:] * (most - len(of_image)) for of_image in unique])
        found: list[ClassMaps] = []
        try:
            tape = self.tapes.at(input_size)
            step = max(1, tape.rows_in_one_run // FIRST_NODES)  # so that slopes take no more memory than a run
            most, step = (most, 1) if self.method == "shapley" else (_MAX_CLASSES, step)
            for images, numbers in zip(*(torch.split(each, step) for each in (features, padded)), strict=True):
                parts = torch.split(numbers.to(features.device), most, 1)
                of_parts = [self._class_maps(images.detach().clone(), part, tape, input_size) for part in parts]
                found += [_join(of_image) for of_image in zip(*of_parts, strict=True)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # the code of the network's layers may raise anything
            problem = f"The part of the network behind {self.site.layer!r} cannot be run again: {reason_of(error)}"
            raise ModelError(problem, "Use --exact-only, or report the network") from error
        if not all(maps.maps.isfinite().all() for maps in found):
            problem = f"The slopes of what follows layer {self.site.layer!r} are not finite for this image"
            raise ModelError(problem, "Use --method shapley, which needs no slopes")
        orders = [[own.index(c) for c in named] for own, named in zip(unique, classes, strict=True)]
        pairs = zip(found, orders, strict=True)
        return [replace(maps, maps=maps.maps[order], base=maps.base[order]) for maps, order in pairs]

    def _class_maps(
        self, features: Tensor, classes: Tensor, tape: Tape, input_size: tuple[int, int]
    ) -> list[ClassMaps]:
        """Compute the maps of T classes (N, T) of N images, of one image if they are Shapley values."""
        groups, rows = self._groups(features[0], input_size), tape.rows_in_one_run
        baseline = torch.where(groups < 0, features, 0)
        is_complete = self.method in ("integrated", "shapley")  # the other methods take the slopes as they are
        run = self._run(held_run(tape, features) if is_complete else lambda rows, images: tape.rows(rows))
        if self.method == "integrated":
            found = integrated_gradients(run, baseline, features, classes, self.nodes, rows)
            grids = [self.to_grid(shares.values, input_size) for shares in found]
            pairs = zip(grids, found, strict=True)
            return [ClassMaps(grid.sum(1) * grid[0, 0].numel(), shares.base, shares.runs) for grid, shares in pairs]
        images = torch.arange(len(features), device=features.device)
        if self.method == "shapley":
            of_one, own = (lambda some: run(some, images.expand(len(some)))), (self.permutations, self.seed, rows)
            shares = shapley_values(of_one, baseline[0], features[0], groups, classes[0].tolist(), *own)
            return [self._spread(shares, groups, input_size)]
        with torch.no_grad():
            bases = run(baseline, images).gather(1, classes)
        grids = list(self.to_grid(features, input_size))
        all_slopes = [self.to_grid(slopes, input_size) for slopes in gradients(run, features, classes, rows)]
        maps = [
            torch.stack([reference_map(self.method, grid, slope) for slope in slopes])
            for grid, slopes in zip(grids, all_slopes, strict=True)
        ]
        return [ClassMaps(of_image, base, 1) for of_image, base in zip(maps, bases, strict=True)]

    def group_count(self, features: Tensor, input_size: tuple[int, int]) -> int:
        """Number of groups of cells that come together in Shapley values."""
        return int(self._groups(features, input_size).max()) + 1

    def average_groups(self, maps: Tensor, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Average maps (T, h, w) over the cells of each group: (T, h, w)."""
        cells = self.to_grid(self._groups(features, input_size)[None], input_size)[0, 0]
        sums = torch.zeros(len(maps), int(cells.max()) + 1).to(maps).index_add_(1, cells.flatten(), maps.flatten(1))
        return (sums / torch.bincount(cells.flatten()))[:, cells]

    def to(self, device: torch.device | str) -> GeneralHead:
        """Return the head of the network when it is on another device."""
        return replace(self, tapes=Tapes(self.tapes.network, self.site, self.tapes.channels))

    def _run(self, network_logits: RunOfImages) -> RunOfImages:
        """The head with all its classes."""

        def run(rows: Tensor, images: Tensor) -> Tensor:
            logits = network_logits(rows, images)
            return torch.cat((-logits, logits), 1) if self.binary else logits

        return run

    def _groups(self, features: Tensor, input_size: tuple[int, int]) -> Tensor:
        """The group of cells that each of the features of one image belongs to, with one channel; -1 for tokens."""
        channel = self.site.channel - 1
        shape = [1 if dim == channel else size for dim, size in enumerate(features.shape)]
        numbers = torch.arange(math.prod(shape), device=features.device)
        cells = self.to_grid(numbers.view(1, *shape), input_size)[0, 0]  # number of each
        rows, columns = (torch.arange(n) * min(n, _MAX_GROUPS) // n for n in cells.shape)
        of_cells = rows[:, None] * (int(columns.max()) + 1) + columns
        groups = torch.full_like(numbers, -1)
        groups[cells.flatten()] = of_cells.to(groups).flatten()
        return groups.view(shape)

    def _spread(self, shares: Shares, groups: Tensor, input_size: tuple[int, int]) -> ClassMaps:
        """Divide the share of each group evenly among its cells."""
        cells = self.to_grid(groups[None], input_size)[0, 0]
        sizes = torch.bincount(cells.flatten())
        maps = (shares.values / sizes)[:, cells] * cells.numel()
        return ClassMaps(maps, shares.base, shares.runs, shares.sampling_error)


def _join(parts: Sequence[ClassMaps]) -> ClassMaps:
    """The maps of all classes of an image, computed a few classes at once."""
    maps, bases = torch.cat([part.maps for part in parts]), torch.cat([part.base for part in parts])
    return ClassMaps(maps, bases, max(part.runs for part in parts), max(part.sampling_error for part in parts))
