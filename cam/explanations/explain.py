"""The straight line: photograph -> input -> features and logits -> maps -> explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit, multi_scale
from cam.errors import CamError, ModelError, UsageError
from cam.explanations.compute import ComputedMaps, all_classes_of, build_explanations, compute_maps
from cam.explanations.explanation import Explanation
from cam.explanations.forward import as_model_error, run_forward
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses
from cam.images.io import check_image, read_image
from cam.maps.activation import AllClasses
from cam.maps.evidence import Evidence
from cam.maps.geometry import Size
from cam.tensors import device_and_dtype, own_stream, wait

Photo: TypeAlias = str | Path | NDArray[np.uint8]

P = ParamSpec("P")

T = TypeVar("T")


class ImageResult(NamedTuple):
    """What was computed of one image: an explanation for each target class, and what all other maps come from."""

    explanations: list[Explanation]
    all_classes: AllClasses


def explain(
    classifier: Classifier,
    photo: Photo,
    class_idx: int | None = None,
    *,
    evidence: Evidence = "logit",
    against: int | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Explanation:
    """Explain one image's score for one class.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photo: a file, or (H, W, 3) uint8 RGB.
        class_idx: the class; None for the predicted one.
        evidence: "logit", "contrast", "margin" or "posterior", as in `ExplainOptions`.
        against: the other class of a contrast; None for the runner-up.
        fit: "crop" or "whole"; None for the model's own.
        resolution: shorter side of the input that the map comes from, pixels; None for the model's own.
        tta: average maps over mirrored and larger inputs (test-time augmentation).
        channels: number of channels to return, those with the largest shares of the logit first.

    Raises:
        ImageError: the file cannot be read as a picture.
        UsageError: there is no such class, or no such options.
        ModelError: the network does not run on the picture, its scores are not finite, or a class is set against
            itself.

    Example:
        >>> import cam
        >>> explanation = cam.explain(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
        >>> round(float(explanation.cam.mean() + explanation.bias - explanation.logit), 4) == 0
        True
    """
    options = ExplainOptions(evidence, against, fit, resolution, tta, channels)
    return next(_explain_each(classifier, [photo], class_idx, options, batch_size=1))


def explain_all(
    classifier: Classifier,
    photos: Iterable[Photo],
    class_idx: int | None = None,
    *,
    batch_size: int = 32,
    evidence: Evidence = "logit",
    against: int | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Iterator[Explanation]:
    """Explain pictures in batches, in order, with memory for one batch.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photos: files, or (H, W, 3) uint8 RGB.
        class_idx: the class to explain in all of them; None for the predicted one of each.
        batch_size: images in one forward pass.
        evidence: as for `explain`, and so are the others.
        against: the other class of a contrast.
        fit: "crop" or "whole".
        resolution: of the input that maps come from.
        tta: average maps over several inputs.
        channels: number of channels to return.

    Raises:
        ImageError, UsageError, ModelError: as for `explain`, when the picture's turn comes.

    Example:
        >>> import cam
        >>> photos = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
        >>> [e.cam.shape for e in cam.explain_all(cam.load_classifier("digits"), photos)]
        [(18, 27), (27, 18)]
    """
    options = ExplainOptions(evidence, against, fit, resolution, tta, channels)
    yield from _explain_each(classifier, photos, class_idx, options, batch_size)


def _explain_each(
    classifier: Classifier, photos: Iterable[Photo], class_idx: int | None, options: ExplainOptions, batch_size: int
) -> Iterator[Explanation]:
    if not (class_idx is None or hasattr(class_idx, "__index__")):
        raise UsageError(f"{class_idx!r} is no class index", "Give its number, as in classifier.labels.index(label)")
    targets = (TopClasses(1),) if class_idx is None else (OneClass(class_idx),)
    if batch_size < 1:
        raise UsageError(f"A batch of {batch_size} pictures cannot be run", "Give 1 or more")
    remaining = iter(photos)
    while some := list(islice(remaining, batch_size)):
        images: list[NDArray[np.uint8]] = []
        bad: CamError | None = None
        for photo in some:
            try:
                images.append(read_image(photo) if isinstance(photo, (str, Path)) else check_image(photo))
            except CamError as error:  # the pictures before it come first
                bad = error
                break
        for result in explain_images(classifier, images, [targets] * len(images), options):
            if isinstance(result, CamError):
                raise result
            yield result.explanations[0]
        if bad is not None:
            raise bad


def explain_images(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    targets: Sequence[Sequence[Target]],
    options: ExplainOptions | None = None,
    photos: Sequence[Size] | None = None,
) -> Iterator[ImageResult | CamError]:
    """Explain a batch of pictures, all targets of a picture from the same passes.

    Args:
        classifier: from `load_classifier` or `wrap`.
        images: (H, W, 3) uint8 RGB, of any sizes; those of one input size share a pass.
        targets: the classes computed of each picture, in order.
        options: what is asked of every picture; the evidence of its classes by default.
        photos: (H, W) of the photographs that the images are smaller copies of; the images' own by default.

    Returns:
        For each image, in order, its result, or what went wrong with it.

    Raises:
        UsageError: a class that the classifier does not have.

    Example:
        >>> from cam.classifiers.load import load_classifier
        >>> digits, image = load_classifier("digits", device="cpu"), np.zeros((72, 72, 3), np.uint8)
        >>> (found,) = explain_images(digits, [image], [[OneClass(3), OneClass(7)]], ExplainOptions("margin"))
        >>> [explanation.class_idx for explanation in found.explanations]
        [3, 7]
    """
    options, device = options or ExplainOptions(), device_and_dtype(classifier.network)[0]

    def apart() -> AbstractContextManager[None]:  # what has no engine is one network for all threads
        return own_stream(device) if classifier.engine else nullcontext()

    with apart():
        found = _wanted(classifier, images, targets, options, photos)
        wait(device)  # once for all of them
    for image, computed in zip(images, found, strict=True):
        with apart():
            if isinstance(computed, ModelError):
                yield computed
            else:
                yield _attempt(_result, classifier, image, computed, options)


def _result(
    classifier: Classifier, image: NDArray[np.uint8], computed: ComputedMaps, options: ExplainOptions
) -> ImageResult:
    return ImageResult(build_explanations(classifier, image, computed, options), all_classes_of(computed))


def _wanted(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    targets: Sequence[Sequence[Target]],
    options: ExplainOptions,
    photos: Sequence[Size] | None,
) -> list[ComputedMaps | ModelError]:
    """Run the network, and ask for the maps of each picture."""
    run = partial(run_forward, classifier, images, fit=options.fit, photos=photos)
    own = run(classifier.preprocessing)
    views = [own]
    if options.resolution is not None or options.tta:
        views = [
            own if size == classifier.preprocessing and not mirrored else run(size, mirrored=mirrored)
            for size in multi_scale(classifier.preprocessing, options.resolution, options.tta)
            for mirrored in ((False, True) if options.tta else (False,))
        ]
    return [
        _attempt(compute_maps, classifier, some, first, seen, options)
        for some, first, *seen in zip(targets, own, *views, strict=True)
    ]


def _attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | ModelError:
    """Do something for one picture; what goes wrong with it stays with it."""
    try:
        return work(*args, **kwargs)
    except (ModelError, MemoryError, torch.OutOfMemoryError) as error:
        return as_model_error(error)
