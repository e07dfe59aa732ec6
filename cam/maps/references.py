"""Maps of other methods, as references: they do not add up to the logit."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reference = Literal["gradcam", "hirescam", "layercam", "xgradcam"]


def reference_map(method: Reference, features: Tensor, gradient: Tensor) -> Tensor:
    """Compute the map of one class by another method, times the number of positions, so that its unit is logits.

    Args:
        method: "gradcam" (Selvaraju et al. 2017, eq. 1 and 2), "hirescam" (Draelos and Carin 2020, eq. 5), "layercam"
            (Jiang et al. 2021, eq. 6 and 7) or "xgradcam" (Fu et al. 2020, eq. 7).
        features: of one image, (K, h, w).
        gradient: of the logit with respect to them, (K, h, w).

    Returns:
        Map (h, w); of Grad-CAM, LayerCAM and XGrad-CAM only its positive part. Behind GAP and a linear layer Grad-CAM,
        HiResCAM and XGrad-CAM are the class activation map.

    Example:
        >>> import torch
        >>> features, gradient = torch.tensor([[[1.0, -3.0]]]), torch.tensor([[[2.0, 2.0]]])
        >>> reference_map("hirescam", features, gradient).tolist()
        [[4.0, -12.0]]
    """
    positions = features[0].numel()
    if method == "hirescam":
        return (gradient * features).sum(0) * positions
    if method == "layercam":
        return (gradient.relu() * features).sum(0).relu() * positions
    if method == "gradcam":
        weight = gradient.mean((1, 2), keepdim=True)
    else:
        total = features.sum((1, 2), keepdim=True)
        weight = (gradient * features).sum((1, 2), keepdim=True) / total.where(total != 0, 1)
    return (weight * features).sum(0).relu() * positions
