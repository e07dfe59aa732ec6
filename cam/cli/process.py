"""Settings of the process of a command: its streams, memory and imports, and a guard around a network's code."""

from __future__ import annotations

import atexit
import ctypes
import errno
import gc
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from cam.errors import ModelError
from cam.files import same_directory

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3) of the GNU C library
_LARGEST_BLOCK = 2**26  # bytes; a larger block goes back to the system when it is freed


class _Stream(io.FileIO):
    """Drops what cannot be written because its reader has gone, and anything that cannot be written once it failed."""

    failed = False

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            if not self.failed and error.errno != errno.EPIPE:
                self.failed = True
                raise
            return len(data)


class _Text(io.TextIOWrapper):
    """Stays open whoever closes it."""

    def close(self) -> None:
        self.flush()


@contextmanager
def own_streams() -> Iterator[None]:
    """Make closed streams harmless to this process, and keep standard output for its results.

    Standard output gets another descriptor, and 1 leads to standard error: what C code and child processes print.
    """
    if os.name != "posix" or sys.stdout is not sys.__stdout__:  # as in a test
        yield
        return
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the next file would get this number, and with it what is meant for a stream
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - of a descriptor, until the process ends
    sys.stdout, sys.stderr = _open(os.dup(1), sys.stdout, "strict"), _open(2, sys.stderr, "backslashreplace")
    sys.stderr.buffer.raw.failed = True  # a message that nobody can read is no reason to fail
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = sys.stderr  # for what other code prints at the end of the process


def _open(descriptor: int, before: TextIO | None, errors: str) -> Any:
    """Open a text stream with the encoding of the one before, which is None if it was closed."""
    encoding, errors = (before.encoding, before.errors or errors) if before else ("utf-8", errors)
    raw = _Stream(descriptor, "w", closefd=False)
    buffered = io.BufferedWriter(raw)
    return _Text(buffered, encoding, errors, line_buffering=descriptor == 2 or raw.isatty())


@contextmanager
def guarded() -> Iterator[None]:
    """Run a network's code: it prints to standard error, and neither ends the command unsaid nor moves it elsewhere."""
    with same_directory(), redirect_stdout(sys.stderr), redirect_stderr(sys.stderr):  # each is restored at the end
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            problem = f"The model's code ended the command ({type(error).__name__}: {error})"
            raise ModelError(problem, "Remove the call of exit() from it, or what else raises that") from error


def keep_memory() -> bool:
    """Keep freed memory in this process, in one arena for all threads; True if the C library can.

    The system clears fresh memory page by page, which takes up to a sixth of the time of large images. Call it before
    the first thread. Only the GNU C library can do this.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return False
    settings = (_TRIM_THRESHOLD, 4 * _LARGEST_BLOCK), (_MMAP_THRESHOLD, _LARGEST_BLOCK), (_ARENA_MAX, 1)
    return all(ctypes.CDLL(None).mallopt(name, value) for name, value in settings)


@contextmanager
def importing() -> Iterator[None]:
    """Import torch without garbage collection, which takes a sixth of the time and finds nothing."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # so that the end of the process frees its objects
        gc.enable()
