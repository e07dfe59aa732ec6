"""The placement benchmark: how far does the heat lie from an object whose position is known?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import MAX_SIDE, crop_resized
from cam.errors import UsageError
from cam.evaluation.benchmark import Evaluation, Progress, Sample, run_benchmark
from cam.evaluation.methods import Image, Load, MapRequest, baselines, forward_image, load_image
from cam.explanations.explain import explain_images
from cam.explanations.explanation import Explanation
from cam.explanations.forward import result_or_raise
from cam.explanations.options import ExplainOptions, OneClass
from cam.heads.general import Method
from cam.images.find import Picture
from cam.maps.evidence import Evidence
from cam.maps.geometry import Pair, fit_crop, stretched

METRICS = ("centroid_distance", "peak_distance", "bias_y", "bias_x")
CONFIDENCE = 0.3  # smallest probability of an object's class for which it counts as recognized
_REMEDY = "The model recognizes none of the objects. Give images it knows, or larger objects (--object-size)"


@dataclass(frozen=True)
class Scene:
    """A canvas with one object on it."""

    name: str
    image: Image
    class_idx: int
    center: Pair  # (y, x) of the object, pixels


Groups: TypeAlias = Sequence[Sequence[Scene]]  # scenes of one object and size; those of a group count or do not


def evaluate_placement(
    classifier: Classifier,
    pictures: Sequence[Picture],
    kinds: Sequence[Evidence] = ("logit",),
    methods: Sequence[Method] = (),
    *,
    truth: Mapping[Picture, int] | None = None,
    canvas: int | None = None,
    object_size: int | None = None,
    positions: int = 8,
    background: tuple[int, int, int] | None = None,
    seed: int = 0,
    load: Load = load_image,
    progress: Progress = None,
) -> Evaluation:
    """Paste shrunk images at random known positions, and measure how far their heat lies from them.

    Every scene comes with its mirror image, and both count or neither, so that differences between the left and the
    right side of an object cancel out along x. Metrics and methods are those of `measure_placement`.

    The middle square of each image becomes an object of its class in `truth`, by default the predicted one. The default
    of `canvas` is the side of the model's input (64 or more), and of `object_size` a third of it (32 or more).
    """
    side = min(classifier.preprocessing.crop)
    canvas = max(side, 64) if canvas is None else canvas
    object_size = max(side // 3, 32) if object_size is None else object_size
    limits = ("--canvas", canvas, MAX_SIDE), ("--object-size", object_size, canvas), ("--each", positions, MAX_SIDE)
    for option, value, most in limits:
        if not 1 <= value <= most:
            limit = f"{most} (--canvas)" if option == "--object-size" else most
            raise UsageError(f"{option} must be from 1 to {limit}, got {value}", "Give a number in that range")
    corners = np.random.default_rng(seed).integers(0, canvas - object_size + 1, (len(pictures), positions, 2)).tolist()
    color = background or np.rint(255 * np.array(classifier.preprocessing.mean)).clip(0, 255)
    blank = np.full((canvas, canvas, 3), color, np.uint8)
    measure_object = _object_measure(classifier, kinds, methods, seed)

    def measure(item: tuple[Picture, Sequence[Sequence[int]]]) -> list[Sample]:
        picture, upper_left = item
        image = load(picture)
        class_idx = truth[picture] if truth else int(forward_image(classifier, image).logits.argmax())
        frame = fit_crop((image.shape[0], image.shape[1]), object_size, (object_size, object_size))
        return measure_object(paste(str(picture.name), crop_resized(image, frame), class_idx, blank, upper_left))

    items = [(str(picture.path), (picture, upper_left)) for picture, upper_left in zip(pictures, corners, strict=True)]
    settings = {"confidence": CONFIDENCE, "canvas": canvas, "object_size": object_size, "positions": positions}
    settings["background"] = np.asarray(color).tolist()
    name = classifier.name
    return run_benchmark("placement", name, items, measure, settings, seed=seed, remedy=_REMEDY, progress=progress)


def measure_placement(
    classifier: Classifier,
    objects: Iterable[Groups],
    kinds: Sequence[Evidence] = ("logit",),
    methods: Sequence[Method] = (),
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure how far the heat of known objects lies from them, in pixels of the scenes.

    - `centroid_distance`: from the object's center to the centroid of the heat above half its maximum.
    - `peak_distance`: from the object's center to the highest pixel.
    - `bias_y`, `bias_x`: how far the centroid lies below and right of the object's center.

    The rows are the kinds of evidence, and the `methods` of computing maps of the same features, each with its cells at
    their measured positions, or stretched over the image; and two baselines. Each object is one sample, the average
    over those groups of scenes in all of which it is recognized; an object that is not recognized in its first scene is
    left out.
    """
    items = ((str(number), groups) for number, groups in enumerate(objects))
    measure, settings = _object_measure(classifier, kinds, methods, seed), {"confidence": CONFIDENCE}
    return run_benchmark("placement", classifier.name, items, measure, settings, seed=seed, remedy=_REMEDY)


def paste(
    name: str, pixels: Image, class_idx: int, blank: Image, corners: Sequence[Sequence[int]]
) -> list[tuple[Scene, Scene]]:
    """Paste an object (h, w, 3) with its upper left corner at each (y, x): pairs of a scene and its mirror image."""
    height, width = pixels.shape[:2]
    pairs = []
    for number, (top, left) in enumerate(corners):
        image = blank.copy()
        image[top : top + height, left : left + width] = pixels
        y, x = top + (height - 1) / 2, left + (width - 1) / 2
        scene = Scene(f"{name}-{number}", image, class_idx, (y, x))
        mirrored, mirrored_center = np.ascontiguousarray(image[:, ::-1]), (y, blank.shape[1] - 1 - x)
        pairs.append((scene, Scene(f"{scene.name}-mirrored", mirrored, class_idx, mirrored_center)))
    return pairs


def centroid(heat: NDArray[np.floating]) -> Pair:
    """Compute the centroid (y, x) of the heat above half its maximum; of the highest pixels if none is positive."""
    highest = float(heat.max())
    mass = np.where(heat >= min(highest, highest / 2), heat / highest if highest else 1, 0).astype(np.float64)
    y, x = (float(mass.sum(1 - axis) @ np.arange(mass.shape[axis]) / mass.sum()) for axis in (0, 1))
    return y, x


def _object_measure(
    classifier: Classifier, kinds: Sequence[Evidence], methods: Sequence[Method], seed: int
) -> Callable[[Groups], list[Sample]]:
    """Make the function that measures one object in its scenes."""
    classifier.check_probabilities("The placement benchmark")
    variants: dict[str, tuple[Classifier, Evidence]] = {kind: (classifier, kind) for kind in kinds}
    variants |= {method: (classifier.with_method(method), "logit") for method in methods}

    def score(scene: Scene, explanations: Sequence[Explanation]) -> dict[str, tuple[float, ...]]:
        errors = {}
        for name, explanation in zip(variants, explanations, strict=True):
            cells = explanation.cam.shape[0], explanation.cam.shape[1]
            for grid in (explanation.grid, stretched(cells, explanation.frame.input)):
                placed = replace(explanation, grid=grid)
                errors[f"{name} {grid.method}"] = _errors(scene.center, placed.heat(), placed.peak)
        request = MapRequest(scene.name, scene.image, (scene.class_idx,))
        for method in baselines(seed):
            heat = method.heats(request)[scene.class_idx]
            y, x = np.unravel_index(heat.argmax(), heat.shape)
            errors[method.name] = _errors(scene.center, heat, (int(y), int(x)))
        return errors

    def measure(groups: Groups) -> list[Sample]:
        errors = []
        for number, group in enumerate(groups):
            explained = list(zip(*(_explain(*variant, group) for variant in variants.values()), strict=True))
            probabilities = [explanations[0].probability or 0.0 for explanations in explained]
            if number == 0 and probabilities[0] < CONFIDENCE:
                return []
            if min(probabilities) >= CONFIDENCE:
                errors += [score(scene, explanations) for scene, explanations in zip(group, explained, strict=True)]
        means = {name: np.mean([error[name] for error in errors], 0) for name in errors[0]} if errors else {}
        return [{name: dict(zip(METRICS, mean, strict=True)) for name, mean in means.items()}] if means else []

    return measure


def _explain(classifier: Classifier, kind: Evidence, scenes: Sequence[Scene]) -> list[Explanation]:
    """Explain the class of the object in each scene, pixel for pixel."""
    height, width = scenes[0].image.shape[:2]
    images, targets = [scene.image for scene in scenes], [(OneClass(scene.class_idx),) for scene in scenes]
    results = explain_images(classifier.with_input_size((height, width)), images, targets, ExplainOptions(kind))
    return [result_or_raise(result).explanations[0] for result in results]


def _errors(center: Pair, heat: NDArray[np.floating], peak: Pair) -> tuple[float, ...]:
    """Compute the `METRICS` of the heat of one scene."""
    y, x = centroid(heat)
    return math.dist((y, x), center), math.dist(peak, center), y - center[0], x - center[1]
