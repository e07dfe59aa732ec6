"""Does the heat of a class lie on its objects? Measured against true boxes, and masks where there are some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.errors import ImageError
from cam.evaluation.annotations import Boxed
from cam.evaluation.labels import class_of
from cam.evaluation.methods import MapRequest, Method
from cam.evaluation.metrics import (
    OVERLAPS,
    SCORES,
    THRESHOLDS,
    Floats,
    Heat,
    Mask,
    box_mask,
    max_box_acc,
    max_box_acc_v2,
    peak_inside,
    pixel_average_precision,
    score_histograms,
    share_inside,
    threshold_ious,
)
from cam.evaluation.statistics import Evaluation, Row, Statistic, collect_errors, mean, some_measured
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS, read_image
from cam.images.read import Limits, read_picture

SIDE = 256
"""Boxes are drawn around every so many-th pixel of larger pictures; Choe et al. take 224 of all."""


def evaluate_boxes(
    classifier: Classifier,
    items: Sequence[Boxed],
    methods: Sequence[Method],
    *,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[Picture], None] = lambda picture: None,
) -> Evaluation:
    """Measure where the heat of each class lies, against the true boxes of its objects.

    `pointing`, `energy`, `max_box_acc`, `max_box_acc_v2` and, where there are masks, `px_ap`, all from 0 to 1 and
    explained in `cam.evaluation.metrics`. A sample is a class in a picture, with all its boxes.

    Args:
        classifier: from `load_classifier` or `wrap`.
        items: from `read_boxes`, those of one picture together.
        methods: whose heat is measured.
        seed: of the bootstrap.
        max_pixels: larger pictures are refused.
        progress: called with each picture once it is done with.

    Returns:
        A row a method and metric; `failed` tells of pictures that could not be read, run or matched with their boxes
        and mask.

    Raises:
        UsageError: a label that the classifier does not have, or no picture could be measured.
    """
    classes = {label: class_of(classifier.labels, label) for item in items if (label := item.label) is not None}
    samples: list[list[_Sample]] = [[] for _ in methods]
    pictures = 0
    failed: dict[str, str] = {}
    for picture, same in groupby(items, key=lambda item: item.picture):
        with collect_errors(failed, picture):
            measured = _measure(classifier, tuple(same), classes, methods, max_pixels)
            for each, more in zip(samples, measured, strict=True):
                each += more
            pictures += 1
        progress(picture)
    some_measured(samples[0], failed)
    rows = [row for method, each in zip(methods, samples, strict=True) for row in _rows(method, each, seed)]
    settings = {"thresholds": THRESHOLDS, "side": SIDE, "overlaps": OVERLAPS, "scores": SCORES}
    return Evaluation("boxes", classifier.name, seed, pictures, settings, tuple(rows), failed)


@dataclass(frozen=True)
class _Truth:
    """Where the objects of one class lie in a picture of (H, W) pixels.

    Attributes:
        boxes: (B, 4), none beyond the picture.
        inside: (H, W), the pixels in any of them.
        mask: (H, W), the objects' own pixels; None where they are not known.
    """

    boxes: Floats
    inside: Mask
    mask: Mask | None

    @classmethod
    def of(cls, item: Boxed, size: tuple[int, int], max_pixels: int) -> _Truth:
        path, (height, width) = str(item.picture.path), size
        boxes = np.array(item.boxes).clip(0, (width, height, width, height))
        if (boxes[:, 2:] <= boxes[:, :2]).any():
            found = f"{path!r} has {width} x {height} pixels, and a box outside of them"
            raise ImageError(found, "Give its boxes in pixels of the picture upright, as it is shown")
        mask = None
        if item.mask:
            mask = read_image(item.mask, max_pixels=max_pixels).max(2) > 0
            if mask.shape != size or not mask.any():
                found = f"{str(item.mask)!r} is no mask for {path!r}"
                raise ImageError(found, f"Give one of {width} x {height} pixels, black outside the objects only")
        return cls(boxes, box_mask(boxes, size), mask)


@dataclass(frozen=True)
class _Sample:
    """What is kept of one heat."""

    pointing: float
    energy: float
    ious: Floats
    histograms: NDArray[np.int32] | None

    @classmethod
    def of(cls, heat: Heat, truth: _Truth) -> _Sample:
        down, along = (-(-side // SIDE) for side in heat.shape)
        return cls(
            peak_inside(heat, truth.inside),
            share_inside(heat, truth.inside),
            threshold_ious(heat[down // 2 :: down, along // 2 :: along], truth.boxes / (along, down, along, down)),
            None if truth.mask is None else score_histograms(heat, truth.mask),
        )


def _measure(
    classifier: Classifier,
    items: Sequence[Boxed],
    classes: Mapping[str, int],
    methods: Sequence[Method],
    max_pixels: int,
) -> list[list[_Sample]]:
    """For each method, the samples of one picture."""
    picture = items[0].picture
    image = read_picture(picture, Limits(max_pixels)).image
    truths = [_Truth.of(item, image.shape[:2], max_pixels) for item in items]
    class_idxs = [_predicted(classifier, image) if item.label is None else classes[item.label] for item in items]
    asked = MapRequest(str(picture.name), image, tuple(dict.fromkeys(class_idxs)))  # two labels may mean one class
    measured = []
    for method in methods:
        of_class = dict(zip(asked.class_idxs, method.heats(asked), strict=True))
        pairs = zip(class_idxs, truths, strict=True)
        measured.append([_Sample.of(of_class[class_idx], truth) for class_idx, truth in pairs])
    return measured


def _predicted(classifier: Classifier, image: NDArray[np.uint8]) -> int:
    inputs, _ = classifier.preprocessing.prepare(image)
    return int(classifier.forward(inputs[None])[0].argmax())


def _rows(method: Method, samples: Sequence[_Sample], seed: int) -> list[Row]:
    columns: dict[str, tuple[NDArray[Any], Statistic]] = {
        "pointing": (np.array([sample.pointing for sample in samples]), mean),
        "energy": (np.array([sample.energy for sample in samples]), mean),
        "max_box_acc": (np.array([sample.ious[:, 0] for sample in samples]), max_box_acc),
        "max_box_acc_v2": (np.array([sample.ious[:, 1] for sample in samples]), max_box_acc_v2),
    }
    histograms = np.array([sample.histograms for sample in samples if sample.histograms is not None])
    if len(histograms):
        columns["px_ap"] = histograms, pixel_average_precision
    return [Row.of(method.name, metric, *column, seed=seed) for metric, column in columns.items()]
