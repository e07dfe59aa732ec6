"""Pictures through the network: what it made of each, ready to be spread over the places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit, Preprocessing
from cam.errors import ModelError, OutOfMemoryError
from cam.heads.criteria import tolerance_of
from cam.heads.head import Head
from cam.maps.activation import class_activation_maps
from cam.maps.geometry import Frame, Grid, Size
from cam.tensors import device_and_dtype, put

_AT_ONCE = 2**24  # pixels of inputs in one forward pass: 334 of 224 x 224, and fewer of larger ones


@dataclass(frozen=True)
class ForwardResult:
    """What the network made of one picture.

    Attributes:
        logits: (C,) float32, on the CPU.
        probabilities: (C,) float32, on the CPU.
        features: (K, h, w), on the network's device and in its dtype.
        head: reads them, on the network's device; of one logit both classes.
        bias: (C,), on the CPU.
        scale: by which a normalization multiplied this picture; 1 where there is none.
        tolerance: relative error that the maps stay below.
        grid: where the cells lie in the input.
        frame: where the input lies in the photograph.
        mirrored: whether the network saw the input left for right.
        dead: whether all features are zero.
    """

    logits: Tensor
    probabilities: Tensor
    features: Tensor
    head: Head
    bias: Tensor
    scale: float
    tolerance: float
    grid: Grid
    frame: Frame
    mirrored: bool
    dead: bool

    @property
    def weight(self) -> Tensor | None:
        """(C, K), as they count in this picture; None where the features are the class maps themselves."""
        if self.head.kind == "conv-gap" and self.head.weight.shape[0] == self.head.weight.shape[1]:
            return None
        return self.head.weight if self.scale == 1 else self.scale * self.head.weight

    def row(self, class_idx: int) -> Tensor:
        """(K,), of one class."""
        return self.head.weight[class_idx] * self.scale

    def cams(self, classes: Sequence[int]) -> Tensor:
        """Spread the scores of T classes over the places: (T, h, w) float32, logit units, on the network's device."""
        rows = torch.stack([self.row(class_idx) for class_idx in classes])
        return class_activation_maps(self.features[None], rows)[0]

    def prove(self, cams: Tensor, classes: Sequence[int]) -> None:
        """See to it that maps (T, h, w), on the CPU, add up to the scores of their classes.

        Raises:
            ModelError: they do not.
        """
        wanted = list(classes)
        missed = float((cams.mean((1, 2)) + self.bias[wanted] - self.logits[wanted]).abs().max())
        if not missed <= self.tolerance * max(1.0, float(self.logits.abs().max())):
            raise ModelError(
                f"The maps of this picture miss the class scores by {missed:.3g} logits",
                "Look at it as the model was evaluated, with --fit crop and without --resolution and --tta",
            )


Result: TypeAlias = ForwardResult | ModelError

Run: TypeAlias = Callable[[NDArray[np.uint8], Sequence[Frame]], list[Result]]


def run_forward(
    classifier: Classifier,
    images: Sequence[NDArray[np.uint8]],
    preprocessing: Preprocessing,
    fit: Fit | None = None,
    *,
    mirrored: bool = False,
    photos: Sequence[Size] | None = None,
) -> list[Result]:
    """Run the network once over pictures of any sizes; those of one input size share a pass.

    Args:
        classifier: from `load_classifier` or `wrap`.
        images: (H, W, 3) uint8 RGB, upright.
        preprocessing: from photograph to input.
        fit: "crop" or "whole"; the model's own by default.
        mirrored: whether inputs are turned left for right.
        photos: (H, W) of the photographs that the images are smaller copies of; the images' own by default.

    Returns:
        What was made of each picture, in order, or what went wrong with it.

    Example:
        >>> from cam.classifiers.load import load_classifier
        >>> digits = load_classifier("digits", device="cpu")
        >>> (seen,) = run_forward(digits, [np.zeros((72, 96, 3), np.uint8)], digits.preprocessing)
        >>> seen.logits.shape, seen.features.shape
        (torch.Size([10]), torch.Size([64, 18, 24]))
    """
    sizes = photos or [(image.shape[0], image.shape[1]) for image in images]
    looks = [preprocessing.resize_and_crop(image, fit, size) for image, size in zip(images, sizes, strict=True)]
    by_size = sorted(range(len(images)), key=lambda index: looks[index][1].input)
    results: dict[int, Result] = {}
    run = partial(_run, classifier, preprocessing, mirrored)
    for indices in _batches(by_size, [frame.input for _, frame in looks]):
        pixels, frames = zip(*(looks[index] for index in indices), strict=True)
        results.update(zip(indices, _in_halves(run, np.stack(pixels), frames), strict=True))
    return [results[index] for index in range(len(images))]


def _batches(indices: Sequence[int], sizes: Sequence[Size]) -> Iterator[list[int]]:
    """Put pictures of one input size together, as many as may be held at once."""
    for (height, width), same in groupby(indices, key=lambda index: sizes[index]):
        while batch := list(islice(same, max(1, _AT_ONCE // (height * width)))):
            yield batch


def _in_halves(run: Run, pixels: NDArray[np.uint8], frames: Sequence[Frame]) -> list[Result]:
    """Run a batch, in halves where the device has no room for the whole."""
    try:
        return run(pixels, frames)
    except (ModelError, torch.OutOfMemoryError) as error:
        middle = len(frames) // 2
        if not middle or not isinstance(error.__cause__ or error, torch.OutOfMemoryError):
            return [as_model_error(error)] * len(frames)
    return [
        result
        for some in (slice(None, middle), slice(middle, None))
        for result in _in_halves(run, pixels[some], frames[some])
    ]


def _run(
    classifier: Classifier,
    preprocessing: Preprocessing,
    mirrored: bool,
    pixels: NDArray[np.uint8],
    frames: Sequence[Frame],
) -> list[Result]:
    height, width = pixels.shape[1:3]
    inputs = _inputs(preprocessing, pixels, device_and_dtype(classifier.network)[0])
    logits, features, head = classifier.forward(inputs.flip(3) if mirrored else inputs)
    logits, probabilities, numbers, bias = _fetch_small_tensors(classifier, logits, features, head)
    tolerance = max(tolerance_of(features.dtype), tolerance_of(device_and_dtype(classifier.network)[1]))
    grid = classifier.grid_for((features.shape[2], features.shape[3]), (height, width))
    found = f"The class scores or features that {classifier.name!r} gives this picture are not finite"
    not_finite = ModelError(found, "Check its weights, or run it in float32")
    return [
        ForwardResult(
            logits[row],
            probabilities[row],
            features[row],
            head,
            bias,
            scale,
            tolerance,
            grid,
            frame,
            mirrored,
            not alive,
        )
        if finite
        else not_finite
        for row, (frame, (scale, alive, finite)) in enumerate(zip(frames, numbers, strict=True))
    ]


def _inputs(preprocessing: Preprocessing, pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    try:
        return preprocessing.normalize(put(pixels, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # as other devices than CUDA say it
        found = f"Inputs of shape {pixels.shape} cannot be brought to {device}: {error}"
        raise ModelError(found, "Take smaller batches, or another device") from error


def _fetch_small_tensors(
    classifier: Classifier, logits: Tensor, features: Tensor, head: Head
) -> tuple[Tensor, Tensor, list[list[float]], Tensor]:
    """Bring what is small to the CPU, with one wait for the device.

    Returns:
        Logits and probabilities, (N, C) float32; for each picture the scale of its normalization, whether any feature
        is not zero and whether all is finite; and the bias, (C,) float32.
    """
    most, least = features.amax((1, 2, 3)), features.amin((1, 2, 3))  # what is not finite shows in one of them
    finite = torch.stack([most, least, logits.amax(1), logits.amin(1)]).isfinite().all(0)
    numbers = torch.stack([head.scales(features, logits), (most != 0) | (least != 0), finite], 1)
    parts = logits, classifier.probabilities(logits), numbers, head.bias
    flat = torch.cat([part.flatten() for part in parts]).cpu().float()
    told = torch.split(flat, [part.numel() for part in parts])
    logits, probabilities, numbers, bias = (some.view(part.shape) for some, part in zip(told, parts, strict=True))
    return logits, probabilities, numbers.tolist(), bias


def as_model_error(error: Exception) -> ModelError:
    """Say that a picture does not fit in the memory, if that is what went wrong.

    Example:
        >>> str(as_model_error(MemoryError()))
        'There is no room in the memory for this picture. Make it smaller, or use fewer cores (OMP_NUM_THREADS).'
    """
    if isinstance(error, ModelError):
        return error
    remedy = "Make it smaller, or use fewer cores (OMP_NUM_THREADS)"
    return OutOfMemoryError("There is no room in the memory for this picture", remedy)


def sound(result: Result) -> ForwardResult:
    """Give the pass, or raise what went wrong with it."""
    if isinstance(result, ModelError):
        raise result
    return result
