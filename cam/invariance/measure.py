"""Measure how a class score stays, and how its heat follows, when an object moves over a canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.activations import Activation
from cam.classifiers.classifier import BaseClassifier, Classifier
from cam.classifiers.labels import Labels
from cam.classifiers.load import describe_scores, load_network, make_classifier
from cam.classifiers.preprocessing import crop_resized
from cam.errors import CamError, HeadError, ModelError, UsageError
from cam.evaluation.sanity import compare_moved
from cam.explanations.forward import result_or_raise, run_forward
from cam.explanations.options import Target, TopClasses, resolve
from cam.heads.hooks import eval_mode
from cam.heads.outputs import find_logits
from cam.invariance.moving import Cutout, Fill, Placements, cut_object, paint_background
from cam.invariance.results import Alone, Dilution, Equivariance, Floats, Invariance, describe_object, track
from cam.maps.boxes import Box
from cam.maps.geometry import Size
from cam.maps.projection import hottest_cell, project
from cam.tensors import device_and_dtype, pick_device

_FEWEST_CELLS = 4  # along each axis, so that a map has a middle half to compare


@dataclass(frozen=True)
class ScoreOnlyClassifier(BaseClassifier):
    """A classifier without an exact map: only its scores can be measured."""

    reason: str  # why it has no exact map

    def forward(self, inputs: Tensor) -> Tensor:
        """Give logits (N, C) float32 on the CPU for normalized inputs (N, channels, H, W); one logit z is (-z, z)."""
        try:
            with eval_mode(self.network):
                output = self.network(inputs.to(*device_and_dtype(self.network)))
                logits = find_logits(output, len(inputs)).float().cpu()
        except CamError:
            raise
        except Exception as error:  # a network may raise anything
            problem = f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {error}"
            raise ModelError(problem, "Give a --canvas of its input size, or a smaller --batch-size") from error
        return self.class_logits(logits)


Model: TypeAlias = Classifier | ScoreOnlyClassifier


class ImageScores(NamedTuple):
    """Scores of one image, and the map of one class."""

    logits: NDArray[np.float32]  # (C,)
    probabilities: NDArray[np.float32]  # (C,)
    cam: NDArray[np.float32] | None = None  # (h, w), logit units


def load_any_classifier(
    model: str,
    *,
    labels: Labels | None = None,
    activation: Activation | None = None,
    device: str = "auto",
    **loading: Any,
) -> Model:
    """Load a network with the arguments of `load_classifier`, even if it has no exact map."""
    torch_device = pick_device(device)
    loaded = load_network(model, **loading)
    try:
        return make_classifier(model, loaded, labels, activation, "exact").to(torch_device)
    except HeadError as error:
        network = loaded.network.to(torch_device)
        scorer = ScoreOnlyClassifier(model, network, loaded.preprocessing, (), error.problem, weights=loaded.weights)
        classes = scorer.forward(torch.zeros(1, *loaded.preprocessing.input_shape)).shape[1]
        return replace(scorer, **describe_scores(model, loaded, classes, labels, activation))


def score_images(model: Model, images: Sequence[NDArray[np.uint8]], class_idx: int | None = None) -> list[ImageScores]:
    """Run a network once on images (H, W, 3) of one input size, with the exact map of `class_idx` if there is one."""
    if isinstance(model, Classifier):
        scores = []
        for result in map(result_or_raise, run_forward(model, images, model.preprocessing)):
            cam = None
            if class_idx is not None:
                found = result.class_maps([class_idx])
                cams = found.maps.float().cpu()
                result.check_completeness(cams, found.base, [class_idx], model.preprocessing.crop)
                cam = cams[0].numpy()
            scores.append(ImageScores(result.logits.numpy(), result.probabilities.numpy(), cam))
        return scores
    logits = model.forward(torch.stack([model.preprocessing.prepare(image)[0] for image in images]))
    if not logits.isfinite().all():
        raise ModelError(f"The class scores of {model.name!r} are not finite", "Check its weights")
    probabilities = model.probabilities(logits)
    return [ImageScores(*rows) for rows in zip(logits.numpy(), probabilities.numpy(), strict=True)]


def measure_invariance(
    model: Model,
    image: NDArray[np.uint8],
    *,
    box: Box | None = None,  # pixels of the image; without box and mask the object is all that the model sees
    mask: NDArray[np.uint8] | None = None,  # (H, W), 255 where the object is
    canvas: Size | None = None,  # input pixels; by default twice the object's size, at least the model's input size
    steps: int = 8,  # positions along each axis
    fill: Fill = "mean",  # of the preprocessing, "blur" (the blurred image), "reflect" (mirror images) or RGB
    target: Target | None = None,  # by default the class predicted for the image
    batch_size: int = 32,
    progress: Callable[[object], None] = lambda scores: None,
) -> Invariance:
    """Move an object of an image (H, W, 3) over a canvas; measure score and heat of one class at each position.

    The object keeps the scale at which the model sees images. For a network that takes one input size only, or has no
    exact map, the canvas has that size by default, and an object larger than half of the canvas is made smaller.
    `progress` is called after each position.
    """
    cutout, natural_size, canvas = _cut_and_fit(model, image, box, mask, canvas)
    background = paint_background(fill, canvas, image, model.preprocessing.mean)
    placements = Placements.spread(cutout, background, steps, fill)
    (own,) = score_images(model, [image])
    class_idx, *others = resolve([target or TopClasses(1)], torch.from_numpy(own.logits))
    if others:
        raise UsageError(f"--target must be one class, got top{1 + len(others)}", "Give top1, a class index or a label")

    canvas_model = model.with_input_size(canvas)
    scores: list[ImageScores] = []
    images = (placements.render(y, x) for y in placements.ys for x in placements.xs)
    while batch := list(islice(images, batch_size)):
        for image_scores in score_images(canvas_model, batch, class_idx):
            scores.append(image_scores)
            progress(image_scores)
    logits, probabilities, cams = (
        np.reshape(values, (*placements.shape, *np.shape(values[0]))) for values in zip(*scores, strict=True)
    )
    predicted = logits.argmax(-1)

    heat = seen = None
    if isinstance(canvas_model, Classifier):
        heat = _measure_heat(canvas_model, placements, class_idx, cams)
        if box is None and mask is None:
            seen = model.preprocessing.frame((image.shape[0], image.shape[1]))
    of_predicted = np.take_along_axis(probabilities, predicted[..., None], -1)[..., 0]
    best, most = int(own.logits.argmax()), int(np.bincount(predicted.ravel()).argmax())
    own_logit, own_probability = float(own.logits[class_idx]), float(own.probabilities[class_idx])
    alone = Alone(own_logit, own_probability, best, float(own.probabilities[best]))
    dilution = rival = None
    if isinstance(model, Classifier) and cutout.size == natural_size and fill != "reflect":
        dilution = _predict_dilution(model, image, box, mask, class_idx, placements)
        rival = _predict_dilution(model, image, box, mask, most, placements) if most != class_idx else None
    results = logits[..., class_idx], probabilities[..., class_idx], predicted, of_predicted
    reason = "" if isinstance(model, Classifier) else model.reason
    notes = describe_object(placements, natural_size, seen)
    explained = alone, dilution, rival, heat
    return Invariance(model.name, class_idx, model.labels, placements, *results, *explained, reason, notes)


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


def _predict_dilution(
    model: Classifier,
    image: NDArray[np.uint8],
    box: Box | None,
    mask: NDArray[np.uint8] | None,
    class_idx: int,
    placements: Placements,
) -> Dilution | None:
    """Predict the object's logit on the canvas from the map of the image alone, if the logit is a plain average."""
    (own,) = score_images(model, [image], class_idx)
    cam, logit = np.asarray(own.cam), float(own.logits[class_idx])
    if box is not None or mask is not None:
        heat = project(cam, model.grid, model.preprocessing.frame((image.shape[0], image.shape[1])))
        x0, y0, x1, y1 = box or (0, 0, image.shape[1], image.shape[0])
        part = heat[y0:y1, x0:x1] if mask is None else heat[mask > 127]
        logit += float(part[np.isfinite(part)].mean() - cam.mean()) if np.isfinite(part).any() else np.nan
    if model.head.kind not in ("gap-linear", "conv-gap") or np.isnan(logit):
        return None
    (empty,) = score_images(model.with_input_size(placements.canvas), [placements.background])
    share = placements.cutout.alpha.sum() / 255 / math.prod(placements.canvas)
    return Dilution(share, logit, float(empty.logits[class_idx]))


def _measure_heat(model: Classifier, placements: Placements, class_idx: int, cams: NDArray[np.float32]) -> Equivariance:
    cells, canvas = (cams.shape[2], cams.shape[3]), placements.canvas
    grid = model.grid_for(cells, canvas)
    ys, xs = (grid.centers(axis, cells[axis]) for axis in (0, 1))
    peaks, centroids = (track(points, placements.centers) for points in peaks_and_centroids(cams, ys, xs))
    strides, errors = (round(grid.stride[0]), round(grid.stride[1])), None
    if np.allclose(grid.stride, strides) and min(strides) >= 1 and min(cells) >= _FEWEST_CELLS:
        top, left = ((canvas[axis] - placements.cutout.size[axis]) // 2 for axis in (0, 1))
        image = placements.render(top, left)
        images = [image, np.roll(image, strides[0], 0), np.roll(image, strides[1], 1)]
        cam, down, right = (np.asarray(scores.cam) for scores in score_images(model, images, class_idx))
        errors = compare_moved(cam, down, (1, 0))[0], compare_moved(cam, right, (0, 1))[0]
    return Equivariance(cams, grid, peaks, centroids, errors)


def peaks_and_centroids(cams: Floats, ys: Floats, xs: Floats) -> tuple[Floats, Floats]:
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
