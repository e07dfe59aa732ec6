"""Images through the network, in batches: logits, features, and what the maps are computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit, Preprocessing
from cam.errors import CamError, ModelError, OutOfMemoryError
from cam.heads.criteria import tolerance_of
from cam.heads.general import ClassMaps, GeneralHead
from cam.heads.head import Head
from cam.heads.prove import MAX_MISSED
from cam.maps.activation import class_activation_maps
from cam.maps.geometry import Frame, Grid, Size
from cam.tensors import device_and_dtype, to_device

_BATCH_PIXELS = 2**24  # pixels of inputs in one forward pass: 334 of 224 x 224, and fewer of larger ones
Value = TypeVar("Value")
Results: TypeAlias = "list[ForwardResult | ModelError]"  # one for each image
FAILURES = ModelError, MemoryError, torch.OutOfMemoryError  # these cost their image only


@dataclass(frozen=True)
class ForwardResult:
    """The network's result for one image; the features and the head are on its device, the rest is on the CPU."""

    logits: Tensor  # (C,) float32
    probabilities: Tensor  # (C,) float32; NaN without an activation
    features: Tensor  # (K, h, w), in the network's dtype; as the network has them for a `GeneralHead`
    head: Head | GeneralHead  # two classes where the network has one logit
    bias: Tensor  # (C,) float32; NaN for a `GeneralHead`, whose base depends on the image
    scale: float  # factor by which a normalization layer scaled this image; 1 without one
    tolerance: float  # largest relative error that the maps may have
    grid: Grid
    frame: Frame
    mirrored: bool  # True if the input was flipped left to right
    zero_features: bool  # True if all features are zero

    @property
    def weight(self) -> Tensor | None:
        """(C, K), scaled for this image; None where the features are the class maps themselves."""
        if isinstance(self.head, GeneralHead):
            return None
        if self.head.kind == "conv-gap" and self.head.weight.shape[0] == self.head.weight.shape[1]:
            return None
        return self.head.weight if self.scale == 1 else self.scale * self.head.weight

    def row(self, head: Head, class_idx: int) -> Tensor:
        """Return the weights of one class, (K,), scaled for this image."""
        return head.weight[class_idx] * self.scale

    def class_maps(self, classes: Sequence[int]) -> ClassMaps:
        """Compute the maps of T classes, (T, h, w) float32, on the network's device, and their base."""
        if isinstance(self.head, GeneralHead):
            return self.head.class_maps(self.features[None], [classes], self.frame.input)[0]
        rows = torch.stack([self.row(self.head, class_idx) for class_idx in classes])
        return ClassMaps(class_activation_maps(self.features[None], rows)[0], self.bias[list(classes)], 0)

    def check_completeness(self, cams: Tensor, base: Tensor, classes: list[int], own_input: Size) -> None:
        """Raise ModelError unless the maps (T, h, w), on the CPU, and their base (T,) add up to the logits.

        Complete maps do with an error that they state, references need not. `own_input` is the (H, W) of the input at
        which the head was proved.
        """
        if self.head.method not in ("exact", "integrated", "shapley"):
            return
        tolerance = self.tolerance if self.head.method == "exact" else MAX_MISSED
        logits = self.logits.numpy()
        error = float(np.abs(cams.numpy().mean((1, 2)) + base.numpy() - logits[classes]).max())
        if not error <= tolerance * max(1.0, float(np.abs(logits).max())):  # also if it is NaN
            raise ModelError(
                f"The maps of this image miss the class scores by {error:.3g} logits",
                "Wrap the network again if it was changed; else give inputs of the size it was made for"
                if self.frame.input == own_input
                else "Use the input size that the model was evaluated at: --fit crop, without --resolution and --tta",
            )


def run_forward(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    preprocessing: Preprocessing,
    fit: Fit | None = None,
    *,
    mirrored: bool = False,
    photos: Sequence[Size] | None = None,
) -> Results:
    """Run the network once over images, (H, W, 3) uint8 RGB of any sizes; those of one input size share a batch.

    The arguments and the order of the results are as for `explain_images`.
    """
    sizes = photos or [(image.shape[0], image.shape[1]) for image in images]
    results: dict[int, ForwardResult | ModelError] = {}
    prepared: dict[int, tuple[NDArray[Any], Frame]] = {}
    of_size: dict[Size, list[int]] = {}
    for index, (image, size) in enumerate(zip(images, sizes, strict=True)):
        try:
            prepared[index] = preprocessing.resize_and_crop(image, fit, size)
            of_size.setdefault(prepared[index][1].input, []).append(index)
        except ModelError as error:  # in a user's transform
            results[index] = error

    run = partial(_run, classifier, preprocessing, mirrored)
    for (height, width), indices in of_size.items():
        count = max(1, _BATCH_PIXELS // (height * width))
        for start in range(0, len(indices), count):
            batch = indices[start : start + count]
            pixels, frames = zip(*(prepared[index] for index in batch), strict=True)
            results.update(zip(batch, _run_in_halves(run, np.stack(pixels), frames), strict=True))
    return [results[index] for index in range(len(images))]


def _run_in_halves(run: Callable[..., Results], pixels: NDArray[np.uint8], frames: Sequence[Frame]) -> Results:
    """Run a batch; in halves if it does not fit in the memory of the device."""
    try:
        return run(pixels, frames)
    except (ModelError, torch.OutOfMemoryError) as error:
        out_of_memory = isinstance(error.__cause__ or error, torch.OutOfMemoryError)
        if len(frames) == 1 or not out_of_memory:
            return [as_model_error(error)] * len(frames)
    middle = len(frames) // 2
    first = _run_in_halves(run, pixels[:middle], frames[:middle])
    return first + _run_in_halves(run, pixels[middle:], frames[middle:])


def _run(
    classifier: Classifier,
    preprocessing: Preprocessing,
    mirrored: bool,
    pixels: NDArray[np.uint8],
    frames: Sequence[Frame],
) -> Results:
    """Run the network on a batch of cropped images, (N, H, W, 3)."""
    device, _ = device_and_dtype(classifier.network)
    try:
        inputs = preprocessing.normalize(to_device(pixels, device))
    except RuntimeError as error:  # out of memory: some devices have no special error for it
        problem = f"Inputs of shape {pixels.shape} cannot be moved to {device}: {error}"
        raise OutOfMemoryError(problem, "Use a smaller --batch-size, or another --device") from error
    return run_inputs(classifier, inputs, frames, mirrored)


def run_inputs(classifier: Classifier, inputs: Tensor, frames: Sequence[Frame], mirrored: bool = False) -> Results:
    """Run the network on prepared inputs (N, channels, H, W), or mirrored; `frames` say where they lie."""
    dtype = device_and_dtype(classifier.network)[1]
    logits, features, head = classifier.forward(inputs.flip(3) if mirrored else inputs)
    logits, probabilities, bias, statistics = _fetch_small_tensors(classifier, logits, features, head)
    grid = classifier.grid_for(classifier.cells(features, inputs), (inputs.shape[2], inputs.shape[3]))
    tolerance = max(tolerance_of(features.dtype), tolerance_of(dtype))
    make = partial(ForwardResult, head=head, bias=bias, tolerance=tolerance, grid=grid, mirrored=mirrored)

    results: Results = []
    for row, (frame, (scale, zero_features, finite)) in enumerate(zip(frames, statistics, strict=True)):
        if not finite:
            problem = f"The class scores or features that {classifier.name!r} gives this image are not finite"
            results.append(ModelError(problem, "Check its weights, or run it in float32"))
            continue
        own = logits[row], probabilities[row], features[row]
        results.append(make(*own, scale=scale, frame=frame, zero_features=bool(zero_features)))
    return results


def _fetch_small_tensors(
    classifier: Classifier, logits: Tensor, features: Tensor, head: Head | GeneralHead
) -> tuple[Tensor, Tensor, Tensor, list[list[float]]]:
    """Copy logits, probabilities, bias, and each image's scale, "all features are zero" and "all is finite" at once."""
    largest, smallest = features.flatten(1).aminmax(dim=1)  # one of them shows NaN and infinity
    finite = torch.stack([largest, smallest, logits.amax(1), logits.amin(1)]).isfinite().all(0)
    zero = (largest == 0) & (smallest == 0)
    if isinstance(head, GeneralHead):
        scales, bias = torch.ones_like(largest), torch.full_like(logits[0], torch.nan)
    else:
        scales, bias = head.scales(features, logits), head.bias
    statistics = torch.stack([scales, zero, finite], 1)
    tensors = logits, classifier.probabilities(logits), bias, statistics
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu().float()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    views = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    return views[0], views[1], views[2], views[3].tolist()


def class_maps(results: Sequence[ForwardResult], classes: Sequence[Sequence[int]]) -> Sequence[ClassMaps | ModelError]:
    """Compute the maps of some classes of each image, (T, h, w), or the error that it caused.

    Images of one input size share runs of a `GeneralHead`.
    """
    of_size: dict[object, list[int]] = {}
    for index, result in enumerate(results):
        key = (id(result.head), result.frame.input) if isinstance(result.head, GeneralHead) else index
        of_size.setdefault(key, []).append(index)
    found: dict[int, ClassMaps | ModelError] = {}
    for indices in of_size.values():
        maps = _maps_in_halves([results[index] for index in indices], [classes[index] for index in indices])
        found.update(zip(indices, maps, strict=True))
    return [found[index] for index in range(len(results))]


def _maps_in_halves(
    results: Sequence[ForwardResult], classes: Sequence[Sequence[int]]
) -> Sequence[ClassMaps | ModelError]:
    """Compute the maps of images of one head and input size; in halves if that fails for one, or for want of memory."""
    first = results[0]
    try:
        if len(results) == 1 or not isinstance(first.head, GeneralHead):
            return [first.class_maps(classes[0])]
        return first.head.class_maps(torch.stack([result.features for result in results]), classes, first.frame.input)
    except FAILURES as error:
        if len(results) == 1:
            return [as_model_error(error)]
    middle = len(results) // 2
    return [
        *_maps_in_halves(results[:middle], classes[:middle]),
        *_maps_in_halves(results[middle:], classes[middle:]),
    ]


def as_model_error(error: Exception) -> ModelError:
    """Return a ModelError unchanged, and one that says "out of memory" for any other error."""
    if isinstance(error, ModelError):
        return error
    return OutOfMemoryError(
        "Out of memory for this image", "Make it smaller, or use fewer --processes or cores (OMP_NUM_THREADS)"
    )


def result_or_raise(result: Value | CamError) -> Value:
    """Return the result of an image, or raise the error that it caused."""
    if isinstance(result, CamError):
        raise result
    return result
