"""Heat over photographs on a GPU: those of one size at once, copied back while the next are blended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.chain import Outcome
from cam.colormaps import lookup, to_steps
from cam.errors import CamError
from cam.explanation import Explanation
from cam.options import Options
from cam.overlay import shrink
from cam.placing import weights
from cam.transfer import fetch, own_stream, put, wait

_AT_ONCE = 2**24  # pixels that are blended at once, of some 40 bytes each


class Style(TypedDict):
    """How heat is blended, as for `Explanation.overlay`."""

    limit: float | None
    opacity: float
    colormap: str


def blend_batch(
    outcomes: Iterable[Outcome], device: torch.device, limit: float | None, options: Options
) -> Iterator[tuple[Outcome, list[NDArray[np.uint8]]]]:
    """Blend the heat of a batch of pictures on a GPU; where that has no room, leave it to the CPU.

    Args:
        outcomes: pictures with their explanations, or what went wrong with them.
        device: what to compute on.
        limit: end of the colour scale, in the unit of the maps; None for each map's own.
        options: how to draw.

    Returns:
        Each outcome, its images no larger than they are drawn, with what `blend_all` made of its explanations.

    Raises:
        UsageError: as for `Explanation.overlay`.

    Example:
        >>> list(blend_batch([], torch.device("cpu"), 1.0, Options()))
        []
    """
    for part in _parts(outcomes, options.max_side):
        explained = [each for _, outcome in part if isinstance(outcome, list) for each in outcome]
        style: Style = {"limit": limit, "opacity": options.opacity, "colormap": options.colormap}
        try:
            blended = iter(blend_all(explained, device, **style))
        except torch.OutOfMemoryError:
            blended = iter([])
        for picture, outcome in part:
            yield (picture, outcome), list(islice(blended, len(outcome) if isinstance(outcome, list) else 0))


def _parts(outcomes: Iterable[Outcome], max_side: int | None) -> Iterator[list[Outcome]]:
    """Take as much at a time as is blended at once, so that large photographs are not all held."""
    part: list[Outcome] = []
    pixels = 0
    for picture, outcome in outcomes:
        part.append((picture, small := _shrunk(outcome, max_side)))
        pixels += sum(each.image.size // 3 for each in small) if isinstance(small, list) else 0
        if pixels >= _AT_ONCE:
            yield part
            part, pixels = [], 0
    yield part


def _shrunk(outcome: list[Explanation] | CamError, max_side: int | None) -> list[Explanation] | CamError:
    if isinstance(outcome, CamError):
        return outcome
    return [replace(each, image=shrink(each.image, max_side)) for each in outcome]


def blend_all(
    explanations: Sequence[Explanation], device: torch.device, **style: Unpack[Style]
) -> list[NDArray[np.uint8]]:
    """Blend the heat of explanations over what the network saw of their photographs: what `overlay` does on the CPU.

    Args:
        explanations: of any pictures.
        device: what to compute on. It is waited for once, at the end, on this thread's own stream only.
        **style: limit, opacity and colormap, as for `Explanation.overlay`.

    Returns:
        (H, W, 3) uint8 RGB of each, to hand to `overlay(blended=...)`: the seen part of its image.

    Raises:
        UsageError: as for `Explanation.overlay`.

    Example:
        >>> import cam
        >>> explanation = cam.explain(cam.load_classifier("digits", device="cpu"), np.zeros((72, 96, 3), np.uint8))
        >>> style = {"limit": None, "opacity": 0.5, "colormap": "signed"}
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
        groups.setdefault((each.image.shape, each.map.shape, each.grid, each.frame), []).append(index)
    for indices in groups.values():
        many = max(1, _AT_ONCE // (explanations[indices[0]].image.size // 3))
        yield from (indices[start : start + many] for start in range(0, len(indices), many))


def _blend(
    alike: Sequence[Explanation], device: torch.device, *, limit: float | None, opacity: float, colormap: str
) -> Tensor:
    """Blend on the device: (N, H, W, 3) uint8, on their way to the CPU."""
    first = alike[0]
    frame = replace(first.frame, photo=(first.image.shape[0], first.image.shape[1]))
    x0, y0, x1, y1 = frame.seen
    cells = [to_steps(each.map, each.limit if limit is None else limit, colormap, each.signed) for each in alike]
    down, across = (weights(axis, first.map.shape[axis], first.grid, frame) for axis in (0, 1))
    steps = put(down[y0:y1], device) @ put(np.stack(cells), device) @ put(across[x0:x1], device).T
    colours = put(lookup(colormap), device)[steps.round_().clamp_(0, 255).int()]
    blended = put(np.stack([each.image[y0:y1, x0:x1] for each in alike]), device) * (1 - opacity)
    return fetch(blended.add_(colours, alpha=opacity).round_().to(torch.uint8))
