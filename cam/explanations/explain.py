"""The straight line: photograph -> input -> features and logits -> maps -> explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import sizes
from cam.errors import CamError, ModelError, UsageError
from cam.explanations.compute import ComputedMaps, build_explanations, compute_maps
from cam.explanations.explanation import Explanation
from cam.explanations.forward import as_model_error, run_forward
from cam.explanations.options import ExplainArguments, ExplainOptions, OneClass, Target, TopClasses
from cam.images.io import checked, read_image
from cam.maps.geometry import Size
from cam.tensors import device_and_dtype, own_stream, wait

Photo: TypeAlias = str | Path | NDArray[np.uint8]

P = ParamSpec("P")

T = TypeVar("T")


def explain(
    classifier: Classifier, photo: Photo, class_idx: int | None = None, **options: Unpack[ExplainArguments]
) -> Explanation:
    """Explain one picture's score for one class.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photo: a file, or (H, W, 3) uint8 RGB.
        class_idx: the class; None for the predicted one.
        **options: evidence, against, fit, resolution, tta and channels, as in `ExplainOptions`.

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
    return next(explain_all(classifier, [photo], class_idx, **options))


def explain_all(
    classifier: Classifier,
    photos: Iterable[Photo],
    class_idx: int | None = None,
    *,
    batch_size: int = 32,
    **options: Unpack[ExplainArguments],
) -> Iterator[Explanation]:
    """Explain pictures in batches, in order, with memory for one batch.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photos: files, or (H, W, 3) uint8 RGB.
        class_idx: the class to explain in all of them; None for the predicted one of each.
        batch_size: pictures in one forward pass.
        **options: as for `explain`.

    Raises:
        ImageError, UsageError, ModelError: as for `explain`, when the picture's turn comes.

    Example:
        >>> import cam
        >>> photos = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
        >>> [e.cam.shape for e in cam.explain_all(cam.load_classifier("digits"), photos)]
        [(18, 27), (27, 18)]
    """
    if not (class_idx is None or hasattr(class_idx, "__index__")):
        raise UsageError(f"{class_idx!r} is no class index", "Give its number, as in classifier.labels.index(label)")
    targets = (TopClasses(1),) if class_idx is None else (OneClass(class_idx),)
    asked = ExplainOptions(**options)
    if batch_size < 1:
        raise UsageError(f"A batch of {batch_size} pictures cannot be run", "Give 1 or more")
    remaining = iter(photos)
    while some := list(islice(remaining, batch_size)):
        images: list[NDArray[np.uint8]] = []
        bad: CamError | None = None
        for photo in some:
            try:
                images.append(read_image(photo) if isinstance(photo, (str, Path)) else checked(photo))
            except CamError as error:  # the pictures before it come first
                bad = error
                break
        for result in explain_images(classifier, images, [targets] * len(images), asked):
            if isinstance(result, CamError):
                raise result
            yield result[0]
        if bad is not None:
            raise bad


def explain_images(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    targets: Sequence[Sequence[Target]],
    options: ExplainOptions | None = None,
    photos: Sequence[Size] | None = None,
) -> Iterator[list[Explanation] | CamError]:
    """Explain a batch of pictures, all targets of a picture from the same passes.

    Args:
        classifier: from `load_classifier` or `wrap`.
        images: (H, W, 3) uint8 RGB, of any sizes; those of one input size share a pass.
        targets: the classes computed of each picture, in order.
        options: what is asked of every picture; the evidence of its classes by default.
        photos: (H, W) of the photographs that the images are smaller copies of; the images' own by default.

    Returns:
        For each picture, in order, one explanation a class, or what went wrong with it.

    Raises:
        UsageError: a class that the classifier does not have.

    Example:
        >>> from cam.classifiers.load import load_classifier
        >>> digits, image = load_classifier("digits", device="cpu"), np.zeros((72, 72, 3), np.uint8)
        >>> (found,) = explain_images(digits, [image], [[OneClass(3), OneClass(7)]], ExplainOptions("margin"))
        >>> [explanation.class_idx for explanation in found]
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
            result = (
                computed
                if isinstance(computed, ModelError)
                else _attempt(build_explanations, classifier, image, computed, options)
            )
        yield result


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
            for size in sizes(classifier.preprocessing, options.resolution, options.tta)
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
