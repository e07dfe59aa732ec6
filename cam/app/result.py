"""One picture under one model: maps of any class and of any evidence, from one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.drawing.legend import MIN_WIDTH
from cam.errors import ImageError
from cam.explanations.compute import build_explanations, compute_maps
from cam.explanations.explanation import Explanation
from cam.explanations.forward import ForwardResult, result_or_raise, run_forward
from cam.explanations.options import ExplainOptions, OneClass, TopClasses, resolve
from cam.heads.general import GeneralHead
from cam.images.find import Picture
from cam.images.io import shrink
from cam.images.read import Limits, read_picture
from cam.images.samples import ReadOptions
from cam.maps.evidence import Evidence
from cam.maps.projection import interpolation_weights
from cam.tensors import device_and_dtype, synchronize

TOP = 5  # classes side by side
SIDE = 1280  # longer side of the pictures shown, pixels


def read_upload(path: Path, limits: Limits, options: ReadOptions) -> NDArray[np.uint8]:
    """Read a picture as `cam explain` does, (H, W, channels) uint8; the error names the file without its folder."""
    try:
        return read_picture(Picture(path, PurePosixPath(path.name)), limits, options=options).image
    except ImageError as error:
        raise ImageError(error.problem.replace(f"{path.parent}/", ""), error.remedy) from error


@dataclass(frozen=True, eq=False)
class ModelResult:
    """What one forward pass gave, and what was explained from it."""

    classifier: Classifier
    shown: NDArray[np.uint8]  # the picture to draw on, (H, W, channels)
    forward: ForwardResult
    explained: dict[tuple[Evidence, int | None, int], Explanation] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The texts of the classes."""
        return self.classifier.labels

    @cached_property
    def ranked(self) -> list[int]:
        """All classes, the largest logit first."""
        return resolve([TopClasses(len(self.labels))], self.forward.logits)

    @cached_property
    def scores(self) -> list[str]:
        """The probability of each class in percent; its value where the scores are no probabilities."""
        logits, probabilities = self.forward.logits.tolist(), self.forward.probabilities.tolist()
        pairs = zip(logits, probabilities, strict=True)
        return [f"{logit:.2f}" if math.isnan(share) else f"{100 * share:.1f} %" for logit, share in pairs]

    def explain(self, classes: Sequence[int], evidence: Evidence, rival: int | None = None) -> list[Explanation]:
        """Explain classes, without the rival; `rival` is the other class of a contrast, by default the runner-up.

        Raises UsageError if the model has no such evidence, and ModelError if nothing but the rival is to be explained.
        """
        options = ExplainOptions(evidence, rival if evidence == "contrast" else None)
        options.check(self.classifier)
        key = evidence, options.against
        if missing := [
            OneClass(c) for c in classes if (*key, c) not in self.explained and (c != key[1] or len(classes) == 1)
        ]:
            (computed,) = compute_maps(self.classifier, [missing], [self.forward], [[self.forward]], options)
            synchronize(device_and_dtype(self.classifier.network)[0])
            for found in build_explanations(self.classifier, self.shown, result_or_raise(computed), options):
                self.explained[(*key, found.class_idx)] = found
        return [self.explained[(*key, c)] for c in classes if (*key, c) in self.explained]

    def place(self, x: int, y: int, classes: Sequence[int]) -> dict[int, float]:
        """Evidence in logits at a pixel of the photograph: of the classes that have most there, and of `classes`.

        It is empty where the network saw nothing. Where a map takes several runs of the head, only the first classes
        and `classes` are compared.
        """
        forward, (x0, y0, x1, y1) = self.forward, self.forward.frame.seen
        if not (x0 <= x < x1 and y0 <= y < y1):
            return {}
        if isinstance(forward.head, GeneralHead):
            compared = list(dict.fromkeys((*self.ranked[:TOP], *classes)))
            maps = np.stack([explanation.cam for explanation in self.explain(compared, "logit")])
        else:  # first the features of the place, then the head: it is linear
            compared, maps = list(range(len(self.labels))), forward.features.float().cpu().numpy()
        axes = ((axis, maps.shape[1 + axis]) for axis in (0, 1))
        down, across = (interpolation_weights(axis, cells, forward.grid, forward.frame) for axis, cells in axes)
        at_place = down[y] @ maps @ across[x]
        if forward.weight is not None:
            at_place = forward.weight.float().cpu().numpy() @ at_place
        values = dict(zip(compared, at_place.tolist(), strict=True))
        strongest = sorted(values, key=lambda c: -values[c])
        return {c: values[c] for c in strongest if c in (*strongest[:TOP], *classes)}


def run_model(classifier: Classifier, image: NDArray[np.uint8]) -> ModelResult:
    """Run a model once on a picture (H, W, channels) uint8, and keep a copy to draw on: neither huge nor tiny."""
    classifier.preprocessing.check_channels(image.shape[2])
    (forward,) = run_forward(classifier, [image], classifier.preprocessing)
    small = shrink(image, SIDE)
    times = max(1, SIDE // 2 // max(small.shape[:2]), math.ceil(MIN_WIDTH / small.shape[1]))
    return ModelResult(classifier, small.repeat(times, 0).repeat(times, 1), result_or_raise(forward))
