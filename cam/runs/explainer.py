"""The worker of a run: a classifier with its engine, which turns batches of images into lines of the manifest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Protocol, TypeAlias

import torch

from cam.classifiers.classifier import Classifier
from cam.engines.checked import CheckedEngine, make_engine
from cam.engines.eager import EagerEngine
from cam.runs.batches import Outcome, explain_batch, explanations_of, pixels_of, process_batch
from cam.runs.clips import explain_clip
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record
from cam.runs.options import Batch, RunOptions
from cam.tensors import device_and_dtype, room_for_model

_BATCH = {"cpu": 4, "cuda": 32}  # images; on the CPU each core runs its own batch
SCALE_IMAGES, SCALE_PIXELS = 64, 100_000_000  # after which the color scale is set
Peaks: TypeAlias = tuple[int, list[float]]  # the pixels of an image, and the end of the scale of each of its maps


class Worker(Protocol):
    """What explains the batches of a run: an `Explainer` in this process, or several processes."""

    workers: int  # batches at a time
    batch_size: int
    device: str

    @property
    def engine(self) -> str | None:
        """The name of the engine; None if the network itself is run."""

    @property
    def reason(self) -> str:
        """Why a slower engine ran; "" if none did."""

    def measure(self, options: RunOptions, batch: Batch) -> list[Peaks]:
        """Explain images for the color scale, or as many as it takes; those that fail are left out."""

    def explain(self, options: RunOptions, batch: Batch) -> list[Record]:
        """Explain images, write their results, and return their lines of the manifest."""

    def explain_clips(self, options: RunOptions, clips: Batch) -> Generator[list[Record]]:
        """Explain clips, write their results, and yield the line of each."""

    def forget(self, inputs: Batch) -> None:
        """Forget what `measure` has explained besides these images."""


class Explainer:
    """Explains batches in this process, by the same two methods with and without other processes.

    What `measure` has explained is kept for `explain`.
    """

    def __init__(
        self, classifier: Classifier, folder: RunFolder, options: RunOptions, images: int, frames: int = 0
    ) -> None:
        device = device_and_dtype(classifier.network)[0]
        self.device = str(device)
        self.batch_size = batch_size_on(device.type, options)
        self.workers, self._frame_workers = (_workers(count, self.batch_size) for count in (images, frames))
        self._engine = choose_engine(classifier, options, images + frames, self.batch_size)
        self._classifier, self._folder = replace(classifier, engine=self._engine), folder
        self._explained: dict[int, Outcome] = {}

    @property
    def engine(self) -> str | None:
        """The name of the engine; None if the network itself is run."""
        return self._engine.name if self._engine else None

    @property
    def reason(self) -> str:
        """Why a slower engine ran; "" if none did."""
        return self._engine.reason if self._engine else ""

    def measure(self, options: RunOptions, batch: Batch) -> list[Peaks]:
        """Explain images for the color scale, or as many as may be held in memory; those that fail are left out."""
        peaks: list[Peaks] = []
        pixels = 0
        outcomes = explain_batch(self._classifier, [picture for _, picture in batch], options)
        for (index, _), outcome in zip(batch, outcomes, strict=False):
            if explanations := explanations_of(outcome):
                self._explained[index] = outcome
                peaks.append((pixels_of(outcome), [explanation.vmax for explanation in explanations]))
                pixels += pixels_of(outcome)
            if pixels >= SCALE_PIXELS:
                break
        return peaks

    def explain(self, options: RunOptions, batch: Batch) -> list[Record]:
        """Explain images, write their results, and return their lines of the manifest."""
        return process_batch(self._classifier, self._folder, options, self._explained, batch)

    def explain_clips(self, options: RunOptions, clips: Batch) -> Generator[list[Record]]:
        """Explain clips, write their results, and yield the line of each; the workers share the frames of a clip."""
        size, workers = self.batch_size, self._frame_workers
        for index, picture in clips:
            record = explain_clip(self._classifier, self._folder, options, size, workers, picture)
            yield [{"index": index, **record}]

    def forget(self, inputs: Batch) -> None:
        """Forget what `measure` has explained besides these images."""
        self._explained = {index: self._explained[index] for index, _ in inputs if index in self._explained}


def _workers(images: int, size: int) -> int:
    """One for each core, but not more than there are batches: a single batch gets all threads."""
    return max(1, min(torch.get_num_threads(), -(-images // size)))


def batch_size_on(device: str, options: RunOptions) -> int:
    """The images of a batch on a type of device."""
    return options.batch_size or _BATCH.get(device, 32)


def choose_engine(
    classifier: Classifier, options: RunOptions, images: int, size: int
) -> EagerEngine | CheckedEngine | None:
    """Make an engine, unless making it takes longer than the images do."""
    name, precision = options.engine, options.precision
    if images <= size and (images == 0 or (name, precision) == ("auto", "float32")):
        return None
    shape = classifier.preprocessing.input_shape
    classifier.check_unchanged()
    with room_for_model(device_and_dtype(classifier.network)[0]):
        return make_engine(name, classifier.network, classifier.head, shape, images=images, precision=precision)
