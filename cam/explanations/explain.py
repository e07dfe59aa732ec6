"""The straight line: photograph -> input -> features and logits -> maps -> explanation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import wrap
from cam.classifiers.preprocessing import Fit, multi_scale
from cam.errors import CamError, ModelError, UsageError
from cam.explanations.compute import ComputedMaps, build_explanations, compute_maps
from cam.explanations.explanation import Explanation, ExplanationList
from cam.explanations.forward import FAILURES, Results, as_model_error, result_or_raise, run_forward, run_inputs
from cam.explanations.options import ClassTarget, ExplainOptions, Target, index_of, is_top, parse_targets, resolve
from cam.images.io import ImageLike, to_image
from cam.maps.activation import AllClasses
from cam.maps.evidence import Evidence
from cam.maps.geometry import Frame, Size
from cam.tensors import device_and_dtype, own_stream, synchronize

Photo: TypeAlias = ImageLike | Tensor
GRAY = 128  # of the plain image on which a prepared input is drawn


class ImageResult(NamedTuple):
    """The explanations of one image, one for each target class, and what the maps of all classes come from."""

    explanations: list[Explanation]
    all_classes: AllClasses


@overload
def explain(
    classifier: Classifier | nn.Module,
    photo: Photo,
    target: int | None = ...,
    *,
    evidence: Evidence = ...,
    against: int | str | None = ...,
    fit: Fit | None = ...,
    resolution: int | None = ...,
    tta: bool = ...,
    channels: int = ...,
) -> Explanation: ...
@overload
def explain(
    classifier: Classifier | nn.Module,
    photo: Photo,
    target: ClassTarget | Sequence[ClassTarget] | None,
    *,
    evidence: Evidence = ...,
    against: int | str | None = ...,
    fit: Fit | None = ...,
    resolution: int | None = ...,
    tta: bool = ...,
    channels: int = ...,
) -> Any: ...
def explain(
    classifier: Classifier | nn.Module,
    photo: Photo,
    target: ClassTarget | Sequence[ClassTarget] | None = None,
    *,
    evidence: Evidence = "logit",
    against: int | str | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Any:
    """Explain one image's scores: for one class, or for several of one forward pass.

    Args:
        classifier: from `load_classifier` or `wrap`; a module is wrapped at each call, which is slow.
        photo: a file, its content, a Pillow image, (H, W, 3) or gray (H, W), uint8 or float in [0, 1]. A float tensor
            (channels, H, W), or a batch of them, is a prepared input: its explanation is for the input, not for a
            photograph, and a batch gives a list.
        target: index or label of the class; None for the predicted class; "top5" for the five most likely; "truth" for
            the folder that the file is in; or a list of these. "top5" and a list give a list.
        evidence: "logit", "contrast", "margin" or "posterior", as in `ExplainOptions`.
        against: index or label of the other class of a contrast; None for the runner-up.
        fit: "crop", "whole" or "stretch"; None for the model's own.
        resolution: shorter side, in pixels, of the input that the map comes from; None for the model's own.
        tta: average maps over mirrored and larger inputs (test-time augmentation).
        channels: number of channels to return, those with the largest shares of the logit first.

    Returns:
        The explanation: `cam.mean() + bias` is its logit. Or a list of them.

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
    classifier = as_classifier(classifier)
    options = make_options(classifier, evidence, against, fit, resolution, tta, channels)
    if not isinstance(photo, Tensor) or photo.dtype == torch.uint8:
        return next(_explain_all(classifier, [photo], target, 1, options))
    if fit is not None or resolution is not None or tta:
        problem = "fit, resolution and tta are for photographs, and a float tensor is a prepared input"
        raise UsageError(problem, "Leave them out, or give the photograph")
    inputs = photo[None] if photo.ndim == 3 else photo
    targets = parse_targets(target, classifier.labels)
    results = explain_inputs(classifier, inputs, [targets] * len(inputs), options)
    explained = [select(target, targets, *_parts(result)) for result in results]
    return explained[0] if photo.ndim == 3 else ExplanationList(explained)


def explain_all(
    classifier: Classifier | nn.Module,
    photos: Iterable[Photo],
    target: ClassTarget | Sequence[ClassTarget] | None = None,
    *,
    batch_size: int = 32,
    evidence: Evidence = "logit",
    against: int | str | None = None,
    fit: Fit | None = None,
    resolution: int | None = None,
    tta: bool = False,
    channels: int = 0,
) -> Iterator[Any]:
    """Explain images, `batch_size` in one forward pass, with memory for one batch; yields their explanations in order.

    `photos` are what `explain` takes, except prepared tensors. `target` is the class to explain in all of them, None
    for the predicted class of each; "top5" and a list give a list for each image. The other arguments and the errors,
    raised when the iterator comes to an image, are those of `explain`.

    Example:
        >>> import cam
        >>> photos = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
        >>> [e.cam.shape for e in cam.explain_all(cam.load_classifier("digits"), photos)]
        [(18, 27), (27, 18)]
    """
    classifier = as_classifier(classifier)
    if isinstance(photos, (str, Path)):
        raise UsageError(f"photos must be a list of images, got {str(photos)!r}", "Pass [photo], or use cam.explain")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}", "Pass 1 or more")
    options = make_options(classifier, evidence, against, fit, resolution, tta, channels)
    return _explain_all(classifier, photos, target, batch_size, options)


def _explain_all(
    classifier: Classifier, photos: Iterable[Photo], target: Any, batch_size: int, options: ExplainOptions
) -> Iterator[Any]:
    taken = classifier.preprocessing.input_shape[0]
    channels = 3 if taken == 1 else taken  # a gray input is made of RGB
    remaining = iter(photos)
    while batch := list(islice(remaining, batch_size)):
        images: list[NDArray[np.uint8]] = []
        targets: list[list[Target]] = []
        unreadable: CamError | None = None
        try:
            for photo in batch:
                image = to_image(_to_array(photo) if isinstance(photo, Tensor) else photo, channels)
                classifier.preprocessing.check_channels(image.shape[2])
                targets.append(parse_targets(target, classifier.labels, photo))
                images.append(image)
        except CamError as error:  # raised after the explanations of the images before it
            unreadable = error
        results = explain_images(classifier, images, targets, options)
        for image_targets, result in zip(targets[: len(images)], results, strict=True):
            yield select(target, image_targets, *_parts(result))
        if unreadable is not None:
            raise unreadable


def _to_array(photo: Tensor) -> NDArray[Any]:
    """A tensor (channels, H, W) as an array (H, W, channels)."""
    return np.asarray((photo.permute(1, 2, 0) if photo.ndim == 3 else photo).cpu().numpy())


def _parts(result: ImageResult | ModelError) -> tuple[list[Explanation], Tensor]:
    explanations, all_classes = result_or_raise(result)
    return explanations, all_classes.logits


def select(target: Any, parsed: Sequence[Target], explanations: Sequence[Explanation], logits: Tensor) -> Any:
    """The explanation of one class; of "top5" and of a list the list of all that they name, in their order."""
    if not is_top(target) and (target is None or np.ndim(target) == 0):
        return explanations[0]
    by_class = {explanation.class_idx: explanation for explanation in explanations}
    named = (class_idx for one in parsed for class_idx in resolve([one], logits))
    return ExplanationList(by_class[class_idx] for class_idx in named if class_idx in by_class)


def explain_batch(
    classifier: Classifier,
    inputs: Tensor,
    targets: Sequence[int | str] | Tensor | None = None,
    *,
    evidence: Evidence = "logit",
    against: int | str | None = None,
    channels: int = 0,
) -> ExplanationList:
    """Explain a batch of prepared inputs, such as a data loader's, at the speed of the forward pass.

    Args:
        classifier: from `wrap` or `load_classifier`; it runs on its own device.
        inputs: (N, channels, H, W) float, normalized.
        targets: index or label of a class for each input; None for the predicted class of each.
        evidence: "logit", "contrast", "margin" or "posterior".
        against: index or label of the other class of a contrast; None for the runner-up.
        channels: number of channels to return.

    Returns:
        An explanation for each input, on a plain gray image; `overlay(image=...)` takes the photograph.

    Raises:
        UsageError: an argument is wrong.
        ModelError: the network does not run on the inputs.

    Example:
        >>> import cam
        >>> explanations = explain_batch(cam.load_classifier("digits"), torch.zeros(2, 3, 72, 72), targets=[3, 9])
        >>> [explanation.label for explanation in explanations]
        ['3', '9']
    """
    classifier = as_classifier(classifier)
    options = make_options(classifier, evidence, against, None, None, False, channels)
    classes = [None] * len(inputs) if targets is None else list(targets)
    if len(classes) != len(inputs):
        raise UsageError(
            f"targets must be {len(inputs)}, one for each input, got {len(classes)}", "Pass y of the batch"
        )
    parsed = [parse_targets(target, classifier.labels) for target in classes]
    results = explain_inputs(classifier, inputs, parsed, options)
    return ExplanationList(result_or_raise(result).explanations[0] for result in results)


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
    # Threads with an engine do not wait for each other; without one they share the network, and its stream.
    with own_stream(device) if classifier.engine else nullcontext():
        native = run(preprocessing)
        views = []
        for scaled in multi_scale(preprocessing, options.resolution, options.tta):
            views.append(native if scaled == preprocessing else run(scaled))
            if options.tta:
                views.append(run(scaled, mirrored=True))
        computed = _compute(classifier, targets, native, views, options)
    yield from _build(classifier, images, computed, options)


def explain_inputs(
    classifier: Classifier, inputs: Tensor, targets: Sequence[Sequence[Target]], options: ExplainOptions
) -> Iterator[ImageResult | ModelError]:
    """Explain prepared inputs (N, channels, H, W), each with its targets; yields their results in order."""
    channels = classifier.preprocessing.input_shape[0]
    if inputs.ndim != 4 or inputs.shape[1] != channels or not inputs.is_floating_point():
        problem = f"Prepared inputs must be (N, {channels}, H, W) floats, got {tuple(inputs.shape)} {inputs.dtype}"
        raise UsageError(problem, "Give what the network takes, or a photograph")
    size = inputs.shape[2], inputs.shape[3]
    native = run_inputs(classifier, inputs.detach(), [Frame(size, size, (0, 0), size)] * len(inputs))
    computed = _compute(classifier, targets, native, [native], options)
    yield from _build(classifier, [np.full((*size, 3), GRAY, np.uint8)] * len(inputs), computed, options)


def _compute(
    classifier: Classifier,
    targets: Sequence[Sequence[Target]],
    native: Results,
    views: Sequence[Results],
    options: ExplainOptions,
) -> list[ComputedMaps | ModelError]:
    """Compute the maps of a batch, and wait for the device once."""
    computed = compute_maps(classifier, targets, native, views, options)
    synchronize(device_and_dtype(classifier.network)[0])
    return computed


def _build(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    computed: Sequence[ComputedMaps | ModelError],
    options: ExplainOptions,
) -> Iterator[ImageResult | ModelError]:
    for image, maps_or_error in zip(images, computed, strict=True):
        try:
            maps = result_or_raise(maps_or_error)
            yield ImageResult(build_explanations(classifier, image, maps, options), maps.all_classes())
        except FAILURES as error:
            yield as_model_error(error)


def as_classifier(classifier: Classifier | nn.Module) -> Classifier:
    """Return a classifier unchanged; wrap a module, with a warning."""
    if isinstance(classifier, nn.Module):
        text = "A module is wrapped at each call, which takes seconds. Wrap it once: classifier = cam.wrap(module)"
        warnings.warn(text, stacklevel=3)
        return wrap(classifier)
    if not hasattr(classifier, "proof"):
        problem = f"classifier must be a cam.Classifier, got {type(classifier).__name__}"
        raise UsageError(problem, "Pass what cam.wrap(network) or cam.load_classifier(name) returns")
    return classifier


def make_options(
    classifier: Classifier,
    evidence: Evidence,
    against: int | str | None,
    fit: Fit | None,
    resolution: int | None,
    tta: bool,
    channels: int,
) -> ExplainOptions:
    """Make the options of the arguments of `explain`, and check that the classifier has what they ask for."""
    other = None if against is None else index_of(against, classifier.labels, "against")
    options = ExplainOptions(evidence, other, fit, resolution, tta, channels)
    options.check(classifier)
    return options
