"""Explain images in several processes of this machine: Python runs one thread of a process at a time."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import torch

from cam.classifiers.classifier import Classifier
from cam.runs.explainer import batch_size_on
from cam.runs.options import RunOptions
from cam.runs.processes import Backend, Load, ProcessDiedError, ProcessExplainer
from cam.runs.starting import clean_start, process_context
from cam.tensors import device_and_dtype

_BATCHES = 4  # for each thread of a process in a call, at the end of which some threads are idle


@dataclass(frozen=True)
class LocalProcesses:
    """Processes of this machine: how many, and how they load the classifier."""

    count: int
    arguments: Mapping[str, Any]  # of `load_classifier`
    set_up: Callable[[], Any]  # called first in each process

    @contextmanager
    def started(self, classifier: Classifier, options: RunOptions, load: Load) -> Iterator[Backend]:
        """Yield what starts the processes, which share the cores; end them afterwards."""
        size = batch_size_on(device_and_dtype(classifier.network)[0].type, options)
        workers = min(self.count, -(-load.images // size) + load.clips)
        threads = max(1, torch.get_num_threads() // workers)
        images = size if threads == 1 else _BATCHES * threads * size
        backend = _LocalBackend(self.set_up, workers, images, threads)
        try:
            yield backend
        finally:
            for process in backend.started:
                process.end()


@dataclass
class _LocalBackend:
    set_up: Callable[[], Any]
    workers: int
    batch_size: int
    threads: int
    remedy = "Give a smaller number to --processes; 1 explains in the process of the command"
    started: list[_LocalProcess] = field(default_factory=list)

    def start(self) -> _LocalProcess:
        """Start a process."""
        context = process_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.set_up))
        with clean_start():
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.started.append(_LocalProcess(process, ours))
        return self.started[-1]


@dataclass(frozen=True)
class _LocalProcess:
    process: Any
    connection: Connection[Any, Any]
    lock: threading.Lock = field(default_factory=threading.Lock)  # the end of the run may meet that of the process

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method; raise what it raises, and ProcessDiedError if the process ends."""
        try:
            self.connection.send((method, arguments))
            result, error = self.connection.recv()
        except (EOFError, OSError) as lost:
            raise ProcessDiedError(self._how_it_ended()) from lost
        if error is not None:
            raise error
        return result

    def _how_it_ended(self) -> str:
        with self.lock, suppress(ValueError):  # closed
            self.process.join()
            return f"exit code {self.process.exitcode}"
        return "killed"

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ValueError):  # closed
            self.process.kill()
        self.end()

    def end(self) -> None:
        """Let the process end in order, once it has answered, and close what belongs to it."""
        with self.lock, suppress(ValueError):  # closed
            self.connection.close()
            self.process.join()
            self.process.close()


def _serve(connection: Connection[Any, Any], set_up: Callable[[], Any]) -> None:
    """Answer calls until the command ends, which finishes the images in progress when it is stopped."""
    for request in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request, signal.SIG_IGN)
    set_up()
    explainer = ProcessExplainer()
    # Open to the end: what is imported while a classifier is loaded may keep it, as handlers of logging do.
    with Path(os.devnull).open("w") as nowhere, suppress(EOFError, OSError):  # the command has ended
        while True:
            method, arguments = connection.recv()
            connection.send(_answer(explainer, nowhere, method, arguments))


def _answer(
    explainer: ProcessExplainer, nowhere: TextIO, method: str, arguments: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    """Call a method; of a classifier that is loaded, what it prints is known from the command."""
    try:
        if method != "load":
            return getattr(explainer, method)(*arguments), None
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            return explainer.load(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return None, error
