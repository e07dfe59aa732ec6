"""How processes of this machine start; imported before torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

_LINUX = sys.platform == "linux"  # elsewhere libraries do not allow a fork
_ROOT = Path(__file__).parents[2]  # of this package, which may be a checkout
_lock = threading.Lock()


def process_context() -> Any:
    """The way in which multiprocessing starts processes."""
    return multiprocessing.get_context("forkserver" if _LINUX else "spawn")


def begin_imports() -> None:
    """Start a process that imports torch while this one does, too: those that explain are copies of it."""
    if _LINUX:
        process_context().set_forkserver_preload(["cam.runs.processes", "torchvision.models"])
        with clean_start():
            forkserver.ensure_running()


@contextmanager
def clean_start() -> Iterator[None]:
    """Let a process that starts import this package, and what is installed, and leave Ctrl-C to this process.

    From the working directory it would import a file torch.py for the library.
    """
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONSAFEPATH": "1", "PYTHONPATH": path}
    with _lock, _interrupts_blocked():
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT, which a process inherits: until it ignores it, Ctrl-C would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # whose start unblocks it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
