"""Whose maps are measured: kinds of evidence, maps made elsewhere, and two baselines that do not look at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.errors import ImageError
from cam.explanations.compute import build_explanations, compute_maps
from cam.explanations.forward import ForwardResult, result_or_raise, run_forward
from cam.explanations.options import ExplainOptions, OneClass
from cam.tensors import device_and_dtype, wait

Heat = NDArray[np.float32]


@dataclass(frozen=True)
class MapRequest:
    """A picture and the classes whose heat is computed.

    Attributes:
        name: of the picture, relative, as in `cam.images.find.Picture`.
        image: (H, W, 3) uint8 RGB.
        class_idxs: the classes, all different.
    """

    name: str
    image: NDArray[np.uint8]
    class_idxs: tuple[int, ...]


@dataclass(frozen=True)
class Method:
    """Something that makes maps.

    Attributes:
        name: in the table.
        heats: the heat (H, W) float32 of every class request for of a picture, not a number where nothing was seen.
            Raises ImageError or ModelError where there is none.
    """

    name: str
    heats: Callable[[MapRequest], list[Heat]]


def evidence_of(classifier: Classifier, options: Sequence[ExplainOptions]) -> list[Method]:
    """Let kinds of evidence take part, all of them read off one pass over a picture.

    Args:
        classifier: from `load_classifier` or `wrap`.
        options: without resolution and test-time augmentation.

    Example:
        >>> from cam.classifiers.load import load_classifier
        >>> (method,) = evidence_of(load_classifier("digits", device="cpu"), [ExplainOptions("margin")])
        >>> request = MapRequest("black.png", np.zeros((72, 80, 3), np.uint8), (3, 7))
        >>> method.name, [heat.shape for heat in method.heats(request)]
        ('margin', [(72, 80), (72, 80)])
    """
    latest: dict[Fit | None, tuple[MapRequest, ForwardResult]] = {}

    def look(request: MapRequest, fit: Fit | None) -> ForwardResult:
        if fit not in latest or latest[fit][0] is not request:
            (seen,) = run_forward(classifier, [request.image], classifier.preprocessing, fit)
            latest[fit] = request, result_or_raise(seen)
        return latest[fit][1]

    def heats(options: ExplainOptions, request: MapRequest) -> list[Heat]:
        seen = look(request, options.fit)
        targets = [OneClass(class_idx) for class_idx in request.class_idxs]
        computed = compute_maps(classifier, targets, seen, [seen], options)
        wait(device_and_dtype(classifier.network)[0])
        return [each.heat() for each in build_explanations(classifier, request.image, computed, options)]

    return [Method(each.evidence, partial(heats, each)) for each in options]


def gaussian() -> Method:
    """Let a bell in the middle of the picture take part, its standard deviation a quarter of each side.

    Example:
        >>> (heat,) = gaussian().heats(MapRequest("a", np.zeros((3, 5, 3), np.uint8), (0,)))
        >>> float(heat.max()), [int(i) for i in np.unravel_index(heat.argmax(), heat.shape)]
        (1.0, [1, 2])
    """

    def heats(request: MapRequest) -> list[Heat]:
        y, x = (_bell(side) for side in request.image.shape[:2])
        return [np.outer(y, x).astype(np.float32)] * len(request.class_idxs)

    return Method("gaussian", heats)


def uniform(seed: int) -> Method:
    """Let chance take part: every pixel a random number from 0 to 1, decided by the seed, the name and the class.

    Example:
        >>> (heat,) = uniform(0).heats(MapRequest("a", np.zeros((300, 300, 3), np.uint8), (0,)))
        >>> round(float(heat.mean()), 1)
        0.5
    """

    def heats(request: MapRequest) -> list[Heat]:
        size = request.image.shape[:2]
        seeds = [(seed, crc32(request.name.encode("utf-8", "replace")), class_idx) for class_idx in request.class_idxs]
        return [np.random.default_rng(each).random(size, np.float32) for each in seeds]

    return Method("uniform", heats)


def made_elsewhere(folder: Path) -> Method:
    """Let maps that another tool wrote take part.

    The map of picture `a/dog.jpg` is sought as `a/dog.jpg.npy`, `a/dog.npy`, and, for class 3, as `a/dog.jpg.3.npy`
    or `a/dog.jpg.3-label.npy`, as `cam explain --save heat` writes it; the last come first.

    Args:
        folder: of `.npy` files, each (H, W) of its picture, any number type.

    Example:
        >>> made_elsewhere(Path("results/gradcam")).name
        'gradcam'
    """

    def heats(request: MapRequest) -> list[Heat]:
        return [_read_map(folder, request, class_idx) for class_idx in request.class_idxs]

    return Method(folder.resolve().name, heats)


def _bell(side: int) -> NDArray[np.float64]:
    places = np.arange(side) - (side - 1) / 2
    bell: NDArray[np.float64] = np.exp(-0.5 * (places / (side / 4)) ** 2)
    return bell


def _read_map(folder: Path, request: MapRequest, class_idx: int) -> Heat:
    path = _find_map(folder, request.name, class_idx)
    try:
        heat = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"The map {str(path)!r} cannot be read: {error}", "Write it with numpy.save") from error
    if heat.shape != request.image.shape[:2] or heat.dtype.kind not in "fiub":
        found = f"The map {str(path)!r} is {heat.dtype} {heat.shape} for a picture of {request.image.shape[:2]}"
        raise ImageError(found, "Give one number a pixel of the upright picture")
    with np.errstate(over="ignore"):
        heat = np.asarray(heat, np.float32)
    if np.isinf(heat).any() or np.isnan(heat).all():
        found = f"The map {str(path)!r} holds infinite numbers or none at all"
        raise ImageError(found, "Write finite ones, and NaN only where the picture was not seen")
    return heat


def _find_map(folder: Path, name: str, class_idx: int) -> Path:
    place = folder / name
    labeled = (
        sorted(path for path in place.parent.iterdir() if path.name.startswith(f"{place.name}.{class_idx}-"))
        if place.parent.is_dir()
        else []
    )
    candidates = [
        place.with_name(f"{place.name}.{class_idx}.npy"),
        *(path for path in labeled if path.suffix == ".npy"),
        place.with_name(f"{place.name}.npy"),
        place.with_suffix(".npy"),
    ]
    for path in candidates:
        if path.is_file():
            return path
    raise ImageError(f"There is no map of {name!r} in {str(folder)!r}", f"Write one as {candidates[2].name!r}")
