"""What many pictures have in common: the mean map of each class, and of each confusion the mean contrast."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.report.evidence import QUANTUM
from cam.report.packing import pack

_BINS = 20


@dataclass
class _Pictures:
    """Some pictures, and the sum of the maps that are known of them."""

    count: int = 0
    maps: int = 0
    total: NDArray[np.float64] | None = None

    def add_map(self, cam: NDArray[np.floating]) -> None:
        if self.total is None:
            self.total = np.zeros(cam.shape)
        self.total += resampled(cam, self.total.shape)
        self.maps += 1

    def to_json(self) -> dict[str, Any]:
        mean = None if self.total is None else pack(self.total / self.maps, QUANTUM)
        return {"count": self.count, "maps": self.maps, "map": mean}


@dataclass
class _Group(_Pictures):
    """Pictures of which all is known."""

    labeled: int = 0
    right: int = 0
    border: float = 0.0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def to_json(self) -> dict[str, Any]:
        about = {"labeled": self.labeled, "right": self.right, "border": self.border / self.count}
        return {**super().to_json(), **about, "histogram": self.histogram.tolist()}


class Summary:
    """Sums over the pictures of a run, of all, of each predicted class and of each confusion.

    Example:
        >>> summary = Summary()
        >>> summary.add({"top": [[3, 9.0, 0.97]], "border": 0.5}, np.ones((7, 7)), truth=3)
        >>> summary.to_json()["all"]["histogram"][-1]
        1
    """

    def __init__(self) -> None:
        self._all = _Group()
        self._classes: defaultdict[int, _Group] = defaultdict(_Group)
        self._pairs: defaultdict[tuple[int, int], _Pictures] = defaultdict(_Pictures)

    def add(self, row: dict[str, Any], cam: NDArray[np.floating], truth: int | None) -> None:
        """Add a picture: its row in the list, and the map of its predicted class, (h, w) in logits."""
        predicted, _, probability = row["top"][0]
        for group in (self._all, self._classes[predicted]):
            group.count += 1
            group.border += row["border"]
            group.histogram[min(int(probability * _BINS), _BINS - 1)] += 1
            group.labeled += truth is not None
            group.right += truth == predicted
            group.add_map(cam)

    def add_confusion(self, truth: int, predicted: int, contrast: NDArray[np.floating] | None) -> None:
        """Add a picture taken for another class, with the predicted over the true class's map, if that is known."""
        pair = self._pairs[truth, predicted]
        pair.count += 1
        if contrast is not None:
            pair.add_map(contrast)

    def to_json(self) -> dict[str, Any]:
        """Give what there is of each, those with the most pictures first; means of maps as `pack` gives them."""
        classes = sorted(self._classes.items(), key=lambda item: (-item[1].count, item[0]))
        pairs = sorted(self._pairs.items(), key=lambda item: (-item[1].count, item[0]))
        return {
            "all": self._all.to_json(),
            "classes": [{"class": class_idx, **group.to_json()} for class_idx, group in classes],
            "pairs": [{"truth": truth, "predicted": other, **group.to_json()} for (truth, other), group in pairs],
        }


def resampled(cam: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Bring a map to another number of cells, linear between their centers; one of the same shape stays as it is.

    Example:
        >>> resampled(np.array([[1.0, 3.0]]), (2, 4))[0].tolist()
        [1.0, 1.5, 2.5, 3.0]
    """
    for axis, cells in enumerate(shape):
        own = cam.shape[axis]
        if own != cells:
            at = (np.arange(cells) + 0.5) * own / cells - 0.5
            share = np.stack([np.interp(at, np.arange(own), unit) for unit in np.eye(own)], 1)
            cam = np.moveaxis(np.tensordot(share, cam, (1, axis)), 0, axis)
    return cam
