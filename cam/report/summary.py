"""What the images of a run have in common: the mean map of each class, and the mean contrast of each confusion."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.report.evidence import QUANTUM
from cam.report.packing import pack

_BINS = 20  # of the probability of the prediction


@dataclass
class _MeanMap:
    """The mean of the maps of `maps` images out of `count`."""

    count: int = 0
    maps: int = 0
    total: NDArray[np.float64] | None = None

    def add_map(self, cam: NDArray[np.floating]) -> None:
        """Add a map (h, w), resized to the cells of the first one."""
        if self.total is None:
            self.total = np.zeros(cam.shape)
        rows, columns = self.total.shape
        self.total += cv2.resize(cam, (columns, rows), interpolation=cv2.INTER_LINEAR)
        self.maps += 1

    def to_json(self) -> dict[str, Any]:
        mean = None if self.total is None else pack(self.total / self.maps, QUANTUM)
        return {"count": self.count, "maps": self.maps, "map": mean}


@dataclass
class _Group(_MeanMap):
    """Images with the same prediction, or all images."""

    border: float = 0.0  # sum of the shares of positive evidence in the outermost cells
    even: float = 0.0  # sum of the shares that these cells are of all
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def to_json(self) -> dict[str, Any]:
        shares = {"border": self.border / self.count, "even": self.even / self.count}
        return {**super().to_json(), **shares, "histogram": self.histogram.tolist()}


class Summary:
    """Sums over the images of a run: over all, by predicted class, and by confusion."""

    def __init__(self) -> None:
        self._all = _Group()
        self._classes: defaultdict[int, _Group] = defaultdict(_Group)
        self._confusions: defaultdict[tuple[int, int], _MeanMap] = defaultdict(_MeanMap)

    def add(self, entry: dict[str, Any], cam: NDArray[np.floating]) -> None:
        """Add an image: its list entry, and the map of its predicted class, (h, w) logits."""
        predicted, _, probability = entry["top"][0]
        height, width = cam.shape
        even = 1 - max(0, height - 2) * max(0, width - 2) / cam.size
        for group in (self._all, self._classes[predicted]):
            group.count += 1
            group.border += entry["border"]
            group.even += even
            if probability is not None:
                group.histogram[min(int(probability * _BINS), _BINS - 1)] += 1
            group.add_map(cam)

    def add_confusion(self, truth: int, predicted: int, contrast: NDArray[np.floating] | None) -> None:
        """Add a wrong prediction, with the map of the predicted minus the true class if that is stored."""
        confusion = self._confusions[truth, predicted]
        confusion.count += 1
        if contrast is not None:
            confusion.add_map(contrast)

    def to_json(self) -> dict[str, Any]:
        """Return the groups and confusions, the ones with the most images first."""
        classes = sorted(self._classes.items(), key=lambda item: (-item[1].count, item[0]))
        confusions = sorted(self._confusions.items(), key=lambda item: (-item[1].count, item[0]))
        return {
            "all": self._all.to_json(),
            "classes": [{"class": class_idx, **group.to_json()} for class_idx, group in classes],
            "confusions": [{"truth": pair[0], "predicted": pair[1], **mean.to_json()} for pair, mean in confusions],
        }
