"""What a run writes for each image, and the settings that its results depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing, multi_scale
from cam.classifiers.truth import Truth
from cam.drawing.colormaps import lookup
from cam.drawing.overlay import Photo, check_style
from cam.engines.checked import EngineName
from cam.engines.eager import Precision
from cam.errors import ImageError, UsageError
from cam.explanations.explain import ImageResult
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses, TrueClass
from cam.images.find import Picture
from cam.images.io import encode
from cam.images.read import Limits
from cam.images.samples import ReadOptions
from cam.images.video import ClipOptions
from cam.runs.folder import RunFolder

_NO_SETTINGS = (
    "inputs list pattern out truth csv parquet on-error shard ray processes overwrite quiet json device batch-size "
    "max-bytes timeout"
)
Batch: TypeAlias = Sequence[tuple[int, Picture]]  # images with their indices among all inputs


class OutputWriter(Protocol):
    """What else a run writes for each image, such as the evidence of a report."""

    name: str  # its key in the manifest's `files`
    min_side: int  # pixels that it needs of an image's shorter side

    def write_model(self, folder: RunFolder, classifier: Classifier) -> None:
        """Write what belongs to the model, once a run."""

    def write(self, folder: RunFolder, name: PurePath, result: ImageResult, truth: int | None) -> str:
        """Write what belongs to one image, whose true class may be known, and return the file's name."""


@dataclass(frozen=True)
class RunOptions:
    """What a run writes for each image, and how."""

    targets: tuple[Target | TrueClass, ...] = (TopClasses(1),)
    explain: ExplainOptions = field(default_factory=ExplainOptions)
    engine: EngineName = "auto"
    precision: Precision = "float32"
    batch_size: int | None = None  # by default 4 on the CPU, where each core runs its own batch, and 32 elsewhere
    save: frozenset[str] = frozenset({"overlay"})  # and "heat" (.npy, (H, W) float32), "cam" (.npz)
    scale: Literal["run", "image"] | float = "run"  # one color scale for all, one per image, or its end
    boxes: bool = False  # drawn; the manifest always has them
    box_share: float = 0.2  # of the maximum, above which heat counts for a box
    opacity: float = 0.85  # of the most evidence
    colormap: str = "signed"  # or an OpenCV color map
    photo: Photo = "gray"  # or "color": under the heat
    contours: bool = True  # a line around half of the scale
    format: str = "jpg"  # or "png" or "webp"
    max_side: int | None = None  # longer side of the overlays, pixels
    read: ReadOptions = field(default_factory=ReadOptions)
    limits: Limits = field(default_factory=Limits)
    clips: ClipOptions = field(default_factory=ClipOptions)
    follow: bool = True  # of a clip, top1 alone is the class with the highest mean probability, not that of each frame
    shard: tuple[int, int] | None = None  # (i, n): only the i-th of n parts of the images, counted from 1
    on_error: Literal["skip", "stop"] = "skip"
    overwrite: bool = False
    csv: Path | None = None  # a table of the run, and the same as Parquet
    parquet: Path | None = None
    outputs: tuple[OutputWriter, ...] = ()
    truth: Truth = field(default_factory=Truth)

    def __post_init__(self) -> None:
        """Raise a UsageError for a wrong option before the run, not for each image."""
        check_style(self.opacity, self.photo)
        lookup(self.colormap)
        encode(np.zeros((1, 1, 3), np.uint8), f".{self.format}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size must be 1 or more, got {self.batch_size}", "Leave it out for the default")
        if not 0 < self.box_share < 1:
            raise UsageError(f"--box-share must be between 0 and 1, got {self.box_share}", "The default is 0.2")
        if self.max_side is not None and self.max_side < 1:
            raise UsageError(f"--max-side must be 1 or more, got {self.max_side}", "Leave it out for the full size")
        if self.outputs and self.explain.tta:
            problem = f"--tta averages several inputs, and --{self.outputs[0].name} needs the maps of one"
            raise UsageError(problem, "Leave one of them out; --resolution 2x gives finer maps from one input")
        if TrueClass() in self.targets and not self.truth.classes:
            raise UsageError("--target truth needs the true classes", "Add --truth folder, or a CSV of path,label")

    @property
    def follows(self) -> bool:
        """True if a clip is explained for one class, which is chosen when all of its frames are known."""
        return self.follow and self.targets == (TopClasses(1),)

    @property
    def vmax(self) -> float | None:
        """The end of the color scale; None if each image has its own."""
        return None if isinstance(self.scale, str) else self.scale

    def targets_of(self, picture: Picture) -> list[Target]:
        """The targets of an image; ImageError if one is its true class, and that is not known."""
        path = str(picture.path)
        try:
            true_class = self.truth.classes.__getitem__
            return [OneClass(true_class(path)) if isinstance(target, TrueClass) else target for target in self.targets]
        except KeyError:
            problem = f"The true class of {path!r}, which is its --target, is not known"
            raise ImageError(problem, "Give it a class in --truth") from None

    def min_side(self, preprocessing: Preprocessing) -> int | None:
        """Pixels that must be read of an image's shorter side; None for all."""
        overlays = "overlay" in self.save
        if overlays and self.max_side is None:
            return None
        inputs = [preprocessing, *multi_scale(preprocessing, self.explain.resolution, self.explain.tta)]
        outputs = (output.min_side for output in self.outputs)
        sides = [size.min_side for size in inputs]
        if None in sides:
            return None
        return max(*filter(None, sides), (self.max_side or 0) if overlays else 0, *outputs)


def settings_of(classifier: Classifier, run_info: Mapping[str, Any], options: RunOptions) -> dict[str, Any]:
    """Everything that changes results, ready for JSON; `run_info` is from `describe`."""
    run_only = {"batch_size", "limits", "shard", "on_error", "overwrite", "truth", "csv", "parquet"}
    parts = {"explain", "read", "clips", "follow"}  # a line of the manifest knows what its clip follows
    return {
        "gapcam version": run_info["versions"]["gapcam"],
        "weights": run_info["weights"]["tensors_sha256"],
        "labels": sha256(json.dumps(classifier.labels).encode()).hexdigest(),
        "output": run_info["output"],
        "activation": run_info["activation"],
        "head": run_info["head"],
        "preprocessing": run_info["preprocessing"],
        **vars(options.explain),
        **vars(options.read),
        **vars(options.clips),
        **{name: value for name, value in vars(options).items() if name not in run_only | parts},
        "targets": [asdict(target) for target in options.targets],
        "save": sorted(options.save),
        "outputs": [output.name for output in options.outputs],
    }


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe the first option, else the first setting, in which one run.json differs from another."""
    old, new = before["settings"], now["settings"]
    ignored = _NO_SETTINGS.split() + ["model", "weights"] * (old.get("weights") == new["weights"])  # spelled otherwise
    for name, value in now["arguments"].items():
        if name not in ignored and (earlier := before["arguments"].get(name)) != value:
            return f"{_as_option(name, earlier)}, now {_as_option(name, value)}"
    name = next(name for name in [*new, *old] if old.get(name) != new.get(name))
    return f"{name}: {json.dumps(old.get(name))[:80]}, not {json.dumps(new.get(name))[:80]}"


def _as_option(name: str, value: Any) -> str:
    if value is None or value is False or value == []:
        return f"no --{name}"
    values = value if isinstance(value, list) else [value]
    if name in ("resize", "crop"):
        return f"--{name} {'x'.join(map(str, reversed(values)))}"
    return f"--{name}" if value is True else f"--{name} {','.join(map(str, values))}"
