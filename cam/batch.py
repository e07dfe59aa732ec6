"""Explain many pictures into a folder, with a manifest that accounts for every input."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cam.blending import blend_batch
from cam.chain import Batch, Outcome, explain_pictures
from cam.classifiers import Classifier
from cam.eager import EagerEngine, whole_float32
from cam.engines import CheckedEngine, EngineName, check_engine, make_engine
from cam.errors import StoppedError
from cam.inputs import Picture, shard
from cam.manifest import ManifestWriter, Record, arrange, read_records
from cam.model_file import MODEL, model_file
from cam.options import Options
from cam.provenance import describe
from cam.resuming import begin, resume
from cam.run_folder import RunFolder
from cam.scale import Window
from cam.twins import device_and_dtype
from cam.workers import in_order
from cam.writing import write_picture

_BATCH = {"cpu": 4, "cuda": 32}  # pictures; on the CPU each core has a batch of its own
_TRIES = 8  # batches in which a faster engine should find a picture to prove itself on


@dataclass(frozen=True)
class Run:
    """What became of the pictures of a run.

    Attributes:
        manifest: the file with a line for every picture.
        explained: how many were.
        failed: how many were not.
        earlier: how many of both were done before, by the run that this one went on with.
        gone: how many that one had results of which are not among the pictures any more.
        remark: why another engine than the one asked for had to run; "" where none had to.
    """

    manifest: Path
    explained: int
    failed: int
    earlier: int = 0
    gone: int = 0
    remark: str = ""


def explain_folder(
    classifier: Classifier,
    pictures: Sequence[Picture],
    out: Path,
    options: Options,
    arguments: Mapping[str, Any] | None = None,
    report: Callable[[Record], None] = lambda record: None,
) -> Run:
    """Explain pictures into a folder, a batch a core at a time, or go on with a run that was made with the same.

    Pictures that the run has explained, and whose files are as they were, keep their results, unless one that shared
    their pass has changed; those that are no longer among the pictures lose them.

    Args:
        classifier: from `load_classifier` or `wrap`.
        pictures: from `find_pictures`.
        out: the folder; made if need be.
        options: what to write.
        arguments: of the command, for `run.json`.
        report: called with each line of the manifest, those of the earlier run first.

    Returns:
        How many were explained and failed. Each has a line of the manifest, in order; a bad picture costs its own
        line only.

    Raises:
        OutputError: the folder cannot be written.
        UsageError: it holds a run made with something else, or over pictures that are out of reach now, and must not be
            overwritten; or there is no such class.
        StoppedError: a picture failed, and the run was to stop at the first that does.
    """
    check_engine(options.engine, device_and_dtype(classifier.network)[0], options.precision)
    folder = RunFolder(out, options.shard)
    with folder.locked(), whole_float32():
        about = {**describe(classifier, arguments or {}), "options": asdict(options), "directory": _place(pictures)}
        about, gone = begin(folder, about, pictures, overwrite=options.overwrite)
        if options.question.report:
            folder.write(MODEL, model_file(classifier))
        return replace(_go_on(classifier, pictures, folder, options, about, report), gone=gone)


def _go_on(
    classifier: Classifier,
    pictures: Sequence[Picture],
    folder: RunFolder,
    options: Options,
    about: dict[str, Any],
    report: Callable[[Record], None],
) -> Run:
    """Do what is left to do of a run."""
    mine = set(shard(pictures, *options.shard) if options.shard else pictures)
    own = [(index, picture) for index, picture in enumerate(pictures) if picture in mine]
    size = options.batch_size or _BATCH.get(str(about["device"]).partition(":")[0], 32)
    workers = max(1, min(torch.get_num_threads(), -(-len(own) // size)))  # of one batch the threads are its own
    left = resume(folder, own, size)
    engine = _engine(classifier, options, about.get("engine"), len(own), size) if left.batches else None
    about["engine"] = engine.name if engine else about.get("engine")
    work = _Work(replace(classifier, engine=engine), folder, options)
    work.try_out(_batches(pictures, size))
    if "scale" not in about:
        work.set_scale(_batches(pictures, size), workers)
        about["scale"] = work.limit
    about["remark"] = (engine and engine.reason) or about.get("remark", "")
    folder.describe(about)
    work.limit = about["scale"]
    states = Counter(_told(folder.manifest, report))
    with (
        ManifestWriter(folder.manifest) as manifest,
        closing(in_order(work, left.batches, workers=workers, meanwhile=manifest.flush)) as batches,
    ):
        states.update(_written(manifest, chain.from_iterable(batches), options.on_error, report))
    arrange(folder.manifest, {str(picture.name): index for index, picture in own}, folder.unfinished)
    about["remark"] = (engine and engine.reason) or about["remark"]
    folder.finish({**about, "explained": states["ok"], "failed": states["failed"]})
    return Run(folder.manifest, states["ok"], states["failed"], left.done, remark=about["remark"])


def _engine(
    classifier: Classifier, options: Options, earlier: EngineName | None, pictures: int, batch_size: int
) -> EagerEngine | CheckedEngine | None:
    """The engine that a run began with, or is to begin with; none for so few pictures that making one takes longer."""
    if pictures <= batch_size and options.engine == "auto" and options.precision == "float32":
        return None
    return make_engine(earlier or options.engine, classifier, pictures=pictures, precision=options.precision)


@dataclass
class _Work:
    """What a worker does with a batch, from the files to the lines of the manifest."""

    classifier: Classifier
    folder: RunFolder
    options: Options
    limit: float | None = None
    held: dict[Batch, list[Outcome]] = field(default_factory=dict)

    def __call__(self, batch: Sequence[tuple[int, Picture]]) -> list[Record]:
        pictures = tuple(picture for _, picture in batch)
        outcomes = self.held.pop(pictures, None) or explain_pictures(self.classifier, pictures, self.options)
        records = (
            write_picture(*outcome, self.folder, self.limit, self.options, blended)
            for outcome, blended in self._blended(outcomes)
        )
        return [{"index": index, **record} for (index, _), record in zip(batch, records, strict=True)]

    def _blended(self, outcomes: Iterable[Outcome]) -> Iterable[tuple[Outcome, Sequence[NDArray[np.uint8]]]]:
        """On a GPU a batch's heat is blended at once; a core blends that of each picture when its turn comes."""
        device = device_and_dtype(self.classifier.network)[0]
        if device.type == "cuda" and "overlay" in self.options.save:
            return blend_batch(outcomes, device, self.limit, self.options)
        return ((outcome, ()) for outcome in outcomes)

    def try_out(self, batches: Iterator[Batch]) -> None:
        """Let a faster engine prove itself on the same pictures always, lest a run that goes on choose another."""
        engine = self.classifier.engine
        if isinstance(engine, CheckedEngine):
            for batch in takewhile(lambda _: not engine.checked, islice(batches, _TRIES)):
                deque(explain_pictures(self.classifier, batch, self.options), maxlen=0)

    def set_scale(self, batches: Iterator[Batch], workers: int) -> None:
        """Say where the colour scale ends, None where each picture has its own; hold what was found out on the way."""
        options = self.options
        if options.scale != "run":
            self.limit = None if isinstance(options.scale, str) else float(options.scale)
        elif options.question.evidence == "posterior":
            self.limit = 1.0
        else:
            window = Window()
            window.fill(lambda batch: explain_pictures(self.classifier, batch, options), batches, workers)
            self.limit, self.held = window.limit, {} if options.shard else window.held  # a shard's batches are others


def _written(
    manifest: ManifestWriter, records: Iterable[Record], on_error: str, report: Callable[[Record], None]
) -> Iterator[str]:
    """Put lines into the manifest as they come, and give the status of each picture."""
    for record in records:
        if record["status"] == "failed" and on_error == "stop":
            found = f"The run was stopped by {record['path']!r}: {record['error'].rstrip('.')}"
            raise StoppedError(found, "Mend it or leave it out, and go on with the same command, without --overwrite")
        manifest.add(record)
        report(record)
        yield record["status"]


def _told(manifest: Path, report: Callable[[Record], None]) -> Iterator[str]:
    """Report the lines that an earlier run has left, and give the status of each picture."""
    for record, _ in read_records(manifest):
        report(record)
        yield record["status"]


def _place(pictures: Sequence[Picture]) -> str | None:
    """Where the pictures are named from: elsewhere the same names are those of others."""
    return None if all(picture.path.is_absolute() for picture in pictures) else str(Path.cwd())


def _batches(pictures: Sequence[Picture], size: int) -> Iterator[Batch]:
    return (tuple(pictures[start : start + size]) for start in range(0, len(pictures), size))
