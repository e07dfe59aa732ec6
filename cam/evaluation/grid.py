"""The grid pointing game: in a mosaic of different classes, does each class's heat lie in its own tile?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cam.classifiers.classifier import Classifier
from cam.errors import ModelError, UsageError
from cam.evaluation.benchmark import Evaluation, Progress, Sample, measure_items, run_benchmark
from cam.evaluation.methods import Image, Load, MapRequest, Method, forward_image, load_image
from cam.evaluation.metrics import peak_inside, share_inside
from cam.files import write_whole
from cam.images.find import Picture
from cam.images.io import write_image


@dataclass(frozen=True)
class Mosaic:
    """Images side by side: `size` x `size` tiles, row by row, each an image and its class."""

    name: str
    tiles: tuple[tuple[Picture, int], ...]
    size: int


def evaluate_grid(
    classifier: Classifier,
    classes: Mapping[Picture, int],
    methods: Callable[[Classifier], Sequence[Method]],
    *,
    sizes: Sequence[int] = (2, 3),
    mosaics: int = 50,
    confidence: float = 0.9,
    seed: int = 0,
    load: Load = load_image,
    save: Path | None = None,
    progress: Progress = None,
) -> Evaluation:
    """Run the grid pointing game (Böhle et al., CVPR 2021, section 4.1; Rao et al., CVPR 2022).

    Images that the model classifies correctly with confidence are cropped as the model sees them and set side by side,
    n x n of different classes. `share` is the part of a class's positive evidence inside its own tile, `hit` whether
    its peak lies there; chance is 1 / n^2. A sample is a mosaic, over whose tiles both are averaged. Mosaics share
    images, so that intervals are a little narrow; `pictures` of the result counts those images.

    Mosaics are explained pixel for pixel. Where the network takes inputs of one size only (a flattened map, position
    embeddings), they are shrunk to it: `input` of the settings says "mosaic" or "shrunk".

    `classes` are the true ones. `methods` makes those to compare for a classifier whose inputs are whole mosaics.
    `save` is a folder for the mosaics and `mosaics.csv`, name and class of every tile, for maps of other tools.
    """
    classifier.check_probabilities("The grid pointing game")
    confident, failed = confident_images(classifier, classes, confidence, load)
    drawn = [mosaic for size in sizes for mosaic in draw_mosaics(confident, size, mosaics, seed)]
    if save:
        lines = [f"{mosaic.name},{class_idx}\n" for mosaic in drawn for _, class_idx in mosaic.tiles]
        write_whole(save / "mosaics.csv", "".join(["name,class_idx\n", *lines]).encode())
    height, width = classifier.preprocessing.crop
    whole = [classifier.with_input_size((size * height, size * width)) for size in sizes]
    shrunk = not all(map(_runs, whole))
    if shrunk:
        whole = [replace(classifier, preprocessing=replace(classifier.preprocessing, fit="stretch"))] * len(sizes)
    methods_of = {size: methods(variant) for size, variant in zip(sizes, whole, strict=True)}

    def measure(mosaic: Mosaic) -> list[Sample]:
        image = compose_mosaic(classifier, mosaic, load)
        if save:
            write_image(save / mosaic.name, image)
        return [_score(image, mosaic, methods_of[mosaic.size])]

    settings = {"sizes": sizes, "mosaics": mosaics, "confidence": confidence, "input": "shrunk" if shrunk else "mosaic"}
    items = ((mosaic.name, mosaic) for mosaic in drawn)
    evaluation = run_benchmark("grid", classifier.name, items, measure, settings, seed=seed, progress=progress)
    unrecognized = len(classes) - len(confident) - len(failed)
    failed |= evaluation.failed
    return replace(evaluation, pictures=len(confident), failed=failed, unrecognized=unrecognized)


def _runs(classifier: Classifier) -> bool:
    """True if the network runs on inputs of the size that the classifier takes."""
    try:
        classifier.forward(torch.zeros(1, *classifier.preprocessing.input_shape))
    except ModelError:
        return False
    return True


def confident_images(
    classifier: Classifier, classes: Mapping[Picture, int], confidence: float, load: Load = load_image
) -> tuple[dict[Picture, int], dict[str, str]]:
    """Select the images whose true class has at least that probability; also give those that failed, and why."""

    def check(picture: Picture) -> tuple[Picture, bool]:
        result = forward_image(classifier, load(picture), "crop")
        correct = int(result.logits.argmax()) == classes[picture]
        return picture, correct and float(result.probabilities.max()) >= confidence

    checked, failed = measure_items(((str(picture.path), picture) for picture in classes), check)
    return {picture: classes[picture] for picture, confident in checked if confident}, failed


def draw_mosaics(classes: Mapping[Picture, int], size: int, count: int, seed: int) -> list[Mosaic]:
    """Draw mosaics of different classes at random."""
    by_class: dict[int, list[Picture]] = {}
    for picture, class_idx in classes.items():
        by_class.setdefault(class_idx, []).append(picture)
    if len(by_class) < size**2:
        problem = f"--size {size} needs images of {size**2} classes that the model recognizes, got {len(by_class)}"
        raise UsageError(problem, "Give more images, a smaller --confidence or a smaller --size")
    rng = np.random.default_rng((seed, size))
    mosaics = []
    for number in range(count):
        chosen = rng.permutation(sorted(by_class))[: size**2].tolist()
        tiles = [(by_class[class_idx][rng.integers(len(by_class[class_idx]))], class_idx) for class_idx in chosen]
        mosaics.append(Mosaic(f"mosaic-{size}x{size}-{number:03}.png", tuple(tiles), size))
    return mosaics


def compose_mosaic(classifier: Classifier, mosaic: Mosaic, load: Load = load_image) -> Image:
    """Set the tiles side by side, each as the crop that the model sees: (n * H, n * W, 3)."""
    preprocessing = classifier.preprocessing
    tiles = []
    for picture, _ in mosaic.tiles:
        image = load(picture)
        frame = preprocessing.frame((image.shape[0], image.shape[1]), "crop")
        tiles.append(preprocessing.crop_pixels(image, frame))
    rows = [np.concatenate(tiles[i : i + mosaic.size], 1) for i in range(0, len(tiles), mosaic.size)]
    return np.concatenate(rows)


def _score(image: Image, mosaic: Mosaic, methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """Average share and hit of each method over the tiles."""
    request = MapRequest(mosaic.name, image, tuple(class_idx for _, class_idx in mosaic.tiles))
    height, width = (side // mosaic.size for side in image.shape[:2])
    tiles = np.arange(mosaic.size**2).reshape(mosaic.size, -1).repeat(height, 0).repeat(width, 1)
    sample = {}
    for method in methods:
        heats = method.heats(request)
        pairs = [(heats[class_idx], tiles == number) for number, class_idx in enumerate(request.class_idxs)]
        sample[method.name] = {
            f"share {mosaic.size}x{mosaic.size}": np.mean([share_inside(*pair) for pair in pairs]),
            f"hit {mosaic.size}x{mosaic.size}": np.mean([peak_inside(*pair) for pair in pairs]),
        }
    return sample
