"""Heat over a photograph."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.colormaps import colorize
from cam.errors import UsageError


def overlay(
    image: NDArray[np.uint8],
    heat: NDArray[np.float32],
    *,
    limit: float,
    opacity: float = 0.5,
    colormap: str = "signed",
    signed: bool = True,
) -> NDArray[np.uint8]:
    """Blend coloured heat over a photograph: (1 - opacity) * photograph + opacity * colour.

    Where the heat is NaN the network never saw the photograph: it is shown there grey and hatched,
    with no heat, and a thin line runs around the part that was seen.

    Args:
        image: (H, W, 3) uint8 RGB photograph.
        heat: (H, W) evidence, NaN where unseen.
        limit: evidence of the outermost colours, in the same unit, as in `colorize`.
        opacity: of the heat, 0 (photograph only) to 1 (heat only).
        colormap: as in `colormaps.lookup`.
        signed: whether the colour scale runs from -limit, else from 0.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: sizes differ, opacity lies outside [0, 1], or as in `colorize`.

    Example:
        >>> grey = np.full((1, 1, 3), 100, np.uint8)
        >>> overlay(grey, np.full((1, 1), 3, np.float32), limit=3, opacity=0.4)  # 0.6 * 100 + 0.4 * colour
        array([[[162, 151,  60]]], dtype=uint8)
    """
    if image.shape != (*heat.shape, 3):
        found = f"the heat of shape {heat.shape} is not the size of the image of shape {image.shape}"
        raise UsageError(found, "Give heat of shape (H, W) for an image of shape (H, W, 3)")
    if not 0 <= opacity <= 1:
        raise UsageError(f"{opacity!r} is not an opacity", "Give a number from 0 to 1")
    colour = colorize(heat, limit, colormap, signed)
    blended = np.asarray(cv2.addWeighted(image, 1 - opacity, colour, opacity, 0), np.uint8)
    unseen = np.isnan(heat).view(np.uint8)
    return np.asarray(cv2.copyTo(_unseen(image, unseen), unseen, blended)) if unseen.any() else blended


def draw_boxes(image: NDArray[np.uint8], boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """Draw boxes over a picture, white with a dark rim, so that they show on any ground.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (x0, y0, x1, y1) in pixels, ends excluded.

    Returns:
        (H, W, 3) uint8 RGB, a copy.

    Example:
        >>> draw_boxes(np.zeros((9, 9, 3), np.uint8), [(2, 2, 7, 7)])[2, 2]
        array([255, 255, 255], dtype=uint8)
    """
    drawn = image.copy()
    stroke = max(1, round((image.shape[0] * image.shape[1]) ** 0.5 / 250))
    for colour, width in ((0, 3 * stroke), (255, stroke)):
        for x0, y0, x1, y1 in boxes:
            cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), (colour, colour, colour), width)
    return drawn


def _unseen(image: NDArray[np.uint8], unseen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photograph in faded, hatched grey, white where it is about to meet the seen part."""
    height, width = unseen.shape
    stroke = max(1, round((height * width) ** 0.5 / 300))
    grey = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=0.5, beta=48)
    diagonals = (np.arange(height + width) % (12 * stroke) < stroke).view(np.uint8)
    hatch = np.lib.stride_tricks.sliding_window_view(diagonals, width)[:height]  # at (y, x): diagonals[y + x]
    grey = cv2.copyTo(cv2.convertScaleAbs(grey, alpha=2 / 3, beta=85), hatch.copy(), grey)
    reach = np.ones((2 * stroke + 1, 2 * stroke + 1), np.uint8)
    frame = cv2.dilate((1 - unseen) * np.uint8(255), reach)
    return np.asarray(cv2.cvtColor(cv2.bitwise_or(grey, frame), cv2.COLOR_GRAY2RGB), np.uint8)
