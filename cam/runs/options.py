"""What to write for each picture of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cam.classifiers.preprocessing import Preprocessing, multi_scale
from cam.drawing.overlay import overlay
from cam.engines.checked import EngineName
from cam.engines.eager import Precision
from cam.errors import UsageError
from cam.explanations.options import ExplainOptions, Target, TopClasses
from cam.images.io import encode
from cam.images.read import Limits
from cam.runs.writing import OutputWriter


@dataclass(frozen=True)
class RunOptions:
    """What to write for each picture.

    Attributes:
        targets: the classes wanted of each picture.
        explain: how each picture is explained.
        engine: what runs the network, as in `make_engine`.
        precision: of its layers, as in `make_engine`.
        batch_size: pictures in one forward pass; by default 4 on the CPU, where each core has a batch of its own, and
            32 elsewhere.
        save: any of "overlay", "heat" (.npy, (H, W) float32) and "cam" (.npz).
        scale: "run" for one color scale for all, the median of the largest evidence in each of the first 64
            pictures (or 100 million pixels), or 0 to 1 for probabilities; "image" for one each; or the evidence at
            its ends.
        boxes: whether boxes around the heat are drawn; the manifest has them always.
        box_share: of the maximum, above which heat counts for a box.
        opacity: of the heat, 0 to 1.
        colormap: "signed", or the name of an OpenCV color map.
        format: of the overlays, "jpg", "png" or "webp".
        max_side: longer side of the overlays, pixels; None for that of the photographs.
        limits: beyond which pictures are refused.
        shard: (i, n): only the i-th of n parts of the pictures, counted from 1; None for all.
        on_error: "skip" to go on where a picture fails, "stop" to end the run there.
        overwrite: whether to replace the results of an earlier run.
        outputs: what else to write for each picture, such as the evidence of a report.
    """

    targets: tuple[Target, ...] = (TopClasses(1),)
    explain: ExplainOptions = field(default_factory=ExplainOptions)
    engine: EngineName = "auto"
    precision: Precision = "float32"
    batch_size: int | None = None
    save: frozenset[str] = frozenset({"overlay"})
    scale: Literal["run", "image"] | float = "run"
    boxes: bool = False
    box_share: float = 0.2
    opacity: float = 0.5
    colormap: str = "signed"
    format: str = "jpg"
    max_side: int | None = None
    limits: Limits = field(default_factory=Limits)
    shard: tuple[int, int] | None = None
    on_error: Literal["skip", "stop"] = "skip"
    overwrite: bool = False
    outputs: tuple[OutputWriter, ...] = ()

    def __post_init__(self) -> None:
        """Try the options out: what cannot be right is no picture's fault."""
        pixel = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.float32)
        encode(overlay(*pixel, vmax=1, opacity=self.opacity, colormap=self.colormap), f".{self.format}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"A batch of {self.batch_size} pictures cannot be run", "Give 1 or more")
        if not 0 < self.box_share < 1:
            raise UsageError(f"{self.box_share} is no share of the maximum", "Give one between 0 and 1")
        if self.max_side is not None and self.max_side < 1:
            raise UsageError(f"A picture of {self.max_side} pixels cannot be drawn", "Give 1 or more")
        if self.outputs and self.explain.tta:
            found = f"--tta averages several inputs, and --{self.outputs[0].name} needs the maps of one"
            raise UsageError(found, "Leave one of them out; --resolution 2x gives finer maps from one input")

    def least_side(self, preprocessing: Preprocessing) -> int | None:
        """Say how long the shorter side of a photograph has to be for what is wanted, pixels; None: all there is.

        Example:
            >>> RunOptions(max_side=1000).least_side(Preprocessing(256, (224, 224)))
            1000
        """
        drawn = "overlay" in self.save
        if drawn and self.max_side is None:
            return None
        seen = [preprocessing, *multi_scale(preprocessing, self.explain.resolution, self.explain.tta)]
        outputs = (output.min_side for output in self.outputs)
        return max(*(size.resize for size in seen), (self.max_side or 0) if drawn else 0, *outputs)
