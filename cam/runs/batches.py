"""Pictures from their files to their explanations, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.drawing.colormaps import lookup, to_steps
from cam.errors import CamError, ImageError, TransientError
from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.explanation import Explanation
from cam.images.find import Picture
from cam.images.io import shrink
from cam.images.read import LoadedImage, read_picture
from cam.maps.projection import interpolation_weights
from cam.runs.options import RunOptions
from cam.tensors import fetch, own_stream, put, wait

Batch: TypeAlias = tuple[Picture, ...]

Outcome: TypeAlias = tuple[Picture, ImageResult | CamError]

_READ_PIXELS = 2**25  # pixels of photographs that a batch holds before it goes on with them


def explain_batch(classifier: Classifier, pictures: Iterable[Picture], options: RunOptions) -> Iterator[Outcome]:
    """Read and explain pictures; what goes wrong with one stays with it.

    Args:
        classifier: from `load_classifier` or `wrap`.
        pictures: from `find_pictures`.
        options: which classes are wanted, and what is asked.

    Returns:
        Each picture, in order and fingerprinted, with its explanations or what went wrong with it.

    Raises:
        UsageError: a class that the classifier does not have.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> from cam.classifiers.load import load_classifier
        >>> missing = Picture(Path("a.jpg"), PurePosixPath("a.jpg"))
        >>> ((_, error),) = explain_batch(load_classifier("digits", device="cpu"), [missing], RunOptions())
        >>> len(str(error))
        39
    """
    for part in _read(pictures, options, options.least_side(classifier.preprocessing)):
        photos = [photo for _, photo in part if isinstance(photo, LoadedImage)]
        wanted = [options.targets] * len(photos)
        images, sizes = [photo.image for photo in photos], [photo.size for photo in photos]
        results = explain_images(classifier, images, wanted, options.explain, sizes)
        for picture, photo in part:
            yield picture, photo if isinstance(photo, CamError) else next(results)


def _read(
    pictures: Iterable[Picture], options: RunOptions, at_least: int | None
) -> Iterator[Sequence[tuple[Picture, LoadedImage | CamError]]]:
    """Read pictures, and give so many at a time as may be held at once."""
    part: list[tuple[Picture, LoadedImage | CamError]] = []
    pixels = 0
    for picture in pictures:
        try:
            image = read_picture(picture, options.limits, at_least)
            pixels += image.image.size // 3
            part.append((replace(picture, fingerprint=image.fingerprint), image))
        except ImageError as error:
            # A busy system or another copy of the archive may be fine next time: no fingerprint, so it is tried again.
            again = picture.member or isinstance(error, TransientError)
            part.append((picture if again else replace(picture, fingerprint=picture.current_fingerprint()), error))
        if pixels >= _READ_PIXELS:
            yield part
            part, pixels = [], 0
    yield part


_BLENDED_PIXELS = 2**24  # pixels that are blended at once, of some 40 bytes each


class Style(TypedDict):
    """How heat is blended, as for `Explanation.overlay`."""

    vmax: float | None
    opacity: float
    colormap: str


def blend_batch(
    outcomes: Iterable[Outcome], device: torch.device, vmax: float | None, options: RunOptions
) -> Iterator[tuple[Outcome, list[NDArray[np.uint8]]]]:
    """Blend the heat of a batch of pictures on a GPU; where that has no room, leave it to the CPU.

    Args:
        outcomes: pictures with their explanations, or what went wrong with them.
        device: what to compute on.
        vmax: end of the color scale, in the unit of the maps; None for each map's own.
        options: how to draw.

    Returns:
        Each outcome, its images no larger than they are drawn, with what `blend_all` made of its explanations.

    Raises:
        UsageError: as for `Explanation.overlay`.

    Example:
        >>> list(blend_batch([], torch.device("cpu"), 1.0, RunOptions()))
        []
    """
    for part in _parts(outcomes, options.max_side):
        explained = [each for _, outcome in part if isinstance(outcome, ImageResult) for each in outcome.explanations]
        style: Style = {"vmax": vmax, "opacity": options.opacity, "colormap": options.colormap}
        try:
            blended = iter(blend_all(explained, device, **style))
        except torch.OutOfMemoryError:
            blended = iter([])
        for picture, outcome in part:
            count = len(outcome.explanations) if isinstance(outcome, ImageResult) else 0
            yield (picture, outcome), list(islice(blended, count))


def _parts(outcomes: Iterable[Outcome], max_side: int | None) -> Iterator[list[Outcome]]:
    """Take as much at a time as is blended at once, so that large photographs are not all held."""
    part: list[Outcome] = []
    pixels = 0
    for picture, outcome in outcomes:
        part.append((picture, small := _shrunk(outcome, max_side)))
        pixels += sum(each.image.size // 3 for each in small.explanations) if isinstance(small, ImageResult) else 0
        if pixels >= _BLENDED_PIXELS:
            yield part
            part, pixels = [], 0
    yield part


def _shrunk(outcome: ImageResult | CamError, max_side: int | None) -> ImageResult | CamError:
    if isinstance(outcome, CamError):
        return outcome
    small = [replace(each, image=shrink(each.image, max_side)) for each in outcome.explanations]
    return outcome._replace(explanations=small)


def blend_all(
    explanations: Sequence[Explanation], device: torch.device, **style: Unpack[Style]
) -> list[NDArray[np.uint8]]:
    """Blend the heat of explanations over what the network saw of their photographs: what `overlay` does on the CPU.

    Args:
        explanations: of any pictures.
        device: what to compute on. It is waited for once, at the end, on this thread's own stream only.
        **style: vmax, opacity and colormap, as for `Explanation.overlay`.

    Returns:
        (H, W, 3) uint8 RGB of each, to hand to `overlay(blended=...)`: the seen part of its image.

    Raises:
        UsageError: as for `Explanation.overlay`.

    Example:
        >>> import cam
        >>> explanation = cam.explain(cam.load_classifier("digits", device="cpu"), np.zeros((72, 96, 3), np.uint8))
        >>> style = {"vmax": None, "opacity": 0.5, "colormap": "signed"}
        >>> (blended,) = blend_all([explanation], torch.device("cpu"), **style)
        >>> blended.shape, np.abs(explanation.overlay(blended=blended) - explanation.overlay().astype(int)).max()
        ((72, 96, 3), np.int64(0))
    """
    found: dict[int, Tensor] = {}
    with own_stream(device):
        for indices in _alike(explanations):
            some = [explanations[index] for index in indices]
            found.update(zip(indices, _blend(some, device, **style), strict=True))
        wait(device)
    return [found[index].numpy() for index in range(len(explanations))]


def _alike(explanations: Sequence[Explanation]) -> Iterator[list[int]]:
    """Put together what is spread in the same way over pictures of one size, as much as is blended at once."""
    groups: dict[object, list[int]] = {}
    for index, each in enumerate(explanations):
        groups.setdefault((each.image.shape, each.evidence_map.shape, each.grid, each.frame), []).append(index)
    for indices in groups.values():
        many = max(1, _BLENDED_PIXELS // (explanations[indices[0]].image.size // 3))
        yield from (indices[start : start + many] for start in range(0, len(indices), many))


def _blend(
    alike: Sequence[Explanation], device: torch.device, *, vmax: float | None, opacity: float, colormap: str
) -> Tensor:
    """Blend on the device: (N, H, W, 3) uint8, on their way to the CPU."""
    first = alike[0]
    frame = replace(first.frame, photo=(first.image.shape[0], first.image.shape[1]))
    x0, y0, x1, y1 = frame.seen
    cells = [to_steps(each.evidence_map, each.vmax if vmax is None else vmax, colormap, each.signed) for each in alike]
    down, across = (interpolation_weights(axis, first.evidence_map.shape[axis], first.grid, frame) for axis in (0, 1))
    steps = put(down[y0:y1], device) @ put(np.stack(cells), device) @ put(across[x0:x1], device).T
    colors = put(lookup(colormap), device)[steps.round_().clamp_(0, 255).int()]
    blended = put(np.stack([each.image[y0:y1, x0:x1] for each in alike]), device) * (1 - opacity)
    return fetch(blended.add_(colors, alpha=opacity).round_().to(torch.uint8))
