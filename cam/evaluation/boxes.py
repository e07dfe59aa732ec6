"""The boxes benchmark: does the heat of a class lie on its objects?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.classifiers.truth import class_of
from cam.errors import ImageError, UsageError
from cam.evaluation import metrics
from cam.evaluation.annotations import Annotation
from cam.evaluation.benchmark import Evaluation, Progress, Sample, Statistic, run_benchmark
from cam.evaluation.methods import Load, MapRequest, Method, forward_image, load_image
from cam.images.io import MAX_PIXELS, read_image
from cam.maps.geometry import Size

SIDE = 256  # boxes are drawn around every n-th pixel of larger images, at most so many a side; Choe et al. take 224

_STATISTICS: dict[str, Statistic] = {
    "max_box_acc": metrics.max_box_acc,
    "max_box_acc_v2": partial(metrics.max_box_acc, overlaps=metrics.OVERLAPS),
    "px_ap": metrics.pixel_average_precision,
}


def evaluate_boxes(
    classifier: Classifier,
    annotations: Sequence[Annotation],
    methods: Sequence[Method],
    *,
    fit: Fit | None = None,
    seed: int = 0,
    load: Load = load_image,
    progress: Progress = None,
) -> Evaluation:
    """Compare the heat of each class with the true boxes of its objects; `fit` is that of the methods.

    The metrics are `pointing`, `energy`, `max_box_acc`, `max_box_acc_v2` and, for annotations with a mask, `px_ap`, all
    from 0 to 1 and defined in `cam.evaluation.metrics`. A sample is a class in an image, with all its boxes.
    """
    find = cache(partial(class_of, classifier.labels))
    by_path: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_path.setdefault(str(annotation.picture.path), []).append(annotation)

    def measure(annotations: list[Annotation]) -> list[Sample]:
        picture = annotations[0].picture
        try:
            classes = [None if item.label is None else find(item.label) for item in annotations]
        except UsageError as error:
            raise ImageError(error.problem, error.remedy) from error
        image = load(picture)
        objects = [_boxes_and_mask(annotation, image.shape[:2]) for annotation in annotations]
        class_idxs = [
            int(forward_image(classifier, image, fit).logits.argmax()) if class_idx is None else class_idx
            for class_idx in classes
        ]
        request = MapRequest(str(picture.name), image, tuple(dict.fromkeys(class_idxs)))
        samples: list[dict[str, Any]] = [{} for _ in annotations]
        for method in methods:
            heats = method.heats(request)
            for sample, class_idx, (boxes, mask) in zip(samples, class_idxs, objects, strict=True):
                sample[method.name] = _score(heats[class_idx], boxes, mask)
        return list(samples)

    settings = {"thresholds": metrics.THRESHOLDS, "scores": metrics.SCORES, "side": SIDE, "overlaps": metrics.OVERLAPS}
    settings["fit"] = fit or classifier.preprocessing.fit
    items, name = by_path.items(), classifier.name
    return run_benchmark("boxes", name, items, measure, settings, seed=seed, statistics=_STATISTICS, progress=progress)


def _boxes_and_mask(annotation: Annotation, size: Size) -> tuple[metrics.Floats, metrics.Mask | None]:
    """Clip the boxes (B, 4) to an image of (H, W) pixels, and read the mask (H, W) if there is one."""
    path, (height, width) = str(annotation.picture.path), size
    boxes = np.array(annotation.boxes).clip(0, (width, height, width, height))
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        problem = f"{path!r} has {width} x {height} pixels, and a box outside of them"
        raise ImageError(problem, "Give boxes in pixels of the upright image")
    if annotation.mask is None:
        return boxes, None
    mask = read_image(annotation.mask, max_pixels=max(MAX_PIXELS, height * width), value_range="minmax").max(2) > 0
    if mask.shape != size or not mask.any():
        problem = f"The mask {str(annotation.mask)!r} does not fit {path!r}, or is black"
        raise ImageError(problem, f"Give one of {width} x {height} pixels that is black outside the objects")
    return boxes, mask


def _score(heat: metrics.Heat, boxes: metrics.Floats, mask: metrics.Mask | None) -> dict[str, Any]:
    down, across = (-(-side // SIDE) for side in heat.shape)
    thinned = heat[down // 2 :: down, across // 2 :: across]
    ious = metrics.threshold_ious(thinned, boxes / (across, down, across, down))
    inside = metrics.box_mask(boxes, (heat.shape[0], heat.shape[1]))
    values = {
        "pointing": metrics.peak_inside(heat, inside),
        "energy": metrics.share_inside(heat, inside),
        "max_box_acc": ious[:, 0],
        "max_box_acc_v2": ious[:, 1],
    }
    return values if mask is None else {**values, "px_ap": metrics.score_histograms(heat, mask)}
