"""Measure how a class score stays, and how its heat follows, when an object moves over a canvas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import crop_resized
from cam.errors import UsageError
from cam.evaluation.sanity import compare_moved
from cam.explanations.options import Target, TopClasses, resolve
from cam.invariance.models import ImageScores, Model, score_images
from cam.invariance.moving import Cutout, Fill, Placements, cut_object, paint_background
from cam.invariance.results import Equivariance, Invariance, describe_object, track
from cam.maps.boxes import Box
from cam.maps.geometry import Grid, Pair, Size
from cam.maps.projection import hottest_cell

_FEWEST_CELLS = 4  # along each axis, so that a map has a middle half to compare


def measure_invariance(
    model: Model,
    image: NDArray[np.uint8],
    *,
    box: Box | None = None,
    mask: NDArray[np.uint8] | None = None,
    canvas: Size | None = None,
    steps: int = 8,
    fill: Fill = "mean",
    target: Target | None = None,
    batch_size: int = 32,
    progress: Callable[[object], None] = lambda scores: None,
) -> Invariance:
    """Move an object over a canvas, and measure the score and the heat of one class at each position.

    The object keeps the scale at which the model sees images. For a network that takes one input size only, or has no
    exact map, the canvas has that size by default, and an object larger than half of the canvas is made smaller.

    Args:
        model: from `load_any_classifier`, `load_classifier` or `wrap`.
        image: (H, W, 3) uint8 RGB; by default the object is all that the model sees of it.
        box: (x0, y0, x1, y1) of the object, pixels of the image.
        mask: (H, W) uint8, 255 where the object is.
        canvas: (H, W), input pixels; by default twice the object's size, at least the model's input size.
        steps: positions along each axis, spread evenly over the canvas.
        fill: "mean" of the preprocessing, "blur" (the blurred image), "reflect" (mirror images of the object) or RGB.
        target: the class; by default the one predicted for the image.
        batch_size: images in one forward pass, and in memory.
        progress: called after each position.

    Raises:
        UsageError: an argument is out of range, or leaves a single position.
        ModelError: the network does not run on the canvas.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be 1 or more, got {batch_size}", "Give 1 or more")
    cutout, natural_size, canvas = _cut_and_fit(model, image, box, mask, canvas)
    background = paint_background(fill, canvas, image, model.preprocessing.mean)
    placements = Placements.spread(cutout, background, steps, fill)
    class_idx = _single_class(model, image, target)

    canvas_model = model.with_input_size(canvas)
    scores: list[ImageScores] = []
    images = placements.images()
    while batch := list(islice(images, batch_size)):
        for image_scores in score_images(canvas_model, batch, class_idx):
            scores.append(image_scores)
            progress(image_scores)
    logits, probabilities = (
        np.stack(rows).reshape(*placements.shape, -1) for rows in zip(*(s[:2] for s in scores), strict=True)
    )
    predicted = logits.argmax(-1)

    heat = seen = None
    if isinstance(canvas_model, Classifier):
        heat = _measure_heat(canvas_model, placements, class_idx, scores)
        if box is None and mask is None:
            seen = model.preprocessing.frame((image.shape[0], image.shape[1]))
    return Invariance(
        model.name,
        class_idx,
        model.labels,
        placements,
        logits[..., class_idx],
        probabilities[..., class_idx],
        predicted,
        np.take_along_axis(probabilities, predicted[..., None], -1)[..., 0],
        heat,
        "" if isinstance(model, Classifier) else model.reason,
        describe_object(placements, natural_size, seen),
    )


def _cut_and_fit(
    model: Model, image: NDArray[np.uint8], box: Box | None, mask: NDArray[np.uint8] | None, canvas: Size | None
) -> tuple[Cutout, Size, Size]:
    """Cut the object out; return it, its size at the scale at which the model sees images, and the canvas size."""
    preprocessing = model.preprocessing

    def cut_scaled(factor: float) -> Cutout:
        frame = preprocessing.scaled(factor).frame((image.shape[0], image.shape[1]))
        if box is None and mask is None:
            return Cutout.opaque(crop_resized(image, frame, preprocessing.interpolation))
        return cut_object(image, box, mask, frame.resized[0] / frame.photo[0], preprocessing.interpolation)

    cutout = cut_scaled(1)
    natural_size = cutout.size
    if isinstance(model, Classifier) and model.grid.method != "stretched":
        sides = zip(preprocessing.crop, cutout.size, strict=True)
        height, width = (max(side, 2 * object_side) for side, object_side in sides)
        return cutout, natural_size, canvas or (height, width)
    canvas = canvas or preprocessing.crop
    factor = min(1, *(side / 2 / object_side for side, object_side in zip(canvas, cutout.size, strict=True)))
    return cut_scaled(factor), natural_size, canvas


def _single_class(model: Model, image: NDArray[np.uint8], target: Target | None) -> int:
    (scores,) = score_images(model, [image])
    classes = resolve([target or TopClasses(1)], torch.from_numpy(scores.logits))
    if len(classes) != 1:
        raise UsageError(f"--target must be one class, got top{len(classes)}", "Give top1, a class index or a label")
    return classes[0]


def _measure_heat(
    model: Classifier, placements: Placements, class_idx: int, scores: Sequence[ImageScores]
) -> Equivariance:
    cams = np.array([s.cam for s in scores])
    cams = cams.reshape(*placements.shape, *cams.shape[1:])
    cells = cams.shape[2], cams.shape[3]
    grid = model.grid_for(cells, placements.canvas)
    ys, xs = (grid.centers(axis, cells[axis], placements.canvas[axis]) for axis in (0, 1))
    peaks, centroids = (track(points, placements.centers) for points in peaks_and_centroids(cams, ys, xs))
    return Equivariance(cams, grid, peaks, centroids, _measure_shift_errors(model, placements, class_idx, grid))


def peaks_and_centroids(
    cams: NDArray[np.floating], ys: NDArray[np.floating], xs: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the hottest cell's center and the centroid of the positive evidence of maps (..., h, w): two of (..., 2).

    `ys` (h,) and `xs` (w,) are the centers of rows and columns, pixels. Ties are broken as `hottest_cell` does;
    the centroid is NaN without positive evidence.
    """
    cells = np.array([hottest_cell(cam) for cam in cams.reshape(-1, *cams.shape[-2:])])
    peaks = np.stack((ys[cells[:, 0]], xs[cells[:, 1]]), -1).reshape(*cams.shape[:-2], 2)
    positive = np.maximum(cams, 0).astype(np.float64)
    moments = np.stack((positive.sum(-1) @ ys, positive.sum(-2) @ xs), -1)
    total = positive.sum((-2, -1))[..., None]
    return peaks, np.divide(moments, total, out=np.full(moments.shape, np.nan), where=total > 0)


def _measure_shift_errors(model: Classifier, placements: Placements, class_idx: int, grid: Grid) -> Pair | None:
    """Shift the image with the object in the middle down and right by one stride, and compare the maps."""
    strides = round(grid.stride[0]), round(grid.stride[1])
    if not np.allclose(grid.stride, strides) or min(strides) < 1:
        return None
    top, left = ((placements.canvas[axis] - placements.cutout.size[axis]) // 2 for axis in (0, 1))
    image = placements.render(top, left)
    shifted = [np.roll(image, strides[axis], axis) for axis in (0, 1)]
    cam, down, right = (np.asarray(scores.cam) for scores in score_images(model, [image, *shifted], class_idx))
    if min(cam.shape) < _FEWEST_CELLS:
        return None
    return compare_moved(cam, down, (1, 0))[0], compare_moved(cam, right, (0, 1))[0]
