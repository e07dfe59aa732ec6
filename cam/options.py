"""What to write for each picture of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cam.errors import UsageError
from cam.images import MAX_PIXELS, encode
from cam.overlay import overlay
from cam.question import Question
from cam.targets import Target, TopClasses


@dataclass(frozen=True)
class Options:
    """What to write for each picture.

    Attributes:
        targets: the classes wanted of each picture.
        question: what is asked of each picture.
        batch_size: pictures in one forward pass.
        save: any of "overlay", "heat" (.npy, (H, W) float32) and "cam" (.npz).
        scale: "run" for one colour scale for all, the median of the largest evidence in each of the first 64
            pictures (or 100 million pixels), or 0 to 1 for probabilities; "image" for one each; or the evidence at
            its ends.
        boxes: whether boxes around the heat are drawn; the manifest has them always.
        box_share: of the maximum, above which heat counts for a box.
        opacity: of the heat, 0 to 1.
        colormap: "signed", or the name of an OpenCV colour map.
        format: of the overlays, "jpg", "png" or "webp".
        max_pixels: larger pictures are refused.
        overwrite: whether to replace the results of an earlier run.
    """

    targets: tuple[Target, ...] = (TopClasses(1),)
    question: Question = field(default_factory=Question)
    batch_size: int = 32
    save: frozenset[str] = frozenset({"overlay"})
    scale: Literal["run", "image"] | float = "run"
    boxes: bool = False
    box_share: float = 0.2
    opacity: float = 0.5
    colormap: str = "signed"
    format: str = "jpg"
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Try the options out: what cannot be right is no picture's fault."""
        pixel = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.float32)
        encode(overlay(*pixel, limit=1, opacity=self.opacity, colormap=self.colormap), f".{self.format}")
        if self.batch_size < 1:
            raise UsageError(f"A batch of {self.batch_size} pictures cannot be run", "Give 1 or more")
        if not 0 < self.box_share < 1:
            raise UsageError(f"{self.box_share} is no share of the maximum", "Give one between 0 and 1")
