"""Explain many images into a folder, with a manifest that accounts for every input."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from cam.classifiers.classifier import Classifier
from cam.classifiers.provenance import describe
from cam.engines.checked import check_engine
from cam.errors import StoppedError, hide_passwords
from cam.files import write_whole
from cam.images.find import Picture, shard
from cam.images.video import expected_frames, is_clip
from cam.runs.cluster import Cluster
from cam.runs.explainer import SCALE_IMAGES, SCALE_PIXELS, Explainer, Worker
from cam.runs.folder import RunFolder, read_run_info
from cam.runs.local import LocalProcesses
from cam.runs.manifest import Record, appending, read_records, sort_lines, summarize_truth
from cam.runs.options import Batch, RunOptions, settings_of
from cam.runs.processes import Load, running
from cam.runs.resume import check_settings, keep_done
from cam.runs.tables import write_tables
from cam.runs.workers import in_order
from cam.tensors import device_and_dtype, no_tf32

_MANY_FRAMES = 10_000  # of clips: how many more there are changes nothing


@dataclass(frozen=True)
class RunSummary:
    """Counts of the images of a run."""

    manifest: Path
    explained: int
    failed: int
    earlier: int = 0  # explained by an earlier run
    gone: int = 0  # explained by an earlier run, and not among the inputs of this one
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
    processes: Cluster | LocalProcesses | None = None,
) -> RunSummary:
    """Explain images into a folder, one batch per core at a time, or go on with a run that has the same settings.

    An image is done if an earlier run has explained it, its path, size and time are the same and its results exist.
    All others are explained. Results of images that are not among the inputs keep their files, but have no line.

    `arguments` are those of the command and `left_out` what `find_pictures` counted, for run.json; `report` is called
    with each record of the manifest, those of an earlier run first. An image that fails costs its own line only.
    `processes` explain the images; by default the threads of this process do.
    """
    classifier.preprocessing.check_channels(options.read.channels)
    options.explain.check(classifier)
    if not isinstance(processes, Cluster):  # whose machines may have other devices
        check_engine(options.engine, device_and_dtype(classifier.network)[0], options.precision)
    run_info = describe(classifier, arguments or {})
    run_info["settings"] = settings_of(classifier, run_info, options)
    run_info["directory"] = str(Path.cwd())
    run_info["left_out"] = dict(left_out or {})
    # Read back, so that it can be compared with one that is read.
    run_info = json.loads(hide_passwords(json.dumps(run_info, default=str)))
    folder = RunFolder(out, options.shard)
    with folder.locked(), folder.staged() as folder, no_tf32():
        if not options.overwrite:
            check_settings(folder, run_info)
        rmtree(folder.unfinished, ignore_errors=True)
        return _run(classifier, pictures, folder, options, run_info, report, processes)


def _run(
    classifier: Classifier,
    pictures: Sequence[Picture],
    folder: RunFolder,
    options: RunOptions,
    run_info: dict[str, Any],
    report: Callable[[Record], None],
    processes: Cluster | LocalProcesses | None,
) -> RunSummary:
    """Explain the images that an earlier run has not explained."""
    counts: Counter[str] = Counter()
    correct: Counter[bool | None] = Counter()

    def count(record: Record) -> None:
        counts[record["status"]] += 1
        correct[record["correct"]] += 1
        report(record)

    inputs = shard(pictures, options.shard)
    clip_indices = {index for index, picture in enumerate(pictures) if is_clip(picture, options.clips)}
    starts, gone = ({}, 0) if options.overwrite else keep_done(folder, inputs, options, classifier.labels, count)
    done = len(starts)
    earlier = read_run_info(folder) if done else {}
    remaining = [pair for pair in inputs if pair[0] not in starts]
    images = [pair for pair in remaining if pair[0] not in clip_indices]
    clips = [pair for pair in remaining if pair[0] in clip_indices]
    with _start(classifier, folder, options, run_info, images, clips, processes) as worker:
        run_info["scale"] = earlier.get("scale")
        if starts.keys() <= clip_indices:  # no image has been drawn on a scale
            all_images = [pair for pair in enumerate(pictures) if pair[0] not in clip_indices]
            run_info["scale"] = _measure_scale(worker, all_images, options)
            worker.forget(inputs)
        run_info["engine"] = worker.engine or earlier.get("engine")
        run_info["note"] = earlier.get("note", "")
        for output in options.outputs:
            output.write_model(folder, classifier)
        if options.overwrite:
            write_whole(folder.manifest, b"", folder.unfinished)
            folder.publish()  # before run.json has other settings
        folder.write_run_info(run_info)

        scaled = replace(options, scale="image" if run_info["scale"] is None else run_info["scale"])
        parts = _batches(images, worker.batch_size, worker.workers)
        stills = in_order(partial(worker.explain, scaled), parts, workers=worker.workers)
        batches = _records(stills, worker.explain_clips(options, clips))
        with appending(folder.manifest, starts) as append, closing(batches):
            for records in batches:
                append(records)
                for record in records:
                    count(record)
                    if record["status"] == "failed" and options.on_error == "stop":
                        problem = f"The run was stopped by {record['path']!r}: {record['error'].rstrip('.')}"
                        raise StoppedError(problem, "Repair or leave out the image, and resume without --overwrite")
        run_info["note"] = worker.reason or run_info["note"]
    sort_lines(folder.manifest, starts, folder.unfinished)
    kept = list(read_records(folder.manifest)) if options.outputs else []
    write_tables(kept or read_records(folder.manifest), folder.out, options.csv, options.parquet)
    run_info["truth"] = summarize_truth(correct, options.truth.unmatched) if options.truth.classes else None
    run_info |= {"explained": counts["ok"], "failed": counts["failed"]}
    folder.write_run_info(run_info)
    return RunSummary(folder.out / folder.manifest.name, counts["ok"], counts["failed"], done, gone, run_info, kept)


def _records(of_images: Generator[list[Record]], of_clips: Generator[list[Record]]) -> Generator[list[Record]]:
    """Yield the records of the images, a batch at a time, then those of the clips."""
    with closing(of_images), closing(of_clips):
        yield from of_images
        yield from of_clips


@contextmanager
def _start(
    classifier: Classifier,
    folder: RunFolder,
    options: RunOptions,
    run_info: dict[str, Any],
    images: Batch,
    clips: Batch,
    processes: Cluster | LocalProcesses | None,
) -> Iterator[Worker]:
    """Start what explains the images: this process, or others if there is anything to do."""
    frames = 0  # for the choice of engine and threads
    for _, picture in clips:
        frames += expected_frames(picture, options.limits, options.clips) if frames < _MANY_FRAMES else 1
    if processes is None or not (images or clips):
        yield Explainer(classifier, folder, options, len(images), frames)
        return
    load = Load(len(images), len(clips), frames)
    with (
        processes.started(classifier, options, load) as backend,
        running(backend, processes.arguments, folder, options, classifier.labels, run_info, load) as worker,
    ):
        run_info["device"] = worker.device
        yield worker


def _measure_scale(worker: Worker, inputs: Batch, options: RunOptions) -> float | None:
    """Explain the first images, and return the end of the color scale; None if each image has its own."""
    if options.scale != "run":
        return None if options.scale == "image" else float(options.scale)
    if options.explain.evidence == "posterior":
        return 1.0
    ends: list[float] = []
    images = pixels = 0
    size = min(worker.batch_size, SCALE_IMAGES)
    workers = min(worker.workers, -(-SCALE_IMAGES // size))
    parts = _batches(inputs, size, workers)
    batches = takewhile(lambda _: images < SCALE_IMAGES and pixels < SCALE_PIXELS, parts)
    for peaks in in_order(partial(worker.measure, options), batches, workers=workers, ahead=1):
        for image_pixels, image_ends in peaks:
            if images < SCALE_IMAGES and pixels < SCALE_PIXELS:  # else computed ahead
                images += 1
                pixels += image_pixels
                ends += image_ends
    return float(np.median(ends)) if ends else 0.0  # one very hot cell must not darken the others


def _batches(pictures: Batch, size: int, workers: int) -> Iterator[Batch]:
    """Divide images into batches; of the last images each worker gets a few, so that none is idle for a whole batch."""
    start = 0
    while start < len(pictures):
        end = start + (size if workers == 1 else min(size, max(1, (len(pictures) - start) // (2 * workers))))
        yield pictures[start:end]
        start = end
