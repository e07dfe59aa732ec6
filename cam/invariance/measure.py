"""Measure how a class score stays, and how its heat moves along, when an object moves over a canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from cam.boxes import Box
from cam.classifiers import Classifier
from cam.errors import UsageError
from cam.evaluation.sanity import compare_moved
from cam.geometry import Frame, Grid, Size, stretched
from cam.invariance.cutout import Cutout, cut_box, cut_mask
from cam.invariance.moving import Fill, Scenes, background
from cam.invariance.remarks import remarks
from cam.invariance.results import Equivariance, Invariance
from cam.invariance.scoring import Look, Model, look
from cam.invariance.summaries import Following
from cam.placing import peak
from cam.preprocessing import cut
from cam.targets import Target, TopClasses, resolve

_FEWEST = 4  # cells along each axis of which a middle half can be compared


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
    progress: Callable[[object], None] = lambda done: None,
) -> Invariance:
    """Move an object over all places of a canvas, and measure the score and the heat of one class.

    The object keeps the scale at which the model looks at pictures. A network that takes one input size only, and
    every one without an exact map, gets a canvas of just that size, and the object is made smaller where it is larger
    than half of that.

    On a canvas of twice the height and width the object is a quarter of the places that are averaged, so its class
    scores less than in the picture alone, and may lose to another: at all places alike, which is what is measured.

    Args:
        model: from `load_any`, `load_classifier` or `wrap`.
        image: (H, W, 3) uint8 RGB; what the model looks at of it is the object.
        box: (x0, y0, x1, y1) of the object, pixels of the image, instead.
        mask: (H, W) uint8, 255 where the object is, instead.
        canvas: (H, W), input pixels; by default twice the object's size, and no less than the model's input.
        steps: places along each axis, evenly spread over all where the object fits whole.
        fill: of the canvas: "mean" (of the model's preprocessing, 0 in its input), "blur" (the image), "reflect" (the
            object, which then has no edge, but whose mirror images the heat may peak in) or RGB.
        target: the class; by default the one predicted for the image.
        batch_size: scenes in one forward pass; no more of them are held.
        progress: called with each place once it is done with.

    Returns:
        The scores, and where there is an exact map what its heat does.

    Raises:
        UsageError: an argument that cannot be right, or it leaves one place, which measures nothing.
        ModelError: the network does not run on the canvas.

    Example:
        >>> from cam.classifiers import load_classifier
        >>> digits = load_classifier("digits", device="cpu")
        >>> found = measure_invariance(digits, np.zeros((72, 72, 3), np.uint8), steps=2)
        >>> found.scenes.canvas, found.logits.shape, found.equivariance.cams.shape
        ((144, 144), (2, 2), (2, 2, 36, 36))
    """
    if batch_size < 1:
        raise UsageError(f"A batch of {batch_size} scenes cannot be run", "Give 1 or more")
    thing, ground, natural = _object_and_canvas(model, image, box, mask, canvas, fill)
    scenes = Scenes.over(ground, thing, steps, fill)
    class_idx = _class(model, image, target)
    looking = model.for_inputs_of(scenes.canvas)
    looks = list(_looks(looking, scenes, class_idx, batch_size, progress))
    logits, probabilities, predicted, winning = (
        np.array(values).reshape(scenes.shape)
        for values in (
            [each.logits[class_idx] for each in looks],
            [each.probabilities[class_idx] for each in looks],
            [each.logits.argmax() for each in looks],
            [each.probabilities[each.logits.argmax()] for each in looks],
        )
    )
    return Invariance(
        model.name,
        class_idx,
        model.labels,
        scenes,
        logits,
        probabilities,
        predicted,
        winning,
        _equivariance(looking, scenes, class_idx, looks) if isinstance(looking, Classifier) else None,
        "" if isinstance(model, Classifier) else model.reason,
        remarks(scenes, natural, _seen(model, image) if box is None and mask is None else None),
    )


def peaks_and_centroids(
    cams: NDArray[np.floating], ys: NDArray[np.floating], xs: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the centre of the hottest cell of each map, and the centroid of its positive evidence.

    Args:
        cams: (..., h, w), any unit.
        ys: of the rows of cells, (h,), pixels.
        xs: of the columns, (w,), pixels.

    Returns:
        Two of (..., 2): (y, x), pixels. Of equally hot cells it is the one that `placing.peak` takes; a centroid is
        not a number where there is no positive evidence.

    Example:
        >>> cams, ys, xs = np.array([[-9.0, 3.0, 1.0]]), np.array([1.5]), np.array([0.0, 4.0, 8.0])
        >>> [points.tolist() for points in peaks_and_centroids(cams, ys, xs)]
        [[1.5, 4.0], [1.5, 5.0]]
    """
    cells = np.array([_hottest(cam) for cam in cams.reshape(-1, *cams.shape[-2:])])
    peaks = np.stack((ys[cells[:, 0]], xs[cells[:, 1]]), -1).reshape(*cams.shape[:-2], 2)
    positive = np.maximum(cams, 0).astype(np.float64)
    moments = np.stack((positive.sum(-1) @ ys, positive.sum(-2) @ xs), -1)
    total = positive.sum((-2, -1))[..., None]
    return peaks, np.divide(moments, total, out=np.full(moments.shape, np.nan), where=total > 0)


def _hottest(cam: NDArray[np.floating]) -> Size:
    """(row, column): the peak on a photograph of one pixel a cell."""
    cells = cam.shape[0], cam.shape[1]
    return peak(cam, stretched(cells, cells), Frame(cells, cells, (0, 0), cells))


def _object_and_canvas(
    model: Model,
    image: NDArray[np.uint8],
    box: Box | None,
    mask: NDArray[np.uint8] | None,
    canvas: Size | None,
    fill: Fill,
) -> tuple[Cutout, NDArray[np.uint8], Size]:
    """The object, the canvas, and the size that the object has at the model's own scale."""
    preprocessing = model.preprocessing
    own, kind = preprocessing.crop, preprocessing.interpolation

    def cutout(factor: float) -> Cutout:
        scaled = preprocessing.scaled(factor)
        frame = scaled.frame((image.shape[0], image.shape[1]))
        if mask is not None:
            return cut_mask(image, mask, frame.resized[0] / frame.photo[0], kind)
        if box is not None:
            return cut_box(image, box, frame.resized[0] / frame.photo[0], kind)
        return Cutout.whole(cut(image, frame, kind))

    thing = cutout(1)
    natural = thing.size
    if not isinstance(model, Classifier) or model.grid.method == "stretched":
        canvas = canvas or own
        thing = cutout(min(1, *(size / 2 / side for size, side in zip(canvas, thing.size, strict=True))))
    elif canvas is None:
        canvas = max(own[0], 2 * thing.size[0]), max(own[1], 2 * thing.size[1])
    return thing, background(fill, canvas, image, preprocessing.mean), natural


def _seen(model: Model, image: NDArray[np.uint8]) -> Frame | None:
    """What the model looks at of a picture; None where it has no heat to be compared with that."""
    return model.preprocessing.frame((image.shape[0], image.shape[1])) if isinstance(model, Classifier) else None


def _class(model: Model, image: NDArray[np.uint8], target: Target | None) -> int:
    (alone,) = look(model, [image])
    classes = resolve([target or TopClasses(1)], torch.from_numpy(alone.logits))
    if len(classes) != 1:
        raise UsageError(f"top{len(classes)} are several classes", "Give one: top1, a class index or a label")
    return classes[0]


def _looks(
    model: Model, scenes: Scenes, class_idx: int, batch_size: int, progress: Callable[[object], None]
) -> Iterator[Look]:
    images = iter(scenes)
    while batch := list(islice(images, batch_size)):
        for each in look(model, batch, class_idx):
            yield each
            progress(each)


def _equivariance(model: Classifier, scenes: Scenes, class_idx: int, looks: Sequence[Look]) -> Equivariance:
    cams = np.array([each.cam for each in looks])
    cams = cams.reshape(*scenes.shape, *cams.shape[1:])
    cells = cams.shape[2], cams.shape[3]
    grid = model.grid_for(cells, scenes.canvas)
    ys, xs = (grid.centres(axis, cells[axis], scenes.canvas[axis]) for axis in (0, 1))
    peaks, centroids = (Following.of(points, scenes.centres) for points in peaks_and_centroids(cams, ys, xs))
    return Equivariance(cams, grid, peaks, centroids, _shift_errors(model, scenes, class_idx, grid))


def _shift_errors(model: Classifier, scenes: Scenes, class_idx: int, grid: Grid) -> tuple[float, float] | None:
    """The errors of a move down and of a move right by one jump, object and ground together."""
    jumps = round(grid.jump[0]), round(grid.jump[1])
    if not np.allclose(grid.jump, jumps) or min(jumps) < 1:
        return None
    middle = scenes.at(scenes.middle)
    moves = [np.roll(middle, jumps[axis], axis) for axis in (0, 1)]
    here, *there = (each.cam for each in look(model, [middle, *moves], class_idx))
    if here is None or min(here.shape) < _FEWEST:
        return None
    down, right = (
        compare_moved(here, cam, cell)[0] for cam, cell in zip(there, ((1, 0), (0, 1)), strict=True) if cam is not None
    )
    return down, right
