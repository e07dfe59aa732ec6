"""Explain many images into a folder, with a manifest that accounts for every input."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch

from cam.classifiers.classifier import Classifier
from cam.classifiers.provenance import describe
from cam.engines.checked import CheckedEngine, check_engine, make_engine
from cam.engines.eager import EagerEngine
from cam.errors import StoppedError
from cam.files import write_whole
from cam.images.find import Picture, shard
from cam.images.video import expected_frames, is_clip
from cam.runs.batches import Outcome, explain_batch, explanations_of, pixels_of, process_batch
from cam.runs.clips import explain_clip
from cam.runs.folder import RunFolder, read_run_info
from cam.runs.manifest import Record, appending, sort_records, summarize_truth
from cam.runs.options import Batch, RunOptions, settings_of
from cam.runs.resume import check_settings, keep_done
from cam.runs.tables import write_tables
from cam.runs.workers import in_order
from cam.tensors import device_and_dtype, no_tf32

_BATCH = {"cpu": 4, "cuda": 32}  # images; on the CPU each core runs its own batch
_SCALE_IMAGES, _SCALE_PIXELS = 64, 100_000_000  # after which the color scale is set


@dataclass(frozen=True)
class RunSummary:
    """Counts of the images of a run."""

    manifest: Path
    explained: int
    failed: int
    earlier: int = 0  # explained by an earlier run
    info: Mapping[str, Any] = field(default_factory=dict)  # the content of run.json
    records: Sequence[Record] = ()  # the manifest of a run with `outputs`, for what is made of them


def explain_folder(
    classifier: Classifier,
    pictures: Sequence[Picture],
    out: Path,
    options: RunOptions,
    arguments: Mapping[str, Any] | None = None,
    report: Callable[[Record], None] = lambda record: None,
    left_out: Mapping[str, int] | None = None,
) -> RunSummary:
    """Explain images into a folder, one batch per core at a time, or go on with a run that has the same settings.

    An image is done if an earlier run has explained it, its path, size and time are the same and its results exist.
    All others are explained. Results of images that are not among the inputs keep their files, but have no line.

    `arguments` are those of the command and `left_out` what `find_pictures` counted, for run.json; `report` is called
    with each record of the manifest, those of an earlier run first. An image that fails costs its own line only.
    """
    classifier.preprocessing.check_channels(options.read.channels)
    options.explain.check(classifier)
    check_engine(options.engine, device_and_dtype(classifier.network)[0], options.precision)
    run_info = describe(classifier, arguments or {})
    run_info["settings"] = settings_of(classifier, run_info, options)
    run_info["directory"] = str(Path.cwd())
    run_info["left_out"] = dict(left_out or {})
    run_info = json.loads(json.dumps(run_info, default=str))  # so that it can be compared with one that is read
    folder = RunFolder(out, options.shard)
    with folder.locked(), no_tf32():
        if not options.overwrite:
            check_settings(folder, run_info)
        rmtree(folder.unfinished, ignore_errors=True)
        return _run(classifier, pictures, folder, options, run_info, report)


def _run(
    classifier: Classifier,
    pictures: Sequence[Picture],
    folder: RunFolder,
    options: RunOptions,
    run_info: dict[str, Any],
    report: Callable[[Record], None],
) -> RunSummary:
    """Explain the images that an earlier run has not explained."""
    counts: Counter[str] = Counter()
    correct: Counter[bool | None] = Counter()

    def count(record: Record) -> None:
        counts[record["status"]] += 1
        correct[record["correct"]] += 1
        report(record)

    inputs = shard(pictures, options.shard)
    clips = {index for index, picture in enumerate(pictures) if is_clip(picture, options.clips)}
    starts = {} if options.overwrite else keep_done(folder, inputs, options, classifier.labels, count)
    done = len(starts)
    earlier = read_run_info(folder) if done else {}
    remaining = [pair for pair in inputs if pair[0] not in starts]
    images = [pair for pair in remaining if pair[0] not in clips]
    films = [pair for pair in remaining if pair[0] in clips]

    size = options.batch_size or _BATCH.get(run_info["device"].partition(":")[0], 32)
    frames = sum(expected_frames(picture, options.limits, options.clips) for _, picture in films)
    workers = _workers(len(images), size)
    engine = _engine(classifier, options, len(images) + frames, size)
    classifier = replace(classifier, engine=engine)
    explained: dict[int, Outcome] = {}
    run_info["scale"] = earlier.get("scale")
    if starts.keys() <= clips:  # no image has been drawn on a scale
        stills = [pair for pair in enumerate(pictures) if pair[0] not in clips]
        run_info["scale"], explained = _set_scale(classifier, stills, options, size, workers)
        explained = {index: explained[index] for index, _ in inputs if index in explained}
    run_info["engine"] = engine.name if engine else earlier.get("engine")
    run_info["note"] = earlier.get("note", "")
    for output in options.outputs:
        output.write_model(folder, classifier)
    if options.overwrite:
        write_whole(folder.manifest, b"", folder.unfinished)
    folder.write_run_info(run_info)

    scaled = replace(options, scale="image" if run_info["scale"] is None else run_info["scale"])
    work = partial(process_batch, classifier, folder, scaled, explained)
    film = partial(explain_clip, classifier, folder, options, size, _workers(frames, size))
    batches = _records(in_order(work, _batches(images, size), workers=workers), film, films)
    with appending(folder.manifest, starts) as append, closing(batches):
        for records in batches:
            append(records)
            for record in records:
                count(record)
                if record["status"] == "failed" and options.on_error == "stop":
                    problem = f"The run was stopped by {record['path']!r}: {record['error'].rstrip('.')}"
                    raise StoppedError(problem, "Repair or leave out the image, and resume without --overwrite")
    written = sort_records(folder.manifest, starts, folder.unfinished)
    kept = list(written) if options.outputs else []
    write_tables(kept or written, folder.out, options.csv, options.parquet)
    run_info["note"] = (engine and engine.reason) or run_info["note"]
    run_info["truth"] = summarize_truth(correct, options.truth.unmatched) if options.truth.classes else None
    run_info |= {"explained": counts["ok"], "failed": counts["failed"]}
    folder.write_run_info(run_info)
    return RunSummary(folder.manifest, counts["ok"], counts["failed"], done, run_info, kept)


def _records(
    of_images: Generator[list[Record]], film: Callable[[Picture], Record], films: Batch
) -> Generator[list[Record]]:
    """Yield the records of the images, a batch at a time, then those of the clips, whose frames share the workers."""
    with closing(of_images):
        yield from of_images
    for index, picture in films:
        yield [{"index": index, **film(picture)}]


def _workers(images: int, size: int) -> int:
    """One for each core, but not more than there are batches: a single batch gets all threads."""
    return max(1, min(torch.get_num_threads(), -(-images // size)))


def _engine(classifier: Classifier, options: RunOptions, images: int, size: int) -> EagerEngine | CheckedEngine | None:
    """Make an engine, unless making it takes longer than the images do."""
    name, precision = options.engine, options.precision
    if images <= size and (images == 0 or (name, precision) == ("auto", "float32")):
        return None
    shape = classifier.preprocessing.input_shape
    classifier.check_unchanged()
    return make_engine(name, classifier.network, classifier.head, shape, images=images, precision=precision)


def _set_scale(
    classifier: Classifier, inputs: Batch, options: RunOptions, batch_size: int, workers: int
) -> tuple[float | None, dict[int, Outcome]]:
    """Return the end of the color scale, None if each image has its own, and the images explained for it, by index."""
    if options.scale != "run":
        return None if options.scale == "image" else float(options.scale), {}
    if options.explain.evidence == "posterior":
        return 1.0, {}
    explained: dict[int, Outcome] = {}
    peaks: list[float] = []
    images = pixels = 0
    batches = takewhile(lambda _: images < _SCALE_IMAGES and pixels < _SCALE_PIXELS, _batches(inputs, batch_size))
    explain = partial(_explain_for_scale, classifier, options)
    for outcomes in in_order(explain, batches, workers=workers, ahead=2):
        for index, outcome in outcomes:
            explained[index] = outcome
            if images < _SCALE_IMAGES and pixels < _SCALE_PIXELS:  # else computed ahead
                images += 1
                pixels += pixels_of(outcome)
                peaks += [explanation.vmax for explanation in explanations_of(outcome)]
    return float(np.median(peaks)) if peaks else 0.0, explained  # one very hot cell must not darken the others


def _explain_for_scale(classifier: Classifier, options: RunOptions, batch: Batch) -> list[tuple[int, Outcome]]:
    """Explain a batch, or as much of it as may be held in memory; images that fail are tried again by the run."""
    outcomes: list[tuple[int, Outcome]] = []
    pixels = 0
    results = explain_batch(classifier, [picture for _, picture in batch], options)
    for (index, _), outcome in zip(batch, results, strict=False):
        if explanations_of(outcome):
            outcomes.append((index, outcome))
            pixels += pixels_of(outcome)
        if pixels >= _SCALE_PIXELS:
            break
    return outcomes


def _batches(pictures: Batch, size: int) -> Iterator[Batch]:
    return (pictures[start : start + size] for start in range(0, len(pictures), size))
