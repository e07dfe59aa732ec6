"""One colour scale for a run, taken from its first pictures: what is drawn first must know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile

import numpy as np

from cam.chain import Batch, Outcome
from cam.workers import in_order

_PICTURES, _PIXELS = 64, 100_000_000


class Window:
    """The first pictures of a run, as far as they may be held until the scale is known.

    Attributes:
        held: what was found out about each batch of them.

    Example:
        >>> window = Window()
        >>> window.fill(lambda batch: [], [], workers=1)
        >>> window.limit
        0.0
    """

    def __init__(self) -> None:
        self.held: dict[Batch, list[Outcome]] = {}
        self._limits: list[float] = []
        self._pictures = self._pixels = 0

    def fill(self, explain: Callable[[Batch], list[Outcome]], batches: Iterable[Batch], workers: int) -> None:
        """Explain as many batches as it takes, side by side; some may be held beyond those that count."""
        asked: list[Batch] = []

        def wanted(batch: Batch) -> bool:
            asked.append(batch)
            return not self._full

        for outcomes in in_order(explain, takewhile(wanted, batches), workers=workers, ahead=1):
            self.held[asked[len(self.held)]] = outcomes
            for _, outcome in outcomes:
                self._count(outcome)

    @property
    def limit(self) -> float:
        """The median of the maps' largest evidence: one very hot cell must not leave all other pictures dark."""
        return float(np.median(self._limits)) if self._limits else 0.0

    @property
    def _full(self) -> bool:
        return self._pictures >= _PICTURES or self._pixels >= _PIXELS

    def _count(self, outcome: object) -> None:
        if self._full:
            return
        self._pictures += 1
        if isinstance(outcome, list):
            self._pixels += outcome[0].image.size // 3
            self._limits += [explanation.limit for explanation in outcome]
