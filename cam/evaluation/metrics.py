"""How well heat lies on an object: pure functions of arrays.

Heat is (H, W), any floating dtype and unit, and NaN where nothing was seen: those pixels have no evidence and rank with
the lowest. Masks are (H, W) bool. Boxes are (x0, y0, x1, y1) in pixels, ends excluded, and may lie between pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from cam.maps.boxes import component_boxes

Heat: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
THRESHOLDS = 101  # of boxes: 0, 0.01, ... 1 between the lowest and the highest heat of an image
SCORES = 1001  # of PxAP: 0, 0.001, ... 1 of the same, the steps of Choe et al.
OVERLAPS = (0.3, 0.5, 0.7)


def share_inside(heat: Heat, mask: Mask) -> float:
    """Compute the share of the positive evidence that lies inside, from 0 to 1; 0 if there is none.

    The grid pointing game (Böhle et al., CVPR 2021, section 4.1) with the mask of a tile, the energy-based pointing
    game (Wang et al., Score-CAM, 2020, section 4.3) with that of a box.
    """
    evidence = np.where(heat > 0, heat, 0).astype(np.float64)
    total = evidence.sum()
    return float(evidence[mask].sum() / total) if total > 0 else 0.0


def peak_inside(heat: Heat, mask: Mask) -> float:
    """Check whether the highest pixel lies inside: the pointing game (Zhang et al. 2018), without a margin.

    1 for a hit and 0 for a miss. If several pixels are the highest it is the share of them inside, which is what
    choosing one at random gives on average. 0 where nothing was seen.
    """
    if np.isnan(heat).all():
        return 0.0
    return float(mask[heat == np.nanmax(heat)].mean())


def box_mask(boxes: Floats, size: tuple[int, int]) -> Mask:
    """Mark the pixels of an image of (H, W) whose centers lie in any of the boxes (B, 4)."""
    mask = np.zeros(size, bool)
    for x0, y0, x1, y1 in np.ceil(np.asarray(boxes) - 0.5).clip(0).astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


def threshold_ious(heat: Heat, boxes: Floats) -> Floats:
    """Draw boxes around the heat at every threshold and compare them with the true ones (B, 4).

    The lowest pixel becomes 0 and the highest 1 (Choe et al., CVPR 2020, section 3.4). Boxes lie around the connected
    components of all pixels at or above the threshold; corners connect.

    Returns (101, 2): for each of the thresholds 0, 0.01, ... 1 the best IoU with any true box of the component with
    the most pixels, and of any component; 0 where no pixel remains, as for constant heat.
    """
    levels = _levels(heat, THRESHOLDS)
    ious = np.zeros((THRESHOLDS, 2))
    true = torch.tensor(boxes, dtype=torch.float64)
    corner = np.zeros(2, int)
    for threshold in range(THRESHOLDS):
        components = np.array(component_boxes(levels >= threshold))
        if not components.size:
            break
        overlaps = box_iou(torch.from_numpy(components + np.tile(corner, 2)).double(), true).amax(1)
        ious[threshold] = overlaps[0], overlaps.max()
        # What is above the next threshold lies within these boxes.
        (x0, y0), (x1, y1) = components[:, :2].min(0), components[:, 2:].max(0)
        levels = levels[y0:y1, x0:x1]
        corner += x0, y0
    return ious


def max_box_acc(ious: Floats, overlaps: Sequence[float] = (0.5,)) -> float:
    """Compute the share of images whose IoU reaches an overlap, at the best threshold; average it over the overlaps.

    MaxBoxAcc (Choe et al., CVPR 2020, section 3.4), given the IoUs (N, T) of the largest components in N images at T
    thresholds; MaxBoxAccV2 (extended version) with `OVERLAPS` and the best IoUs of any component.
    """
    return float(np.mean([(ious >= overlap).mean(0).max() for overlap in overlaps]))


def score_histograms(heat: Heat, mask: Mask) -> NDArray[np.int32]:
    """Count the pixels inside and outside by their score: (2, 1001).

    The scores are the heat, scaled as for `threshold_ious` and rounded down to 0, 0.001, ... 1.
    """
    levels = _levels(heat, SCORES)
    return np.stack([np.bincount(levels[part], minlength=SCORES) for part in (mask, ~mask)]).astype(np.int32)


def pixel_average_precision(histograms: NDArray[np.integer[Any]]) -> float:
    """Average the precision of pixels over their recall, all images together, from 0 to 1.

    PxAP (Choe et al. 2020, section 3.4), given the `score_histograms` of N images (N, 2, 1001).
    """
    inside, outside = histograms.sum(0)[:, ::-1].cumsum(1)
    precision = inside / np.maximum(inside + outside, 1)
    return float((precision * np.diff(inside, prepend=0)).sum() / max(inside[-1], 1))


def _levels(heat: Heat, count: int) -> NDArray[np.int64]:
    """Scale heat from its lowest to its highest pixel and round down to 0, 1, ... count - 1."""
    seen = ~np.isnan(heat)
    levels = np.zeros(heat.shape, np.int64)
    values = heat[seen].astype(np.float64)
    if values.size and np.ptp(values) > 0:
        levels[seen] = (values - values.min()) / np.ptp(values) * (count - 1)
    return levels
