"""Placement: how far from an object does its heat lie, wherever the cells of a map are said to be?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import crop_resized
from cam.errors import CamError, UsageError
from cam.evaluation.methods import MapRequest, Method, gaussian, uniform
from cam.evaluation.statistics import Evaluation, Row, collect_errors, some_measured
from cam.explanations.explain import explain, explain_images
from cam.explanations.explanation import Explanation
from cam.explanations.options import ExplainOptions, OneClass
from cam.heads.receptive_field import arithmetic_grid
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.images.read import Limits, read_picture
from cam.maps.evidence import Evidence
from cam.maps.geometry import Grid, Pair, fit_crop, stretched

METRICS = ("centroid_distance", "peak_distance", "bias_y", "bias_x")

CONFIDENCE = 0.3  # smallest probability of an object's class for which it counts as recognized

Rule = Callable[[Explanation], Grid]


def evaluate_placement(
    classifier: Classifier,
    pictures: Sequence[Picture],
    kinds: Sequence[Evidence] = ("logit",),
    *,
    truth: Mapping[Picture, int] | None = None,
    canvas: int | None = None,
    object_size: int | None = None,
    each: int = 8,
    background: tuple[int, int, int] | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[Picture], None] = lambda picture: None,
) -> Evaluation:
    """Paste shrunk pictures at random known places, and measure how far their heat lies from them.

    Every scene comes with its mirror image, and both count or none, so that what the left and the right side of an
    object are like cancels out along x. Metrics and methods are those of `measure_placement`.

    Args:
        classifier: from `load_classifier` or `wrap`; its network must take inputs of the canvas's size.
        pictures: from `find_pictures`; the middle square of each becomes an object.
        kinds: of evidence.
        truth: the class of each picture where it is known; else the one predicted for the picture alone.
        canvas: side of the scenes, pixels; by default that of the model's input, 64 or more.
        object_size: side of the objects, pixels; by default a third of the model's input, 32 or more.
        each: places for each object, every one also mirrored.
        background: RGB of the canvas; by default the mean color of the model's pictures, which is 0 in its input.
        seed: of the places, the baselines and the bootstrap.
        max_pixels: larger pictures are refused.
        progress: called with each picture once it is done with.

    Returns:
        What `measure_placement` does; `failed` tells of pictures that cannot be read or run.

    Raises:
        UsageError: an argument that cannot be right, or no object is recognized.
        ModelError: the network does not run on the canvas.
    """
    side = min(classifier.preprocessing.crop)
    canvas = max(side, 64) if canvas is None else canvas
    object_size = max(side // 3, 32) if object_size is None else object_size
    if each < 1 or not 1 <= object_size <= canvas:
        found = f"{each} objects of {object_size} pixels cannot be pasted into {canvas}"
        raise UsageError(found, "Give 1 or more, smaller than the canvas")
    failed: dict[str, str] = {}
    places = np.random.default_rng(seed).integers(0, canvas - object_size + 1, (len(pictures), each, 2))
    color = background or np.rint(255 * np.array(classifier.preprocessing.mean)).clip(0, 255)
    blank = np.full((canvas, canvas, 3), color, np.uint8)

    def objects() -> Iterator[list[tuple[Pasted, ...]]]:
        for picture, corners in zip(pictures, places.tolist(), strict=True):
            with collect_errors(failed, picture):
                image = read_picture(picture, Limits(max_pixels)).image
                class_idx = truth[picture] if truth and picture in truth else explain(classifier, image).class_idx
                thing = crop_resized(
                    image, fit_crop((image.shape[0], image.shape[1]), object_size, (object_size, object_size))
                )
                yield paste(str(picture.name), thing, class_idx, blank, corners)
            progress(picture)
        if len(failed) == len(pictures):
            some_measured((), failed)

    result = measure_placement(classifier, objects(), kinds, seed=seed)
    settings = {
        "confidence": CONFIDENCE,
        "canvas": canvas,
        "object_size": object_size,
        "each": each,
    }
    return replace(result, settings={**result.settings, **settings}, failed=failed)


def measure_placement(
    classifier: Classifier,
    objects: Iterable[Sequence[Sequence[Pasted]]],
    kinds: Sequence[Evidence] = ("logit",),
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure how far the heat of known objects lies from them.

    A method is a kind of evidence with the cells where they are measured to be, where convolution arithmetic puts
    them (if it can be derived) or where stretching the map does; and two baselines. Each object is one sample, the
    average over those groups of its scenes in all of which it is recognized; one that is not in its very first scene
    is left out at once.

    - `centroid_distance`: from the object's center to the centroid of the heat above half its maximum.
    - `peak_distance`: from the object's center to the hottest pixel.
    - `bias_y`, `bias_x`: by how much the centroid lies below and right of the object's center.

    Args:
        classifier: it looks at every scene as it is, pixel for pixel.
        objects: for each the scenes that it stands in, all of one size, in groups that count or fail together.
        kinds: of evidence.
        seed: of the baselines and the bootstrap.

    Returns:
        A row a method and metric, pixels of the scene; `pictures` is the number of objects measured.

    Raises:
        UsageError: no object is recognized.
        ModelError: the network does not run on a scene.
    """
    rules = _rules(classifier)
    baselines, samples, scenes = [gaussian(), uniform(seed)], [], 0
    for groups in objects:
        (first,) = _explained(classifier, groups[0][:1], kinds[0])
        if first.probability >= CONFIDENCE and (found := _recognized(classifier, groups, kinds)):
            samples.append(np.mean([_score(*each, list(rules.values()), baselines) for each in found], 0))
            scenes += len(found)
    if not samples:
        raise UsageError(
            f"{classifier.name!r} recognizes no object", "Give pictures it knows, or larger objects (--object-size)"
        )
    names = [*(f"{kind} {rule}" for kind in kinds for rule in rules), *(each.name for each in baselines)]
    rows = tuple(
        Row.of(name, metric, np.array(samples)[:, i, j], seed=seed)
        for i, name in enumerate(names)
        for j, metric in enumerate(METRICS)
    )
    return Evaluation("placement", classifier.name, seed, len(samples), {"scenes": scenes}, rows)


def centroid(heat: NDArray[np.floating]) -> Pair:
    """Give the centroid (y, x) of the heat (H, W) above half its maximum; where none is positive, of the hottest.

    Example:
        >>> centroid(np.array([[0.0, 4.0, 4.0, 1.0]]))
        (0.0, 1.5)
    """
    hottest = float(heat.max())
    mass = np.where(heat >= min(hottest, hottest / 2), heat / hottest if hottest else 1, 0).astype(np.float64)
    y, x = (float(mass.sum(1 - axis) @ np.arange(mass.shape[axis]) / mass.sum()) for axis in (0, 1))
    return y, x


def _rules(classifier: Classifier) -> dict[str, Rule]:
    """The ways of saying where the cells of a map lie."""
    arithmetic = arithmetic_grid(classifier.network, classifier.head.site, classifier.preprocessing.input_shape)
    rules: dict[str, Rule] = {}
    if classifier.grid.method == "measured":
        rules["measured"] = lambda each: each.grid
    if arithmetic:
        rules["arithmetic"] = lambda each: arithmetic
    rules["stretched"] = lambda each: stretched((each.cam.shape[0], each.cam.shape[1]), each.frame.input)
    return rules


def _recognized(
    classifier: Classifier, groups: Sequence[Sequence[Pasted]], kinds: Sequence[Evidence]
) -> list[tuple[Pasted, list[Explanation]]]:
    """The scenes of groups whose object is recognized in all of them, each with an explanation a kind of evidence."""
    scenes = [scene for group in groups for scene in group]
    answers = zip(*(_explained(classifier, scenes, kind) for kind in kinds), strict=True)
    found: list[tuple[Pasted, list[Explanation]]] = []
    for group in groups:
        explained = [(scene, list(next(answers))) for scene in group]
        if all(explanations[0].probability >= CONFIDENCE for _, explanations in explained):
            found += explained
    return found


def _explained(classifier: Classifier, scenes: Sequence[Pasted], kind: Evidence) -> Iterator[Explanation]:
    height, width = scenes[0].image.shape[:2]
    looking = classifier.with_input_size((height, width))
    targets = [(OneClass(scene.class_idx),) for scene in scenes]
    for result in explain_images(looking, [scene.image for scene in scenes], targets, ExplainOptions(kind)):
        if isinstance(result, CamError):
            raise result
        yield result.explanations[0]


def _score(
    scene: Pasted, explanations: Sequence[Explanation], rules: Sequence[Rule], baselines: Sequence[Method]
) -> list[list[float]]:
    """The metrics of every method in one scene."""
    placed = [replace(explanation, grid=rule(explanation)) for explanation in explanations for rule in rules]
    scores = [_errors(scene.center, centroid(each.heat()), each.peak) for each in placed]
    asked = MapRequest(scene.name, scene.image, (scene.class_idx,))
    for (heat,) in (baseline.heats(asked) for baseline in baselines):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        scores.append(_errors(scene.center, centroid(heat), (int(y), int(x))))
    return scores


def _errors(center: Pair, middle: Pair, peak: Pair) -> list[float]:
    return [math.dist(middle, center), math.dist(peak, center), middle[0] - center[0], middle[1] - center[1]]


@dataclass(frozen=True)
class Pasted:
    """A canvas with one object on it.

    Attributes:
        name: tells it from the others.
        image: (H, W, 3) uint8 RGB.
        class_idx: of the object.
        center: (y, x) of the object, pixels.
    """

    name: str
    image: NDArray[np.uint8]
    class_idx: int
    center: Pair


def paste(
    name: str, thing: NDArray[np.uint8], class_idx: int, blank: NDArray[np.uint8], corners: Sequence[Sequence[int]]
) -> list[tuple[Pasted, ...]]:
    """Paste an object (h, w, 3) at each place (y, x) of its upper left corner: pairs of a scene and its mirror image.

    Example:
        >>> thing, blank = np.ones((2, 2, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)
        >>> [scene.center for scene in paste("a", thing, 0, blank, [(1, 0)])[0]]
        [(1.5, 0.5), (1.5, 6.5)]
    """
    height, width = thing.shape[:2]
    pairs: list[tuple[Pasted, ...]] = []
    for number, (top, left) in enumerate(corners):
        image = blank.copy()
        image[top : top + height, left : left + width] = thing
        y, x = top + (height - 1) / 2, left + (width - 1) / 2
        mirrored = np.ascontiguousarray(image[:, ::-1])
        there = Pasted(f"{name}-{number}-mirrored", mirrored, class_idx, (y, blank.shape[1] - 1 - x))
        pairs.append((Pasted(f"{name}-{number}", image, class_idx, (y, x)), there))
    return pairs
