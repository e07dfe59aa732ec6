"""One colour scale for a run, taken from its first pictures: what is drawn first must know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import takewhile

import numpy as np

from cam.chain import Batch, Outcome
from cam.workers import in_order

_PICTURES, _PIXELS = 64, 100_000_000


class Window:
    """The first pictures of a run, as far as they may be held until the scale is known.

    Attributes:
        held: what was found out about each batch of them that could be held.

    Example:
        >>> window = Window()
        >>> window.fill(lambda batch: iter(()), [], workers=1)
        >>> window.limit
        0.0
    """

    def __init__(self) -> None:
        self.held: dict[Batch, list[Outcome]] = {}
        self._limits: list[float] = []
        self._pictures = self._pixels = 0

    def fill(self, explain: Callable[[Batch], Iterator[Outcome]], batches: Iterable[Batch], workers: int) -> None:
        """Explain as many batches as it takes, side by side; some may be held beyond those that count."""
        wanted = takewhile(lambda _: not self._full, batches)
        for batch, sizes, limits, outcomes in in_order(partial(_look, explain), wanted, workers=workers, ahead=2):
            if outcomes is not None and any(limits):
                self.held[batch] = outcomes
            for size, of_picture in zip(sizes, limits, strict=True):
                if of_picture and not self._full:  # what failed has no say
                    self._pictures += 1
                    self._pixels += size
                    self._limits += of_picture

    @property
    def limit(self) -> float:
        """The median of the maps' largest evidence: one very hot cell must not leave all other pictures dark."""
        return float(np.median(self._limits)) if self._limits else 0.0

    @property
    def _full(self) -> bool:
        return self._pictures >= _PICTURES or self._pixels >= _PIXELS


def _look(
    explain: Callable[[Batch], Iterator[Outcome]], batch: Batch
) -> tuple[Batch, list[int], list[list[float]], list[Outcome] | None]:
    """Explain a batch: the pixels and the largest evidence of its pictures, and all of it unless that is too much."""
    sizes: list[int] = []
    limits: list[list[float]] = []
    held: list[Outcome] | None = []
    for picture, outcome in explain(batch):
        found = outcome if isinstance(outcome, list) else []
        sizes.append(found[0].image.size // 3 if found else 0)
        limits.append([explanation.limit for explanation in found])
        held = None if held is None or sum(sizes) > _PIXELS else [*held, (picture, outcome)]
    return batch, sizes, limits, held
