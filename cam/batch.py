"""Explain many pictures into a folder: overlays, heat, maps, and a manifest that accounts for every input."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

import numpy as np

from cam.classifiers import Classifier
from cam.errors import CamError, UsageError
from cam.explanation import TOP1, Explanation, explain_images
from cam.files import write_whole
from cam.images import MAX_PIXELS, encode, read_image
from cam.inputs import Picture
from cam.manifest import MANIFEST, Record, append_record, make_room
from cam.overlay import overlay
from cam.preprocessing import Fit
from cam.provenance import describe
from cam.targets import Target

Outcome: TypeAlias = tuple[Picture, list[Explanation] | CamError]

RUN = "run.json"

# How much of a run the common colour scale is taken from: what is drawn first must know it.
_WINDOW_PICTURES, _WINDOW_PIXELS = 64, 100_000_000


@dataclass(frozen=True)
class Options:
    """What to write for each picture.

    Attributes:
        targets: the classes wanted of each picture.
        fit: "crop" or "whole"; the model's own by default.
        batch_size: pictures in one forward pass.
        save: any of "overlay", "heat" (.npy, (H, W) float32) and "cam" (.npz).
        scale: "run" for one colour scale for all, the median of the largest evidence in each of the first 64
            pictures (or 100 million pixels); "image" for one each; or the evidence at its ends, logit units.
        opacity: of the heat, 0 to 1.
        colormap: "signed", or the name of an OpenCV colour map.
        format: of the overlays, "jpg", "png" or "webp".
        max_pixels: larger pictures are refused.
        overwrite: whether to replace the results of an earlier run.
    """

    targets: tuple[Target, ...] = TOP1
    fit: Fit | None = None
    batch_size: int = 32
    save: frozenset[str] = frozenset({"overlay"})
    scale: Literal["run", "image"] | float = "run"
    opacity: float = 0.5
    colormap: str = "signed"
    format: str = "jpg"
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Try the options out: what cannot be right is no picture's fault."""
        pixel = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.float32)
        encode(overlay(*pixel, limit=1, opacity=self.opacity, colormap=self.colormap), f".{self.format}")
        if self.batch_size < 1:
            raise UsageError(f"A batch of {self.batch_size} pictures cannot be run", "Give 1 or more")


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
    limit, outcomes = _common_limit(outcomes, options.scale)
    records: list[Record] = []
    write_whole(out / MANIFEST, b"")
    for picture, outcome in outcomes:
        record = _record(picture, outcome, out, limit, options)
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
        results = explain_images(classifier, list(images.values()), options.targets, fit=options.fit)
        outcomes.update(zip(images, results, strict=True))
        yield from ((picture, outcomes[index]) for index, picture in enumerate(batch))


def _common_limit(outcomes: Iterator[Outcome], scale: str | float) -> tuple[float | None, Iterator[Outcome]]:
    """Take the colour scale from the first pictures, holding them; None where each picture has its own.

    The median of the maps' largest evidence: one very hot cell must not leave all other pictures dark.
    """
    if scale != "run":
        return (None if isinstance(scale, str) else float(scale)), outcomes
    held: list[Outcome] = []
    pixels = 0
    limits: list[float] = []
    for outcome in outcomes:
        held.append(outcome)
        for explanation in outcome[1] if isinstance(outcome[1], list) else ():
            pixels += explanation.image.size // 3
            limits.append(explanation.limit)
        if len(held) >= _WINDOW_PICTURES or pixels >= _WINDOW_PIXELS:
            break
    return float(np.median(limits)) if limits else 0.0, chain(held, outcomes)


def _record(
    picture: Picture, outcome: list[Explanation] | CamError, out: Path, limit: float | None, options: Options
) -> Record:
    """Write what is wanted of one picture, and say so in a line of the manifest."""
    record: Record = {"path": str(picture.path), "status": "ok", "error": None, "size": None, "targets": []}
    try:
        if isinstance(outcome, CamError):
            raise outcome
        record["size"] = list(outcome[0].frame.photo)
        for explanation in outcome:
            files = _write(explanation, picture.name, out, limit, options)
            record["targets"].append(_target(explanation, files))
    except CamError as error:
        record.update(status="failed", error=str(error), targets=[])
    return record


def _target(explanation: Explanation, files: dict[str, str]) -> Record:
    return {
        "class_idx": explanation.class_idx,
        "label": explanation.label,
        "logit": explanation.logit,
        "probability": explanation.probability,
        "bias": explanation.bias,
        "completeness_error": explanation.completeness_error,
        "peak": list(explanation.peak),
        "files": files,
    }


def _write(
    explanation: Explanation, name: PurePath, out: Path, limit: float | None, options: Options
) -> dict[str, str]:
    """Write the files of one picture and class; their names keep the picture's own, so that no two meet."""
    slug = re.sub("[^a-z0-9]+", "-", explanation.label.lower()).strip("-")[:40]
    stem = f"{name}.{explanation.class_idx}" + (f"-{slug}" if slug else "")
    files: dict[str, str] = {}
    if "overlay" in options.save:
        picture = explanation.overlay(limit=limit, opacity=options.opacity, colormap=options.colormap, legend=True)
        files["overlay"] = f"{stem}.{options.format}"
        write_whole(out / files["overlay"], encode(picture, f".{options.format}"))
    if "heat" in options.save:
        files["heat"] = f"{stem}.npy"
        write_whole(out / files["heat"], _bytes(lambda file: np.save(file, explanation.heat())))
    if "cam" in options.save:
        files["cam"] = f"{stem}.npz"
        write_whole(out / files["cam"], _bytes(lambda file: np.savez(file, allow_pickle=False, **_arrays(explanation))))
    return files


def _arrays(explanation: Explanation) -> dict[str, Any]:
    """The map with all that is needed to place it: photo = (input + offset + 1/2) * photo / resized - 1/2."""
    frame, grid = explanation.frame, explanation.grid
    return {
        **{name: getattr(explanation, name) for name in ("cam", "bias", "logit", "probability", "class_idx", "label")},
        **{name: np.array(getattr(grid, name)) for name in ("start", "jump", "method")},
        **{name: np.array(getattr(frame, name)) for name in ("photo", "resized", "offset", "input", "seen")},
    }


def _bytes(write: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, default=_as_json) + "\n").encode()


def _as_json(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
