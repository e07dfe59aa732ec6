"""Processes that explain the batches of a run: each has its own classifier, and is replaced if it ends."""

from __future__ import annotations

import json
import os
import platform
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.classifiers.provenance import describe
from cam.classifiers.truth import Truth
from cam.errors import ImageError, ModelError, UsageError, reason_of
from cam.images.find import Picture
from cam.runs.explainer import Explainer, Peaks
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record
from cam.runs.options import Batch, RunOptions, first_difference, settings_of
from cam.runs.workers import in_order, threads_divided_by
from cam.runs.writing import write_picture
from cam.tensors import no_tf32

_LOADS = 3  # attempts to load the classifier in a process, before the run fails
Item = TypeVar("Item")


class ProcessDiedError(Exception):
    """The process that explained images ended."""


class Load(NamedTuple):
    """How much there is to explain."""

    images: int
    clips: int
    frames: int  # of the clips


@dataclass(frozen=True)
class Job:
    """What a process needs to know before it explains images."""

    arguments: Mapping[str, Any]  # of `load_classifier`
    folder: RunFolder
    options: RunOptions
    run_info: Mapping[str, Any]  # with the settings that it must have, too, and the working directory
    images: int  # its share
    frames: int  # likewise, of clips
    threads: int  # of torch


class Process(Protocol):
    """A process with a `ProcessExplainer`, seen from the process that runs the command."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method; raise what it raises, and ProcessDiedError if the process ends."""

    def kill(self) -> None:
        """End the process at once."""


class Backend(Protocol):
    """Where processes run: on a Ray cluster, or on this machine."""

    workers: int  # processes
    batch_size: int  # images of a call
    threads: int  # of torch in each process
    remedy: str  # for processes that end while they load the model

    def start(self) -> Process:
        """Start a process."""


def load_seeded(arguments: Mapping[str, Any], **changes: Any) -> Classifier:
    """Load the classifier, with other arguments if given; random weights are the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return load_classifier(**{**arguments, **changes})


class ProcessExplainer:
    """Runs an `Explainer` in a process, which has threads for it as a run without processes has."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def load(self, job: Job) -> tuple[str, str | None]:
        """Load the classifier, and return its device and the name of its engine."""
        host = f"machine {platform.node()!r}"
        try:
            os.chdir(job.run_info["directory"])
        except OSError as error:
            problem = f"The {host} has no folder {job.run_info['directory']!r} ({reason_of(error)})"
            raise UsageError(problem, "Run the command in a folder that all machines share") from error
        self._stack.enter_context(no_tf32())
        self._stack.enter_context(threads_divided_by(max(1, torch.get_num_threads() // job.threads)))
        classifier = load_seeded(job.arguments)
        settings = settings_of(classifier, describe(classifier, {}), job.options)
        mine = {"settings": json.loads(json.dumps(settings, default=str)), "arguments": {}}
        if mine["settings"] != job.run_info["settings"]:
            problem = f"A process on the {host} loads another model ({first_difference(job.run_info, mine)})"
            raise UsageError(problem, "All processes need the same gapcam, and --weights that all can read")
        self._explainer = Explainer(classifier, job.folder, job.options, job.images, job.frames)
        self._stack.enter_context(threads_divided_by(self._explainer.workers))
        self._threads = self._stack.enter_context(ThreadPoolExecutor(self._explainer.workers, "cam"))
        return self._explainer.device, self._explainer.engine

    def call(self, method: str, options: RunOptions, chunk: Batch) -> tuple[list[Any], str]:
        """Explain batches by a method of `Explainer`; also return why a slower engine ran."""
        explainer, size = self._explainer, self._explainer.batch_size
        if method == "explain_clips":
            results: Iterator[list[Any]] = explainer.explain_clips(options, chunk)
        else:
            batches = [chunk[start : start + size] for start in range(0, len(chunk), size)]
            results = self._threads.map(partial(getattr(explainer, method), options), batches)
        items = [item for result in results for item in result]
        explainer.forget([])
        return items, explainer.reason


class Processes:
    """A `Worker` that hands each call to one of several processes, and replaces those that end."""

    def __init__(self, backend: Backend, job: Job, labels: Sequence[str]) -> None:
        self._backend, self._job, self._labels = backend, job, labels
        self.workers, self.batch_size = backend.workers, backend.batch_size
        self._idle: queue.Queue[Any] = queue.Queue()  # processes that are ready, or an error
        self._loading: dict[threading.Thread, Process | None] = {}  # the processes that are not ready
        self._closed = False
        self.device, self.engine, self.reason = "", None, ""

    def start(self) -> None:
        """Start the processes, and wait for the first to be ready."""
        for _ in range(self.workers):
            self._start_process()
        self._idle.put(self._take())
        self.device, self.engine = self._facts

    def close(self) -> None:
        """End the processes that are not ready: Ray ends this process if a thread uses it after its shutdown."""
        self._closed = True
        while self._loading:
            for thread, process in list(self._loading.items()):
                if process is not None:
                    process.kill()
                thread.join(0.1)

    def _start_process(self) -> None:
        thread = threading.Thread(target=self._load, daemon=True)
        self._loading[thread] = None
        thread.start()

    def _load(self) -> None:
        """Start a process, and put it to the idle ones, or the error, once it is ready."""
        try:
            self._idle.put(self._load_process())
        except Exception as error:
            self._idle.put(error)
        finally:
            del self._loading[threading.current_thread()]

    def _load_process(self) -> Process:
        message = ""
        for _ in range(_LOADS):
            process = self._loading[threading.current_thread()] = self._backend.start()
            try:
                self._facts = process.call("load", self._job)
            except ProcessDiedError as error:
                message = str(error)
                process.kill()
            else:
                return process
            if self._closed:
                break
        raise ModelError(f"The processes of the run end while they load the model ({message})", self._backend.remedy)

    def _take(self) -> Any:
        """Wait for an idle process; raise the error of one that cannot be started."""
        process = self._idle.get()
        if isinstance(process, BaseException):
            self._idle.put(process)  # for the other threads
            raise process
        return process

    def _call(self, method: str, options: RunOptions, chunk: Batch) -> list[Any]:
        """Call a process; ProcessDiedError if it ends."""
        process = self._take()
        try:
            results, reason = process.call("call", method, _with_truth_of(chunk, options), chunk)
        except ProcessDiedError:
            process.kill()  # it may only be out of reach
            self._start_process()
            raise
        except Exception:
            self._idle.put(process)
            raise
        self._idle.put(process)
        self.reason = self.reason or reason
        return list(results)

    def measure(self, options: RunOptions, batch: Batch) -> list[Peaks]:
        """Explain images for the color scale; those that fail are left out."""
        return retry_alone(partial(self._call, "measure", options), batch, lambda index, picture: [])

    def explain(self, options: RunOptions, batch: Batch) -> list[Record]:
        """Explain images, write their results, and return their lines of the manifest."""
        return retry_alone(partial(self._call, "explain", options), batch, partial(self._fail, options))

    def explain_clips(self, options: RunOptions, clips: Batch) -> Generator[list[Record]]:
        """Explain clips, write their results, and yield the line of each; a process explains a clip."""
        call = partial(self._call, "explain_clips", options)
        jobs = ([clip] for clip in clips)
        yield from in_order(
            lambda job: retry_alone(call, job, partial(self._fail, options)), jobs, workers=self.workers
        )

    def _fail(self, options: RunOptions, index: int, picture: Picture) -> list[Record]:
        problem = f"{str(picture.path)!r} crashed the process that explained it twice, possibly out of memory"
        error = ImageError(problem, "Make it smaller, or convert it to another format")
        return [{"index": index, **write_picture(picture, error, self._job.folder, options, self._labels)}]

    def forget(self, inputs: Batch) -> None:
        """Do nothing: the processes keep nothing."""


@contextmanager
def running(
    backend: Backend,
    arguments: Mapping[str, Any],
    folder: RunFolder,
    options: RunOptions,
    labels: Sequence[str],
    run_info: Mapping[str, Any],
    load: Load,
) -> Iterator[Processes]:
    """Start the processes of a backend, each with its share of the images; end them afterwards."""
    images, frames = (-(-count // backend.workers) for count in (load.images, load.frames))
    job = Job(arguments, folder, _with_truth_of((), options), run_info, images, frames, backend.threads)
    processes = Processes(backend, job, labels)
    try:
        processes.start()
        yield processes
    finally:
        processes.close()


def retry_alone(
    call: Callable[[Batch], list[Item]], batch: Batch, fail: Callable[[int, Picture], list[Item]]
) -> list[Item]:
    """Call with a batch; if the process dies, once with each image alone; `fail` is for one that ends it again."""
    with suppress(ProcessDiedError):
        return call(batch)
    results: list[Item] = []
    for pair in batch:
        try:
            results += call([pair])
        except ProcessDiedError:
            results += fail(*pair)
    return results


def _with_truth_of(chunk: Batch, options: RunOptions) -> RunOptions:
    """The options with the true classes of some images only; with any one if a target needs some."""
    known = options.truth.classes
    paths = (str(picture.path) for _, picture in chunk)
    some = {path: known[path] for path in paths if path in known} or dict(islice(known.items(), 1))
    return replace(options, truth=Truth(some))
