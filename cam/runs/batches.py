"""A batch of images, from their files to their lines of the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.drawing.colormaps import lookup, to_color_indices
from cam.drawing.overlay import Photo, under_heat
from cam.errors import CamError, ImageError
from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.explanation import Explanation, enlarge_for_legend
from cam.images.find import Picture
from cam.images.io import shrink
from cam.images.read import LoadedImage, read_picture
from cam.maps.projection import interpolation_weights
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record
from cam.runs.options import Batch, RunOptions
from cam.runs.writing import Painted, write_picture
from cam.tensors import device_and_dtype, own_stream, synchronize, to_cpu, to_device

# An image with the fingerprint of its file, and its explanations or the reason why it failed.
Outcome: TypeAlias = tuple[Picture, ImageResult | CamError]
Item = TypeVar("Item")
_READ_PIXELS = 2**25  # that a batch reads before the network runs
_PAINTED_PIXELS = 2**24  # that are painted at once on a GPU, at about 40 bytes each


def process_batch(
    classifier: Classifier, folder: RunFolder, options: RunOptions, explained: dict[int, Outcome], batch: Batch
) -> list[Record]:
    """Explain images and write their results; outcomes known already are taken out of `explained`, by index."""
    missing = explain_batch(classifier, [picture for index, picture in batch if index not in explained], options)
    outcomes = (explained.pop(index) if index in explained else next(missing) for index, _ in batch)
    device = device_and_dtype(classifier.network)[0]
    painted: Iterable[tuple[Outcome, Painted]] = ((outcome, ()) for outcome in outcomes)
    if device.type == "cuda" and "overlay" in options.save:
        painted = paint_batch(outcomes, device, options)
    records = (write_picture(*outcome, folder, options, classifier.labels, images) for outcome, images in painted)
    return [{"index": index, **record} for (index, _), record in zip(batch, records, strict=True)]


def explain_batch(classifier: Classifier, pictures: Iterable[Picture], options: RunOptions) -> Iterator[Outcome]:
    """Read and explain images, as many at a time as may be in memory together."""
    min_side = options.min_side(classifier.preprocessing)
    loaded = (_read(picture, options, min_side) for picture in pictures)
    parts = _split(loaded, _READ_PIXELS, lambda item: 0 if isinstance(item[1], CamError) else item[1].image.size // 3)
    for part in parts:
        photos = [photo for _, photo in part if not isinstance(photo, CamError)]
        images, sizes = [photo.image for photo in photos], [photo.size for photo in photos]
        targets = [options.targets_of(picture) for picture, photo in part if not isinstance(photo, CamError)]
        results = explain_images(classifier, images, targets, options.explain, sizes)
        for picture, photo in part:
            yield picture, photo if isinstance(photo, CamError) else next(results)


def _read(picture: Picture, options: RunOptions, min_side: int | None) -> tuple[Picture, LoadedImage | ImageError]:
    try:
        options.targets_of(picture)
        image = read_picture(picture, options.limits, min_side, options.read)
        return replace(picture, fingerprint=image.fingerprint), image
    except ImageError as error:
        return picture, error


def paint_batch(
    outcomes: Iterable[Outcome], device: torch.device, options: RunOptions
) -> Iterator[tuple[Outcome, Painted]]:
    """Paint heat on a GPU, at the size of the overlays; with too little GPU memory, leave it to the CPU."""
    small = (_as_drawn(outcome, options.max_side) for outcome in outcomes)
    for part in _split(small, _PAINTED_PIXELS, lambda outcome: pixels_of(outcome) * len(explanations_of(outcome))):
        try:
            explanations = [explanation for outcome in part for explanation in explanations_of(outcome)]
            painted = paint_on_device(
                explanations,
                device,
                vmax=options.vmax,
                opacity=options.opacity,
                colormap=options.colormap,
                photo=options.photo,
            )
        except torch.OutOfMemoryError:
            painted = []
        for outcome in part:
            count = len(explanations_of(outcome))
            yield outcome, painted[:count]
            painted = painted[count:]


def paint_on_device(
    explanations: Sequence[Explanation],
    device: torch.device,
    *,
    vmax: float | None,
    opacity: float,
    colormap: str,
    photo: Photo,
) -> list[NDArray[np.uint8]]:
    """Paint as `Explanation.overlay` does, those of one size and geometry at once, waiting for the device only once.

    Returns (H, W, 3) uint8 RGB of the seen part of each image, for `draw(painted=...)`.
    """
    groups: dict[object, list[int]] = {}
    for index, explanation in enumerate(explanations):
        shapes = explanation.image.shape, explanation.evidence_map.shape
        groups.setdefault((*shapes, explanation.grid, explanation.frame), []).append(index)
    painted: dict[int, Tensor] = {}
    with own_stream(device):
        colors = to_device(lookup(colormap), device).float()
        shares = colors[:, 3:] * (opacity / 255)
        for indices in groups.values():
            group = [explanations[index] for index in indices]
            painted.update(zip(indices, _paint_group(group, device, vmax, colors[:, :3], shares, photo), strict=True))
        synchronize(device)
    return [painted[index].numpy() for index in range(len(explanations))]


def _paint_group(
    group: Sequence[Explanation],
    device: torch.device,
    vmax: float | None,
    colors: Tensor,
    shares: Tensor,
    photo: Photo,
) -> Tensor:
    """Paint images of one size: (N, H, W, 3) uint8, on their way to the CPU."""
    first, (height, width, _) = group[0], group[0].image.shape
    frame = replace(first.frame, photo=(height, width))
    x0, y0, x1, y1 = frame.seen
    ends = [explanation.vmax if vmax is None else vmax for explanation in group]
    cells = [to_color_indices(item.evidence_map, end) for item, end in zip(group, ends, strict=True)]
    down, across = (interpolation_weights(axis, first.evidence_map.shape[axis], first.grid, frame) for axis in (0, 1))
    indices = to_device(down[y0:y1], device) @ to_device(np.stack(cells), device) @ to_device(across[x0:x1], device).T
    entries = indices.round_().clamp_(0, 255).int()
    bases = [under_heat(explanation.image[y0:y1, x0:x1], photo) for explanation in group]
    base = to_device(np.stack(bases), device).float()
    base = base if base.ndim == 4 else base[..., None]
    return to_cpu(torch.lerp(base, colors[entries], shares[entries]).round_().to(torch.uint8))


def _as_drawn(outcome: Outcome, max_side: int | None) -> Outcome:
    picture, result = outcome
    if isinstance(result, CamError):
        return outcome
    image = enlarge_for_legend(shrink(result.explanations[0].image, max_side))  # all are of the same image
    small = [replace(explanation, image=image) for explanation in result.explanations]
    return picture, result._replace(explanations=small)


def explanations_of(outcome: Outcome) -> list[Explanation]:
    """The explanations of an image; none if it failed."""
    return [] if isinstance(outcome[1], CamError) else outcome[1].explanations


def pixels_of(outcome: Outcome) -> int:
    """The pixels of an image; 0 if it failed."""
    return sum(explanation.image.size // 3 for explanation in explanations_of(outcome)[:1])


def _split(items: Iterable[Item], most: int, pixels: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items until each group has so many pixels; the last group has fewer."""
    part: list[Item] = []
    total = 0
    for item in items:
        part.append(item)
        total += pixels(item)
        if total >= most:
            yield part
            part, total = [], 0
    if part:
        yield part
