"""The straight line: photograph -> input -> features and logits -> maps -> explanation."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.labels import find_class
from cam.classifiers.preprocessing import Fit, multi_scale
from cam.errors import CamError, ModelError, UsageError
from cam.explanations.compute import ComputedMaps, build_explanations, compute_maps
from cam.explanations.explanation import Explanation
from cam.explanations.forward import as_model_error, result_or_raise, run_forward
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses
from cam.images.io import check_image, read_image
from cam.maps.activation import AllClasses
from cam.maps.evidence import Evidence
from cam.maps.geometry import Size
from cam.tensors import device_and_dtype, own_stream, synchronize

Photo: TypeAlias = str | Path | NDArray[np.uint8]
_FAILURES = ModelError, MemoryError, torch.OutOfMemoryError  # these cost their image only


class ImageResult(NamedTuple):
    """The explanations of one image, one for each target class, and what the maps of all classes come from."""

    explanations: list[Explanation]
    all_classes: AllClasses


def explain(
    classifier: Classifier,
    photo: Photo,
    class_idx: int | str | None = None,
    *,
    evidence: Evidence = "logit",
    against: int | str | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Explanation:
    """Explain one image's score for one class.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photo: a file, or (H, W, 3) uint8 RGB.
        class_idx: index or label of the class; None for the predicted class.
        evidence: "logit", "contrast", "margin" or "posterior", as in `ExplainOptions`.
        against: index or label of the other class of a contrast; None for the runner-up.
        fit: "crop" or "whole"; None for the model's own.
        resolution: shorter side, in pixels, of the input that the map comes from; None for the model's own.
        tta: average maps over mirrored and larger inputs (test-time augmentation).
        channels: number of channels to return, those with the largest shares of the logit first.

    Returns:
        The explanation: `cam.mean() + bias` is its logit.

    Raises:
        ImageError: the file cannot be read as an image.
        UsageError: an argument is wrong, or the classifier has no such class.
        ModelError: the network does not run on the image, its scores are not finite, or a class would be contrasted
            with itself.

    Example:
        >>> import cam
        >>> explanation = cam.explain(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
        >>> round(float(explanation.cam.mean() + explanation.bias - explanation.logit), 4) == 0
        True
    """
    run = partial(explain_all, classifier, [photo], class_idx, batch_size=1, evidence=evidence, against=against)
    return next(run(fit=fit, resolution=resolution, tta=tta, channels=channels))


def explain_all(
    classifier: Classifier,
    photos: Iterable[Photo],
    class_idx: int | str | None = None,
    *,
    batch_size: int = 32,
    evidence: Evidence = "logit",
    against: int | str | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Iterator[Explanation]:
    """Explain images, `batch_size` in one forward pass, with memory for one batch; yields their explanations in order.

    `photos` are files or (H, W, 3) uint8 RGB. `class_idx` is the class to explain in all of them, None for the
    predicted class of each. The other arguments and the errors, raised when the iterator comes to an image, are those
    of `explain`.

    Example:
        >>> import cam
        >>> photos = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
        >>> [e.cam.shape for e in cam.explain_all(cam.load_classifier("digits"), photos)]
        [(18, 27), (27, 18)]
    """
    if not hasattr(classifier, "proof"):
        problem = f"classifier must be a cam.Classifier, got {type(classifier).__name__}"
        raise UsageError(problem, "Pass what cam.wrap(network) or cam.load_classifier(name) returns")
    if isinstance(photos, (str, Path)):
        raise UsageError(f"photos must be a list of images, got {str(photos)!r}", "Pass [photo], or use cam.explain")
    against, class_idx = (_index_of(classifier, *item) for item in (("against", against), ("class_idx", class_idx)))
    options = ExplainOptions(evidence, against, fit, resolution, tta, channels)
    options.check(classifier)
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}", "Pass 1 or more")
    targets = [TopClasses(1) if class_idx is None else OneClass(class_idx)]
    taken = classifier.preprocessing.input_shape[0]
    channels = 3 if taken == 1 else taken  # a gray input is made of RGB
    remaining = iter(photos)
    while batch := list(islice(remaining, batch_size)):
        images: list[NDArray[np.uint8]] = []
        unreadable: CamError | None = None
        try:
            for photo in batch:
                image = read_image(photo) if isinstance(photo, (str, Path)) else check_image(photo, channels)
                classifier.preprocessing.check_channels(image.shape[2])
                images.append(image)
        except CamError as error:  # raised after the explanations of the images before it
            unreadable = error
        for result in explain_images(classifier, images, [targets] * len(images), options):
            yield result_or_raise(result).explanations[0]
        if unreadable is not None:
            raise unreadable


def _index_of(classifier: Classifier, name: str, value: Any) -> int | None:
    if value is None or isinstance(value, str):
        return None if value is None else find_class(classifier.labels, value, f"{name} ")
    try:
        return operator.index(value)
    except TypeError:
        problem = f"{name} must be a class index or a label, got {value!r}"
        raise UsageError(problem, "Pass one of classifier.labels, or its index") from None


def explain_images(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    targets: Sequence[Sequence[Target]],
    options: ExplainOptions | None = None,
    photos: Sequence[Size] | None = None,
) -> Iterator[ImageResult | ModelError]:
    """Explain a batch of images (H, W, 3) uint8 RGB, with all targets of an image from the same forward passes.

    `photos` are the sizes of the photographs if the images are smaller copies of them. Yields the result of each image,
    in order, or the error that it caused.
    """
    options, preprocessing = options or ExplainOptions(), classifier.preprocessing
    device, _ = device_and_dtype(classifier.network)
    run = partial(run_forward, classifier, images, fit=options.fit, photos=photos)
    computed: list[ComputedMaps | ModelError] = []
    # Threads with an engine do not wait for each other; without one they share the network, and its stream.
    with own_stream(device) if classifier.engine else nullcontext():
        native = run(preprocessing)
        views = []
        for scaled in multi_scale(preprocessing, options.resolution, options.tta):
            views.append(native if scaled == preprocessing else run(scaled))
            if options.tta:
                views.append(run(scaled, mirrored=True))
        for image_targets, *results in zip(targets, native, *views, strict=True):
            try:
                native_result, *view_results = [result_or_raise(result) for result in results]
                computed.append(compute_maps(classifier, image_targets, native_result, view_results, options))
            except _FAILURES as error:
                computed.append(as_model_error(error))
        synchronize(device)  # once for the whole batch
    for image, maps_or_error in zip(images, computed, strict=True):
        try:
            maps = result_or_raise(maps_or_error)
            yield ImageResult(build_explanations(classifier, image, maps, options), maps.all_classes())
        except _FAILURES as error:
            yield as_model_error(error)
