"""The grid pointing game: in a mosaic of different classes, does each class's heat lie in its own tile?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import crop_resized
from cam.errors import CamError, ImageError, UsageError
from cam.evaluation.labels import Labeled
from cam.evaluation.methods import MapRequest, Method
from cam.evaluation.metrics import box_mask, peak_inside, share_inside
from cam.evaluation.statistics import Evaluation, Row
from cam.explanations.forward import ForwardResult, run_forward
from cam.files import write_whole
from cam.images.io import MAX_PIXELS, write_image
from cam.images.read import Limits, read_picture

_BATCH = 32


@dataclass(frozen=True)
class Mosaic:
    """Pictures side by side.

    Attributes:
        name: tells it from the others.
        tiles: the pictures, row by row, each of another class.
        size: tiles along each side.
    """

    name: str
    tiles: tuple[Labeled, ...]
    size: int


def evaluate_grid(
    classifier: Classifier,
    pictures: Sequence[Labeled],
    methods: Callable[[Classifier], Sequence[Method]],
    *,
    sizes: Sequence[int] = (2, 3),
    mosaics: int = 50,
    confidence: float = 0.9,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    save: Path | None = None,
    progress: Callable[[Mosaic], None] = lambda mosaic: None,
) -> Evaluation:
    """Play the grid pointing game (Böhle et al., CVPR 2021, section 4.1; Rao et al., CVPR 2022).

    Pictures that the model classifies rightly with confidence are cropped as the model sees them and set side by
    side, n x n of different classes. `share` is the part of a class's positive evidence inside its own tile, `hit`
    whether its peak lies there; chance is 1 / n^2. A sample is a mosaic, over whose tiles both are averaged.

    Args:
        classifier: from `load_classifier` or `wrap`; its network must take inputs n times as large.
        pictures: from `labeled_pictures`.
        methods: makes those that take part for a classifier that looks at whole mosaics.
        sizes: of the mosaics, n.
        mosaics: number of each size.
        confidence: smallest probability of the right class.
        seed: of the mosaics and the bootstrap.
        max_pixels: larger pictures are refused.
        save: folder for the mosaics and `mosaics.csv`, name and class of every tile, so that other tools can make
            maps of them.
        progress: called with each mosaic once it is done with.

    Returns:
        A row a method, metric and size; `pictures` is the number of those that the model is sure of, `failed`
        tells of those that could not be read or run. Mosaics share pictures, so that intervals are a little narrow.

    Raises:
        UsageError: there are too few classes with such pictures.
        ModelError: the network does not run on a mosaic.
        ImageError: a map made elsewhere is missing.
    """
    sure, failed = sure_pictures(classifier, pictures, confidence, max_pixels)
    drawn = {size: draw_mosaics(sure, size, mosaics, seed) for size in sizes}
    if save:
        lines = [f"{each.name},{tile.class_idx}\n" for some in drawn.values() for each in some for tile in each.tiles]
        write_whole(save / "mosaics.csv", "".join(["name,class_idx\n", *lines]).encode())
    rows: list[Row] = []
    for size in sizes:
        height, width = (size * side for side in classifier.preprocessing.crop)
        players = methods(classifier.with_input_size((height, width)))
        scores: list[NDArray[np.float64]] = []
        for mosaic in drawn[size]:
            image = compose_mosaic(classifier, mosaic, max_pixels)
            if save:
                write_image(save / mosaic.name, image)
            scores.append(_score(image, mosaic, players))
            progress(mosaic)
        rows += [
            Row.of(player.name, f"{metric} {size}x{size}", np.array(scores)[:, index, part], seed=seed)
            for part, metric in enumerate(("share", "hit"))
            for index, player in enumerate(players)
        ]
    settings = {"sizes": sizes, "mosaics": mosaics, "confidence": confidence}
    return Evaluation("grid", classifier.name, seed, len(sure), settings, tuple(rows), failed)


def sure_pictures(
    classifier: Classifier, pictures: Sequence[Labeled], confidence: float, max_pixels: int = MAX_PIXELS
) -> tuple[list[Labeled], dict[str, str]]:
    """Find the pictures whose right class has at least that probability, and tell why others cannot be looked at."""
    sure: list[Labeled] = []
    failed: dict[str, str] = {}
    for labeled, result in _run(classifier, pictures, max_pixels):
        if isinstance(result, CamError):
            failed[str(labeled.picture.path)] = str(result)
        elif int(result.logits.argmax()) == labeled.class_idx and result.probabilities.max() >= confidence:
            sure.append(labeled)
    return sure, failed


def draw_mosaics(pictures: Sequence[Labeled], size: int, count: int, seed: int) -> list[Mosaic]:
    """Draw mosaics of different classes at random.

    Raises:
        UsageError: there are fewer classes than tiles.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> from cam.images.find import Picture
        >>> pictures = [Labeled(Picture(Path("a"), PurePosixPath("a")), class_idx) for class_idx in range(5)]
        >>> [len({tile.class_idx for tile in mosaic.tiles}) for mosaic in draw_mosaics(pictures, 2, 3, seed=0)]
        [4, 4, 4]
    """
    classes = sorted({labeled.class_idx for labeled in pictures})
    if len(classes) < size**2:
        found = f"The model is sure of pictures of {len(classes)} classes, and {size} x {size} tiles need {size**2}"
        raise UsageError(found, "Give more pictures, a smaller --confidence or a smaller --size")
    rng = np.random.default_rng((seed, size))
    drawn = []
    for number in range(count):
        chosen = rng.permutation(classes)[: size**2]
        choices = [[each for each in pictures if each.class_idx == class_idx] for class_idx in chosen]
        tiles = tuple(some[rng.integers(len(some))] for some in choices)
        drawn.append(Mosaic(f"mosaic-{size}x{size}-{number:03}.png", tiles, size))
    return drawn


def compose_mosaic(classifier: Classifier, mosaic: Mosaic, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Set the tiles side by side, each as its own crop that the model sees: (n * H, n * W, 3) uint8 RGB.

    Args:
        classifier: whose preprocessing cuts one tile.
        mosaic: from `draw_mosaics`.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: a picture cannot be read.
    """
    look = classifier.preprocessing
    tiles = []
    for tile in mosaic.tiles:
        image = read_picture(tile.picture, Limits(max_pixels)).image
        tiles.append(crop_resized(image, look.frame((image.shape[0], image.shape[1]), "crop"), look.interpolation))
    rows = [np.concatenate(tiles[i : i + mosaic.size], 1) for i in range(0, len(tiles), mosaic.size)]
    return np.concatenate(rows)


def _run(
    classifier: Classifier, pictures: Sequence[Labeled], max_pixels: int
) -> Iterator[tuple[Labeled, ForwardResult | CamError]]:
    """Run the network over pictures as the model was evaluated, batch after batch."""
    remaining = iter(pictures)
    while batch := list(islice(remaining, _BATCH)):
        images: list[NDArray[np.uint8]] = []
        read: list[Labeled] = []
        for labeled in batch:
            try:
                images.append(read_picture(labeled.picture, Limits(max_pixels)).image)
                read.append(labeled)
            except ImageError as error:
                yield labeled, error
        yield from zip(read, run_forward(classifier, images, classifier.preprocessing, "crop"), strict=True)


def _score(image: NDArray[np.uint8], mosaic: Mosaic, methods: Sequence[Method]) -> NDArray[np.float64]:
    """Share and hit of each method, averaged over the tiles: (methods, 2)."""
    asked = MapRequest(mosaic.name, image, tuple(tile.class_idx for tile in mosaic.tiles))
    height, width = (side // mosaic.size for side in image.shape[:2])
    corners = [(width * (i % mosaic.size), height * (i // mosaic.size)) for i in range(len(mosaic.tiles))]
    masks = [box_mask(np.array([[x, y, x + width, y + height]]), (image.shape[0], image.shape[1])) for x, y in corners]
    scores = [
        [(share_inside(heat, mask), peak_inside(heat, mask)) for heat, mask in zip(heats, masks, strict=True)]
        for heats in (method.heats(asked) for method in methods)
    ]
    averaged: NDArray[np.float64] = np.array(scores).mean(1)
    return averaged
