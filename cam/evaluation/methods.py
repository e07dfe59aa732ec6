"""The methods that benchmarks compare: kinds of evidence, maps from files, and two baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from glob import escape
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.errors import ImageError, UsageError
from cam.explanations.compute import build_explanations, compute_maps
from cam.explanations.forward import ForwardResult, result_or_raise, run_forward
from cam.explanations.options import ExplainOptions, OneClass
from cam.heads.general import GeneralHead
from cam.heads.general import Method as MapMethod
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.images.read import Limits, read_picture
from cam.images.samples import AS_STORED, ReadOptions
from cam.maps.evidence import Evidence
from cam.tensors import device_and_dtype, synchronize

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
Heat: TypeAlias = NDArray[np.float32]  # (H, W), NaN where nothing was seen


@dataclass(frozen=True, eq=False)
class MapRequest:
    """An image and the classes to compute heat for."""

    name: str  # relative, as in `cam.images.find.Picture`
    image: Image
    class_idxs: tuple[int, ...]


@dataclass(frozen=True)
class Method:
    """Something that computes maps, by its name in the table."""

    name: str
    heats: Callable[[MapRequest], dict[int, Heat]]  # by class; raises ImageError or ModelError


Load: TypeAlias = Callable[[Picture], Image]
"""Reads an image that is measured."""


def load_image(picture: Picture, max_pixels: int = MAX_PIXELS, options: ReadOptions = AS_STORED) -> Image:
    """Read an image to measure."""
    return read_picture(picture, Limits(max_pixels), options=options).image


def forward_image(classifier: Classifier, image: Image, fit: Fit | None = None) -> ForwardResult:
    """Run the network on one image; the class to measure is that of the largest logit."""
    (result,) = run_forward(classifier, [image], classifier.preprocessing, fit)
    return result_or_raise(result)


def evidence_methods(
    classifier: Classifier, kinds: Sequence[Evidence], *, fit: Fit | None = None, against: int | None = None
) -> list[Method]:
    """Make a method of each kind of evidence, contrast with `against` or the runner-up; all share one forward pass."""

    @lru_cache(maxsize=1)
    def run(request: MapRequest) -> ForwardResult:
        return forward_image(classifier, request.image, fit)

    def heats(options: ExplainOptions, request: MapRequest) -> dict[int, Heat]:
        result = run(request)
        targets = [OneClass(class_idx) for class_idx in request.class_idxs]
        maps = result_or_raise(compute_maps(classifier, [targets], [result], [[result]], options)[0])
        synchronize(device_and_dtype(classifier.network)[0])
        explanations = build_explanations(classifier, request.image, maps, options)
        return {explanation.class_idx: explanation.heat() for explanation in explanations}

    all_options = [ExplainOptions(kind, against if kind == "contrast" else None, fit) for kind in kinds]
    for options in all_options:
        options.check(classifier)
    return [Method(options.evidence, partial(heats, options)) for options in all_options]


def default_evidence(classifier: Classifier) -> tuple[Evidence, ...]:
    """Kinds of evidence to compare unless the user names some: those that its head and its scores have."""
    if isinstance(classifier.head, GeneralHead):
        return ("logit",)
    kinds: dict[Evidence, bool] = {
        "logit": True,
        "margin": len(classifier.labels) > 1,
        "posterior": classifier.activation != "none",
    }
    return tuple(kind for kind, has in kinds.items() if has)


def map_methods(classifier: Classifier, names: Sequence[MapMethod], *, fit: Fit | None = None) -> list[Method]:
    """Make a method of each way to compute the maps of the same features, named by it; see `load_classifier`."""
    variants = [classifier.with_method(name) for name in names]
    methods = [evidence_methods(variant, ["logit"], fit=fit)[0] for variant in variants]
    return [replace(method, name=name) for name, method in zip(names, methods, strict=True)]


def baselines(seed: int) -> list[Method]:
    """Make the two baselines that ignore the image: a Gaussian in the center, and uniform noise in [0, 1).

    The standard deviation of the Gaussian is a quarter of each side. Seed, image name and class determine the noise.
    """

    def gaussian(request: MapRequest) -> dict[int, Heat]:
        y, x = (np.arange(side) / side + 0.5 / side - 0.5 for side in request.image.shape[:2])  # from -1/2 to 1/2
        bell = np.exp(-8 * (y[:, None] ** 2 + x**2))
        return dict.fromkeys(request.class_idxs, bell.astype(np.float32))

    def uniform(request: MapRequest) -> dict[int, Heat]:
        seeds = seed, crc32(request.name.encode("utf-8", "replace"))
        size = request.image.shape[:2]
        return {i: np.random.default_rng((*seeds, i)).random(size, np.float32) for i in request.class_idxs}

    return [Method("gaussian", gaussian), Method("uniform", uniform)]


def saved_maps(folder: Path) -> Method:
    """Make a method of maps that another tool wrote: `.npy` files of (H, W) numbers, named after their images.

    The map of class 3 in `a/dog.jpg` is `a/dog.jpg.3.npy`, `a/dog.jpg.3-LABEL.npy` (as `cam explain --save heat`
    writes it), `a/dog.jpg.npy` or `a/dog.npy`; the first that exists is read. UsageError if the folder has none.
    """
    if next(folder.rglob("*.npy"), None) is None:
        remedy = "Write the map of a/dog.jpg, (H, W) numbers, to a/dog.npy in it"
        raise UsageError(f"--maps {folder} has no .npy file", remedy)

    def heats(request: MapRequest) -> dict[int, Heat]:
        return {class_idx: _read_map(folder, request, class_idx) for class_idx in request.class_idxs}

    return Method(folder.resolve().name, heats)


def _read_map(folder: Path, request: MapRequest, class_idx: int) -> Heat:
    path = folder / request.name
    candidates = [
        path.with_name(f"{path.name}.{class_idx}.npy"),
        *sorted(path.parent.glob(f"{escape(path.name)}.{class_idx}-*.npy")),
        path.with_name(f"{path.name}.npy"),
        path.with_suffix(".npy"),
    ]
    file = next((candidate for candidate in candidates if candidate.is_file()), candidates[-2])
    try:
        with file.open("rb") as opened:
            heat = np.lib.format.read_array(opened, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(f"The map {str(file)!r} cannot be read: {error}", "Write it with numpy.save") from error
    if heat.shape != request.image.shape[:2] or heat.dtype.kind not in "fiub":
        problem = f"The map {str(file)!r} is {heat.dtype} {heat.shape} for an image of {request.image.shape[:2]}"
        raise ImageError(problem, "Write one number for each pixel of the upright image")
    with np.errstate(over="ignore"):
        heat = np.asarray(heat, np.float32)
    if np.isinf(heat).any() or np.isnan(heat).all():
        problem = f"The map {str(file)!r} has infinite values, or only NaN"
        raise ImageError(problem, "Write finite numbers, and NaN only where the image was not seen")
    return heat
