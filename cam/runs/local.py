"""Explain images in several processes of this machine: Python runs one thread of a process at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from cam.classifiers.classifier import Classifier
from cam.runs.explainer import batch_size_on
from cam.runs.options import RunOptions
from cam.runs.processes import Backend, Load, ProcessDiedError, ProcessExplainer
from cam.tensors import device_and_dtype

_LINUX = sys.platform == "linux"  # elsewhere libraries do not allow a fork


@dataclass(frozen=True)
class LocalProcesses:
    """Processes of this machine: how many, and how they load the classifier."""

    count: int
    arguments: Mapping[str, Any]  # of `load_classifier`
    set_up: Callable[[], Any]  # called first in each process

    def warm_up(self) -> None:
        """Begin to import torch for the processes, which are copies of one that has it."""
        if _LINUX:
            _context().set_forkserver_preload(["cam.runs.processes", "torchvision.models"])
            with _safe_path():
                forkserver.ensure_running()

    @contextmanager
    def started(self, classifier: Classifier, options: RunOptions, load: Load) -> Iterator[Backend]:
        """Yield what starts the processes; end them afterwards."""
        size = batch_size_on(device_and_dtype(classifier.network)[0].type, options)
        threads = torch.get_num_threads()
        workers = min(self.count, -(-load.images // size) + load.clips)
        backend = _LocalBackend(self.set_up, workers, size, max(1, threads // workers))
        with _safe_path():
            try:
                yield backend
            finally:
                for process in backend.started:
                    process.end()


def _context() -> Any:
    return multiprocessing.get_context("forkserver" if _LINUX else "spawn")


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep the working directory out of the path of a new interpreter: a file torch.py would replace the library."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH")
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


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
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.set_up))
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.started.append(_LocalProcess(process, ours))
        return self.started[-1]


@dataclass(frozen=True)
class _LocalProcess:
    process: Any
    connection: Connection[Any, Any]

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method; raise what it raises, and ProcessDiedError if the process ends."""
        try:
            self.connection.send((method, arguments))
            result, error = self.connection.recv()
        except (EOFError, OSError) as lost:
            self.process.join()
            raise ProcessDiedError(f"exit code {self.process.exitcode}") from lost
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        """Let the process end in order, once it has answered."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection[Any, Any], set_up: Callable[[], Any]) -> None:
    """Answer calls until the command ends, which finishes the images in progress when it is stopped."""
    for request in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request, signal.SIG_IGN)
    set_up()
    explainer = ProcessExplainer()
    with suppress(EOFError, OSError):  # the command has ended
        while True:
            method, arguments = connection.recv()
            connection.send(_answer(explainer, method, arguments))


def _answer(explainer: ProcessExplainer, method: str, arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Call a method; of a classifier that is loaded, what it prints is known from the command."""
    try:
        if method != "load":
            return getattr(explainer, method)(*arguments), None
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return explainer.load(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return None, error
