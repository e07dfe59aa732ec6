"""Objects pasted at known places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cam.geometry import Pair


@dataclass(frozen=True)
class Pasted:
    """A canvas with one object on it.

    Attributes:
        name: tells it from the others.
        image: (H, W, 3) uint8 RGB.
        class_idx: of the object.
        centre: (y, x) of the object, pixels.
    """

    name: str
    image: NDArray[np.uint8]
    class_idx: int
    centre: Pair


def paste(
    name: str, thing: NDArray[np.uint8], class_idx: int, blank: NDArray[np.uint8], corners: Sequence[Sequence[int]]
) -> list[tuple[Pasted, ...]]:
    """Paste an object (h, w, 3) at each place (y, x) of its upper left corner: pairs of a scene and its mirror image.

    Example:
        >>> thing, blank = np.ones((2, 2, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)
        >>> [scene.centre for scene in paste("a", thing, 0, blank, [(1, 0)])[0]]
        [(1.5, 0.5), (1.5, 6.5)]
    """
    height, width = thing.shape[:2]
    pairs: list[tuple[Pasted, ...]] = []
    for number, (top, left) in enumerate(corners):
        image = blank.copy()
        image[top : top + height, left : left + width] = thing
        y, x = top + (height - 1) / 2, left + (width - 1) / 2
        mirrored = np.ascontiguousarray(image[:, ::-1])
        there = Pasted(f"{name}-{number}-mirrored", mirrored, class_idx, (y, blank.shape[1] - 1 - x))
        pairs.append((Pasted(f"{name}-{number}", image, class_idx, (y, x)), there))
    return pairs
