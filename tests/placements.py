"""Objects pasted at known places, and how far the heat lies from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cam.arithmetic import arithmetic_grid
from cam.classifiers import Classifier
from cam.explanation import Explanation, explain_all
from cam.geometry import Grid, stretched
from cam.images import read_image, resize


@dataclass(frozen=True)
class Pasted:
    """A canvas with one object on it: its class, and its centre (y, x) in pixels."""

    image: NDArray[np.uint8]
    class_idx: int
    centre: tuple[float, float]


def paste(
    files: Sequence[Path], classes: Sequence[int], canvas: int, size: int, each: int, fill: tuple[int, int, int]
) -> list[Pasted]:
    """Shrink the middle of every picture to an object and paste it at random places.

    Every scene comes with its mirror image, so that what an object's left and right side are like cancels out.
    """
    rng = np.random.default_rng(0)
    scenes = []
    for file, class_idx in zip(files, classes, strict=True):
        picture = read_image(file)
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        thing = resize(picture[top : top + side, left : left + side], (size, size))
        for _ in range(each):
            y, x = rng.integers(0, canvas - size + 1, 2)
            image = np.full((canvas, canvas, 3), fill, np.uint8)
            image[y : y + size, x : x + size] = thing
            middle = y + (size - 1) / 2, x + (size - 1) / 2
            scenes.append(Pasted(image, class_idx, middle))
            scenes.append(Pasted(image[:, ::-1].copy(), class_idx, (middle[0], canvas - 1 - middle[1])))
    return scenes


def recognised(classifier: Classifier, scenes: Sequence[Pasted]) -> list[tuple[Explanation, Pasted]]:
    """Explain each scene for its object, and keep those in which the network gives it a probability of 0.3."""
    found: list[tuple[Explanation, Pasted]] = []
    for class_idx in sorted({scene.class_idx for scene in scenes}):
        some = [scene for scene in scenes if scene.class_idx == class_idx]
        explanations = explain_all(classifier, [scene.image for scene in some], class_idx, fit="crop")
        found += [pair for pair in zip(explanations, some, strict=True) if pair[0].probability >= 0.3]
    return found


def placement_errors(
    classifier: Classifier, found: Sequence[tuple[Explanation, Pasted]]
) -> dict[str, NDArray[np.float64]]:
    """Distance, pixels, from each object's centre to the centroid of the heat above half its largest value.

    For measured centres, arithmetic and stretching side by side.
    """
    shape = classifier.preprocessing.input_shape
    grids = {
        "measured": classifier.grid,
        "arithmetic": arithmetic_grid(classifier.network, classifier.head.site, shape),
        "stretched": None,
    }
    return {name: np.array([_distance(*pair, grid) for pair in found]) for name, grid in grids.items()}


def _distance(explanation: Explanation, scene: Pasted, grid: Grid | None) -> float:
    cells = explanation.cam.shape[0], explanation.cam.shape[1]
    heat = replace(explanation, grid=grid or stretched(cells, explanation.frame.input)).heat()
    hottest = np.where(heat >= heat.max() / 2, heat, 0)
    y, x = ((hottest.sum(1 - axis) * np.arange(hottest.shape[axis])).sum() / hottest.sum() for axis in (0, 1))
    return float(np.hypot(y - scene.centre[0], x - scene.centre[1]))
