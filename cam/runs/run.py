"""Explain many pictures into a folder, with a manifest that accounts for every input."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.classifiers.provenance import describe
from cam.engines.checked import CheckedEngine, EngineName, check_engine, make_engine
from cam.engines.eager import EagerEngine
from cam.errors import StoppedError
from cam.explanations.explain import ImageResult
from cam.images.find import Picture, shard
from cam.runs.batches import Batch, Outcome, blend_batch, explain_batch
from cam.runs.folder import RunFolder
from cam.runs.manifest import ManifestWriter, Record, arrange, read_records
from cam.runs.options import RunOptions
from cam.runs.resume import begin, resume
from cam.runs.workers import in_order
from cam.runs.writing import write_picture
from cam.tensors import device_and_dtype, no_tf32

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
        note: why another engine than the one asked for had to run; "" where none had to.
    """

    manifest: Path
    explained: int
    failed: int
    earlier: int = 0
    gone: int = 0
    note: str = ""


def explain_folder(
    classifier: Classifier,
    pictures: Sequence[Picture],
    out: Path,
    options: RunOptions,
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
    with folder.locked(), no_tf32():
        settings = {**asdict(options), "outputs": [output.name for output in options.outputs]}
        about = {**describe(classifier, arguments or {}), "options": settings, "directory": _place(pictures)}
        about, gone = begin(folder, about, pictures, overwrite=options.overwrite)
        for output in options.outputs:
            output.write_model(folder, classifier)
        return replace(_go_on(classifier, pictures, folder, options, about, report), gone=gone)


def _go_on(
    classifier: Classifier,
    pictures: Sequence[Picture],
    folder: RunFolder,
    options: RunOptions,
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
        about["scale"] = work.vmax
    about["note"] = (engine and engine.reason) or about.get("note", "")
    folder.describe(about)
    work.vmax = about["scale"]
    states = Counter(_replay_records(folder.manifest, report))
    with (
        ManifestWriter(folder.manifest) as manifest,
        closing(in_order(work, left.batches, workers=workers, meanwhile=manifest.flush)) as batches,
    ):
        states.update(_written(manifest, chain.from_iterable(batches), options.on_error, report))
    arrange(folder.manifest, {str(picture.name): index for index, picture in own}, folder.unfinished)
    about["note"] = (engine and engine.reason) or about["note"]
    folder.finish({**about, "explained": states["ok"], "failed": states["failed"]})
    return Run(folder.manifest, states["ok"], states["failed"], left.done, note=about["note"])


def _engine(
    classifier: Classifier, options: RunOptions, earlier: EngineName | None, pictures: int, batch_size: int
) -> EagerEngine | CheckedEngine | None:
    """The engine that a run began with, or is to begin with; none for so few pictures that making one takes longer."""
    if pictures <= batch_size and options.engine == "auto" and options.precision == "float32":
        return None
    return make_engine(
        earlier or options.engine,
        classifier.network,
        classifier.head,
        classifier.preprocessing.input_shape,
        pictures=pictures,
        precision=options.precision,
    )


@dataclass
class _Work:
    """What a worker does with a batch, from the files to the lines of the manifest."""

    classifier: Classifier
    folder: RunFolder
    options: RunOptions
    vmax: float | None = None
    held: dict[Batch, list[Outcome]] = field(default_factory=dict)

    def __call__(self, batch: Sequence[tuple[int, Picture]]) -> list[Record]:
        pictures = tuple(picture for _, picture in batch)
        outcomes = self.held.pop(pictures, None) or explain_batch(self.classifier, pictures, self.options)
        records = (
            write_picture(*outcome, self.folder, self.vmax, self.options, blended)
            for outcome, blended in self._blended(outcomes)
        )
        return [{"index": index, **record} for (index, _), record in zip(batch, records, strict=True)]

    def _blended(self, outcomes: Iterable[Outcome]) -> Iterable[tuple[Outcome, Sequence[NDArray[np.uint8]]]]:
        """On a GPU a batch's heat is blended at once; a core blends that of each picture when its turn comes."""
        device = device_and_dtype(self.classifier.network)[0]
        if device.type == "cuda" and "overlay" in self.options.save:
            return blend_batch(outcomes, device, self.vmax, self.options)
        return ((outcome, ()) for outcome in outcomes)

    def try_out(self, batches: Iterator[Batch]) -> None:
        """Let a faster engine prove itself on the same pictures always, lest a run that goes on choose another."""
        engine = self.classifier.engine
        if isinstance(engine, CheckedEngine):
            for batch in takewhile(lambda _: not engine.checked, islice(batches, _TRIES)):
                deque(explain_batch(self.classifier, batch, self.options), maxlen=0)

    def set_scale(self, batches: Iterator[Batch], workers: int) -> None:
        """Say where the color scale ends, None where each picture has its own; hold what was found out on the way."""
        options = self.options
        if options.scale != "run":
            self.vmax = None if isinstance(options.scale, str) else float(options.scale)
        elif options.explain.evidence == "posterior":
            self.vmax = 1.0
        else:
            window = Window()
            window.fill(lambda batch: explain_batch(self.classifier, batch, options), batches, workers)
            self.vmax, self.held = window.vmax, {} if options.shard else window.held  # a shard's batches are others


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


def _replay_records(manifest: Path, report: Callable[[Record], None]) -> Iterator[str]:
    """Report the lines that an earlier run has left, and give the status of each picture."""
    for record in read_records(manifest):
        report(record)
        yield record["status"]


def _place(pictures: Sequence[Picture]) -> str | None:
    """Where the pictures are named from: elsewhere the same names are those of others."""
    return None if all(picture.path.is_absolute() for picture in pictures) else str(Path.cwd())


def _batches(pictures: Sequence[Picture], size: int) -> Iterator[Batch]:
    return (tuple(pictures[start : start + size]) for start in range(0, len(pictures), size))


_PICTURES, _PIXELS = 64, 100_000_000


class Window:
    """The first pictures of a run, as far as they may be held until the scale is known.

    Attributes:
        held: what was found out about each batch of them that could be held.

    Example:
        >>> window = Window()
        >>> window.fill(lambda batch: iter(()), [], workers=1)
        >>> window.vmax
        0.0
    """

    def __init__(self) -> None:
        self.held: dict[Batch, list[Outcome]] = {}
        self._limits: list[float] = []
        self._pictures = self._pixels = 0

    def fill(self, explain: Callable[[Batch], Iterator[Outcome]], batches: Iterable[Batch], workers: int) -> None:
        """Explain as many batches as it takes, side by side; some may be held beyond those that count."""
        wanted = takewhile(lambda _: not self._full, batches)
        for batch, sizes, limits, outcomes in in_order(partial(_look, explain), wanted, workers=workers, ahead=2):
            if outcomes is not None and any(limits):
                self.held[batch] = outcomes
            for size, of_picture in zip(sizes, limits, strict=True):
                if of_picture and not self._full:  # what failed has no say
                    self._pictures += 1
                    self._pixels += size
                    self._limits += of_picture

    @property
    def vmax(self) -> float:
        """The median of the maps' largest evidence: one very hot cell must not leave all other pictures dark."""
        return float(np.median(self._limits)) if self._limits else 0.0

    @property
    def _full(self) -> bool:
        return self._pictures >= _PICTURES or self._pixels >= _PIXELS


def _look(
    explain: Callable[[Batch], Iterator[Outcome]], batch: Batch
) -> tuple[Batch, list[int], list[list[float]], list[Outcome] | None]:
    """Explain a batch: the pixels and the largest evidence of its pictures, and all of it unless that is too much."""
    sizes: list[int] = []
    limits: list[list[float]] = []
    held: list[Outcome] | None = []
    for picture, outcome in explain(batch):
        found = outcome.explanations if isinstance(outcome, ImageResult) else []
        sizes.append(found[0].image.size // 3 if found else 0)
        limits.append([explanation.vmax for explanation in found])
        held = None if held is None or sum(sizes) > _PIXELS else [*held, (picture, outcome)]
    return batch, sizes, limits, held
