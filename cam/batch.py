"""Explain many pictures into a folder: overlays, heat, maps, and a manifest that accounts for every input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cam.classifiers import Classifier
from cam.errors import CamError
from cam.explanation import Explanation
from cam.files import write_whole
from cam.images import read_image
from cam.inputs import Picture
from cam.manifest import MANIFEST, Record, append_record, make_room
from cam.options import Options
from cam.pipeline import explain_images
from cam.provenance import describe
from cam.writing import write_picture

Outcome: TypeAlias = tuple[Picture, list[Explanation] | CamError]

RUN = "run.json"

# How much of a run the common colour scale is taken from: what is drawn first must know it.
_WINDOW_PICTURES, _WINDOW_PIXELS = 64, 100_000_000


def explain_folder(
    classifier: Classifier,
    pictures: Sequence[Picture],
    out: Path,
    options: Options,
    arguments: Mapping[str, Any] | None = None,
    report: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Explain pictures into a folder.

    Args:
        classifier: from `load_classifier` or `wrap`.
        pictures: from `find_pictures`.
        out: the folder; made if need be.
        options: what to write.
        arguments: of the command, for `run.json`.
        report: called with each line of the manifest once it is written.

    Returns:
        The lines of the manifest, one for every picture, in order. A bad picture costs its own line only.

    Raises:
        OutputError: the folder cannot be written.
        UsageError: it holds an earlier run and must not be overwritten, or there is no such class.
    """
    make_room(out, options.overwrite)
    about = describe(classifier, arguments or {})
    write_whole(out / RUN, _json(about))
    outcomes = _explain(classifier, pictures, options)
    limit, outcomes = _common_limit(outcomes, options)
    records: list[Record] = []
    write_whole(out / MANIFEST, b"")
    for picture, outcome in outcomes:
        record = write_picture(picture, outcome, out, limit, options)
        append_record(out / MANIFEST, record)
        records.append(record)
        report(record)
    failed = sum(record["status"] == "failed" for record in records)
    write_whole(out / RUN, _json({**about, "scale": limit, "explained": len(records) - failed, "failed": failed}))
    return records


def _explain(classifier: Classifier, pictures: Iterable[Picture], options: Options) -> Iterator[Outcome]:
    """Read and explain batch after batch; what goes wrong with a picture stays with it."""
    remaining = iter(pictures)
    while batch := list(islice(remaining, options.batch_size)):
        images: dict[int, Any] = {}
        outcomes: dict[int, list[Explanation] | CamError] = {}
        for index, picture in enumerate(batch):
            try:
                images[index] = read_image(picture.path, max_pixels=options.max_pixels)
            except CamError as error:
                outcomes[index] = error
        targets = [options.targets] * len(images)
        results = explain_images(classifier, list(images.values()), targets, options.question)
        outcomes.update(zip(images, results, strict=True))
        yield from ((picture, outcomes[index]) for index, picture in enumerate(batch))


def _common_limit(outcomes: Iterator[Outcome], options: Options) -> tuple[float | None, Iterator[Outcome]]:
    """Take the colour scale from the first pictures, holding them; None where each picture has its own.

    The median of the maps' largest evidence: one very hot cell must not leave all other pictures dark.
    """
    if options.scale != "run":
        return (None if isinstance(options.scale, str) else float(options.scale)), outcomes
    if options.question.evidence == "posterior":
        return 1.0, outcomes
    held: list[Outcome] = []
    pixels = 0
    limits: list[float] = []
    for outcome in outcomes:
        held.append(outcome)
        if isinstance(outcome[1], list):
            pixels += outcome[1][0].image.size // 3
            limits += [explanation.limit for explanation in outcome[1]]
        if len(held) >= _WINDOW_PICTURES or pixels >= _WINDOW_PIXELS:
            break
    return float(np.median(limits)) if limits else 0.0, chain(held, outcomes)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, default=_as_json) + "\n").encode()


def _as_json(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
