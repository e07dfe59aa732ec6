"""Measure how a class score stays, and how its heat moves along, when an object moves over a canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.labels import name_classes
from cam.classifiers.load import load_network, make_classifier
from cam.classifiers.preprocessing import Preprocessing, crop_resized
from cam.errors import CamError, HeadError, ModelError, UsageError
from cam.evaluation.sanity import compare_moved
from cam.explanations.forward import ForwardResult, run_forward, sound
from cam.explanations.options import Target, TopClasses, resolve
from cam.heads.find import find_head
from cam.heads.hooks import eval_mode
from cam.heads.outputs import find_logits
from cam.invariance.moving import Cutout, Fill, Scenes, background, cut_box, cut_mask
from cam.invariance.results import Equivariance, Following, Invariance, notes
from cam.maps.boxes import Box
from cam.maps.geometry import Frame, Grid, Size, stretched
from cam.maps.projection import peak
from cam.tensors import device_and_dtype, pick_device

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
        model: from `load_any_classifier`, `load_classifier` or `wrap`.
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
        >>> from cam.classifiers.load import load_classifier
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
    looking = model.with_input_size(scenes.canvas)
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
        notes(scenes, natural, _seen(model, image) if box is None and mask is None else None),
    )


def peaks_and_centroids(
    cams: NDArray[np.floating], ys: NDArray[np.floating], xs: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the center of the hottest cell of each map, and the centroid of its positive evidence.

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
        return Cutout.whole(crop_resized(image, frame, kind))

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
    ys, xs = (grid.centers(axis, cells[axis], scenes.canvas[axis]) for axis in (0, 1))
    peaks, centroids = (Following.of(points, scenes.centers) for points in peaks_and_centroids(cams, ys, xs))
    return Equivariance(cams, grid, peaks, centroids, _shift_errors(model, scenes, class_idx, grid))


def _shift_errors(model: Classifier, scenes: Scenes, class_idx: int, grid: Grid) -> tuple[float, float] | None:
    """The errors of a move down and of a move right by one stride, object and ground together."""
    strides = round(grid.stride[0]), round(grid.stride[1])
    if not np.allclose(grid.stride, strides) or min(strides) < 1:
        return None
    middle = scenes.at(scenes.middle)
    moves = [np.roll(middle, strides[axis], axis) for axis in (0, 1)]
    here, *there = (each.cam for each in look(model, [middle, *moves], class_idx))
    if here is None or min(here.shape) < _FEWEST:
        return None
    down, right = (
        compare_moved(here, cam, cell)[0] for cam, cell in zip(there, ((1, 0), (0, 1)), strict=True) if cam is not None
    )
    return down, right


@dataclass(frozen=True)
class ScoreOnlyClassifier:
    """A network whose scores are no average over places: they can be measured, and not spread over a picture.

    Attributes:
        name: what it was loaded as.
        network: unwrapped, on its device.
        preprocessing: from photograph to input.
        labels: of the classes, in order; two where there is one logit.
        reason: why there is no exact map.
        binary: whether one logit decides between two classes.
        weights: file the weights came from; None where they did not come from a file.
    """

    name: str
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    reason: str
    binary: bool = False
    weights: Path | None = None

    def with_input_size(self, size: Size) -> ScoreOnlyClassifier:
        """Look at pictures of (H, W) pixels as they are, neither resized nor cropped.

        Example:
            >>> vgg = ScoreOnlyClassifier("vgg", nn.Flatten(), Preprocessing(), ("a", "b"), "it flattens")
            >>> vgg.with_input_size((32, 48)).preprocessing.crop
            (32, 48)
        """
        return replace(self, preprocessing=self.preprocessing.with_input_size(size))

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the network once.

        Args:
            inputs: (N, channels, H, W) float32, normalized, on any device.

        Returns:
            Logits (N, C) float32 on the CPU; one logit z is spelled out as two, -z against and z for the class.

        Raises:
            ModelError: the network does not run on inputs of this size.

        Example:
            >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
            >>> ScoreOnlyClassifier("flat", network, Preprocessing(), (), "").forward(torch.zeros(2, 3, 2, 2)).shape
            torch.Size([2, 3])
        """
        try:
            with eval_mode(self.network):
                logits = find_logits(self.network(inputs.to(*device_and_dtype(self.network)))).float().cpu()
        except CamError:
            raise
        except Exception as error:  # whatever a stranger's network may raise
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {error}",
                "Give a canvas of the size it was made for, or take smaller batches",
            ) from error
        return torch.cat((-logits, logits), 1) if self.binary else logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities: softmax, or the logistic function where there is one logit.

        Example:
            >>> flat = ScoreOnlyClassifier("vgg", nn.Flatten(), Preprocessing(), ("a", "b"), "")
            >>> flat.probabilities(torch.zeros(1, 2)).tolist()
            [[0.5, 0.5]]
        """
        return logits.sigmoid() if self.binary else logits.softmax(1)


Model: TypeAlias = Classifier | ScoreOnlyClassifier


@dataclass(frozen=True)
class Look:
    """What a network makes of one picture.

    Attributes:
        logits: (C,) float32.
        probabilities: (C,) float32.
        cam: (h, w) float32, logit units, of the class asked for; None without an exact map.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    cam: NDArray[np.float32] | None = None


def load_any_classifier(
    model: str,
    *,
    weights: str | Path | None = None,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> Model:
    """Load a network with the arguments of `load_classifier`, also one without an exact map.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be had, read or fitted.
        UsageError: an argument that cannot be right.

    Example:
        >>> load_any_classifier("cifar-resnet20", random_weights=True, device="cpu").head.kind
        'gap-linear'
    """
    where = pick_device(device)
    built = load_network(
        model,
        weights=weights,
        input_size=input_size,
        mean=mean,
        std=std,
        random_weights=random_weights,
        unsafe_pickle=unsafe_pickle,
    )
    try:
        head = find_head(built.network, built.preprocessing.input_shape).exact()
        classifier = make_classifier(model, built, head, labels)
    except HeadError as error:
        network = built.network.to(where)
        headless = ScoreOnlyClassifier(model, network, built.preprocessing, (), error.found, weights=built.weights)
        return _named(headless, labels, built.labels)
    return replace(classifier, network=classifier.network.to(where), head=classifier.head.to(where))


def look(model: Model, images: Sequence[NDArray[np.uint8]], class_idx: int | None = None) -> list[Look]:
    """Run a network once over pictures that become inputs of one size.

    Args:
        model: from `load_any_classifier`.
        images: (H, W, 3) uint8 RGB.
        class_idx: the class whose maps are wanted; None for none.

    Raises:
        ModelError: the network does not run on them, its scores are not finite, or the maps do not add up to them.

    Example:
        >>> model = load_any_classifier("cifar-resnet20", random_weights=True, device="cpu")
        >>> (found,) = look(model, [np.zeros((32, 32, 3), np.uint8)], 3)
        >>> found.logits.shape, found.cam.shape
        ((10,), (8, 8))
    """
    if isinstance(model, Classifier):
        passes = [sound(each) for each in run_forward(model, images, model.preprocessing)]
        cams = [None if class_idx is None else _cam(each, class_idx) for each in passes]
        return [
            Look(each.logits.numpy(), each.probabilities.numpy(), cam) for each, cam in zip(passes, cams, strict=True)
        ]
    logits = model.forward(torch.stack([model.preprocessing.prepare(image)[0] for image in images]))
    if not logits.isfinite().all():
        raise ModelError(f"The class scores that {model.name!r} gives are not finite", "Check its weights")
    probabilities = model.probabilities(logits)
    return [Look(row, share) for row, share in zip(logits.numpy(), probabilities.numpy(), strict=True)]


def _cam(seen: ForwardResult, class_idx: int) -> NDArray[np.float32]:
    cams = seen.cams([class_idx]).float().cpu()
    seen.prove(cams, [class_idx])
    return cams[0].numpy()


def _named(model: ScoreOnlyClassifier, labels: Sequence[str] | None, own: Sequence[str] | None) -> ScoreOnlyClassifier:
    """Count the classes, and name them."""
    classes = model.forward(torch.zeros(1, *model.preprocessing.input_shape)).shape[1]
    return replace(model, binary=classes == 1, labels=name_classes(labels, own, classes))
