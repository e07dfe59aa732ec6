"""How well heat lies on an object: pure functions of arrays.

Heat is (H, W), any floating dtype and unit, finite, or not a number where nothing was seen: there is no evidence there,
and those pixels rank with the coldest. Masks are (H, W) bool, boxes (x0, y0, x1, y1) in pixels, ends excluded, which
may lie between pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.maps.boxes import component_boxes

Heat = NDArray[np.floating[Any]]

Mask = NDArray[np.bool_]

Floats = NDArray[np.float64]

THRESHOLDS = 101
"""Thresholds of boxes: 0, 0.01, ... 1 between a picture's coldest and hottest pixel."""

SCORES = 1001
"""Scores told apart by PxAP: 0, 0.001, ... 1 of the same, the steps of Choe et al."""

OVERLAPS = (0.3, 0.5, 0.7)


def share_inside(heat: Heat, mask: Mask) -> float:
    """Give the share of the positive evidence that lies inside.

    The grid pointing game (Böhle et al., CVPR 2021, section 4.1) with the mask of a tile, the energy-based pointing
    benchmark (Wang et al., Score-CAM, 2020, section 4.3) with that of a box.

    Returns:
        From 0 to 1; 0 where there is no positive evidence at all.

    Example:
        >>> share_inside(np.array([[3.0, 1.0, -4.0]]), np.array([[True, False, True]]))
        0.75
    """
    evidence = np.where(heat > 0, heat, 0).astype(np.float64)
    total = evidence.sum()
    return float(evidence[mask].sum() / total) if total > 0 else 0.0


def peak_inside(heat: Heat, mask: Mask) -> float:
    """Tell whether the hottest pixel lies inside: the pointing game (Zhang et al. 2018), without a margin.

    Returns:
        1 for a hit and 0 for a miss; where several pixels are the hottest, the share of them inside, which is what
        choosing one at random comes to. 0 where nothing was seen.

    Example:
        >>> peak_inside(np.array([[1.0, 2.0, 2.0]]), np.array([[True, True, False]]))
        0.5
    """
    seen = ~np.isnan(heat)
    if not seen.any():
        return 0.0
    return float(mask[heat == heat[seen].max()].mean())


def box_mask(boxes: Floats, size: tuple[int, int]) -> Mask:
    """Mark the pixels whose centers lie in any of the boxes.

    Args:
        boxes: (B, 4); parts outside the picture are left out.
        size: (H, W) of the picture.

    Example:
        >>> box_mask(np.array([[0.4, 0.0, 1.5, 9.0]]), (2, 3)).tolist()
        [[True, False, False], [True, False, False]]
    """
    mask = np.zeros(size, bool)
    for x0, y0, x1, y1 in np.ceil(np.asarray(boxes) - 0.5).clip(0).astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


def box_iou(boxes: Floats, others: Floats) -> Floats:
    """Divide the intersection of boxes by their union.

    Args:
        boxes: (A, 4), none empty.
        others: (B, 4), none empty.

    Returns:
        (A, B), from 0 to 1.

    Example:
        >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1], [1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
        [[0.5, 0.333, 0.0]]
    """
    corner, other_corner = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (other_corner - corner).clip(0).prod(-1)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(-1) for each in (boxes, others))
    ious: Floats = shared / (areas[:, None] + other_areas - shared)
    return ious


def threshold_ious(heat: Heat, boxes: Floats) -> Floats:
    """Cut heat at every threshold and compare the boxes around what is left with the true ones.

    At full resolution. Heat is first scaled so that the picture's coldest pixel is 0 and its hottest 1 (Choe et al.,
    CVPR 2020, section 3.4); the boxes are those around the connected components of what is at or above the
    threshold, corners counting as connected.

    Args:
        heat: (H, W).
        boxes: the true ones, (B, 4).

    Returns:
        (101, 2): for each of the thresholds 0, 0.01, ... 1 the best IoU with any true box of the component with
        most pixels, and of any component; 0 where no pixel is left, as in heat without differences.

    Example:
        >>> ious = threshold_ious(np.array([[0.0, 4.0, 8.0, 8.0]]), np.array([[2, 0, 4, 1]]))
        >>> ious[[0, 50, 51], 0].round(3).tolist()
        [0.5, 0.667, 1.0]
    """
    levels = _levels(heat, THRESHOLDS)
    ious = np.zeros((THRESHOLDS, 2))
    corner = np.zeros(2, int)
    for threshold in range(THRESHOLDS):
        found = np.array(component_boxes(levels >= threshold))
        if not found.size:
            break
        overlaps = box_iou(found + np.tile(corner, 2), boxes).max(1)
        ious[threshold] = overlaps[0], overlaps.max()
        # What is above the next threshold lies within these boxes.
        (x0, y0), (x1, y1) = found[:, :2].min(0), found[:, 2:].max(0)
        levels = levels[y0:y1, x0:x1]
        corner += x0, y0
    return ious


def max_box_acc(ious: Floats) -> float:
    """Give the share of pictures whose box overlaps a true one by half, at the threshold best for all together.

    MaxBoxAcc (Choe et al., CVPR 2020, section 3.4), when given the IoUs of the largest components.

    Args:
        ious: (N, T), of N pictures at T thresholds.

    Example:
        >>> max_box_acc(np.array([[0.6, 0.2], [0.4, 0.9], [0.3, 0.5]])).__round__(3)
        0.667
    """
    return _best_accuracy(ious, 0.5)


def max_box_acc_v2(ious: Floats) -> float:
    """Average the same over overlaps of 0.3, 0.5 and 0.7, each at its own best threshold.

    MaxBoxAccV2 (Choe et al. 2020, extended version), when given the best IoUs of any component.

    Args:
        ious: (N, T), of N pictures at T thresholds.

    Example:
        >>> max_box_acc_v2(np.array([[0.6, 0.2], [0.4, 0.9]])).__round__(3)
        0.667
    """
    return float(np.mean([_best_accuracy(ious, overlap) for overlap in OVERLAPS]))


def score_histograms(heat: Heat, mask: Mask) -> NDArray[np.int32]:
    """Count the pixels inside and outside by their score, what `pixel_average_precision` needs of a picture.

    Args:
        heat: (H, W); scaled as for `threshold_ious`.
        mask: (H, W), the object's pixels.

    Returns:
        (2, 1001) int32: of the pixels inside, and of those outside, how many have each of the scores 0, 0.001, ... 1
        (rounded down).

    Example:
        >>> score_histograms(np.array([[-2.0, 0.0, 2.0]]), np.array([[False, True, True]]))[:, [0, 500, 1000]].tolist()
        [[0, 1, 1], [1, 0, 0]]
    """
    levels = _levels(heat, SCORES)
    return np.stack([np.bincount(levels[part], minlength=SCORES) for part in (mask, ~mask)]).astype(np.int32)


def pixel_average_precision(histograms: NDArray[np.integer[Any]]) -> float:
    """Average the precision of pixels over their recall, all pictures together: PxAP (Choe et al. 2020, section 3.4).

    Args:
        histograms: of N pictures, (N, 2, 1001), from `score_histograms`.

    Returns:
        From 0 to 1; 0 where no pixel lies inside.

    Example:
        >>> heat, mask = np.array([[-2.0, 0.0, 2.0]]), np.array([[True, False, True]])
        >>> round(pixel_average_precision(score_histograms(heat, mask)[None]), 3)  # (1/1 + 2/3) / 2
        0.833
    """
    inside, outside = histograms.sum(0)[:, ::-1].cumsum(1)
    precision = inside / np.maximum(inside + outside, 1)
    found = np.diff(inside, prepend=0)
    return float((precision * found).sum() / max(inside[-1], 1))


def _best_accuracy(ious: Floats, overlap: float) -> float:
    return float((ious >= overlap).mean(0).max())


def _levels(heat: Heat, count: int) -> NDArray[np.int64]:
    """Scale heat from its coldest to its hottest pixel and round down to 0, 1, ... count - 1."""
    seen = ~np.isnan(heat)
    levels = np.zeros(heat.shape, np.int64)
    values = heat[seen].astype(np.float64)
    if values.size and np.ptp(values) > 0:
        levels[seen] = (values - values.min()) / np.ptp(values) * (count - 1)
    return levels
