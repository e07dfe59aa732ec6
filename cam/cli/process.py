"""Set up the process of a command: memory and imports."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3) of the GNU C library

_LARGEST = 2**26  # bytes: a block of more is the system's again when it is freed

_SPARE = 4 * _LARGEST  # bytes that are kept at the end of the memory, whatever else is


def keep_memory() -> bool:
    """Let this process keep what it frees, in one place for all threads, until it ends; whether it can be told to.

    Fresh memory is cleared by the system, page by page: of large photographs, up to a sixth of the time. For a
    process that does nothing but explain pictures, and before its first thread; only the GNU C library can be told.

    Example:
        >>> isinstance(keep_memory(), bool)
        True
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return False
    settings = (_TRIM_THRESHOLD, _SPARE), (_MMAP_THRESHOLD, _LARGEST), (_ARENA_MAX, 1)
    return all(ctypes.CDLL(None).mallopt(name, value) for name, value in settings)


@contextmanager
def importing() -> Iterator[None]:
    """Import torch and what needs it, without a search for garbage among the many objects that stay.

    Such searches take a sixth of the time. What is there afterwards is left out of them until the process ends; where
    torch is there already, all is as usual.

    Example:
        >>> with importing():
        ...     import torch
        >>> torch.zeros(2).shape
        torch.Size([2])
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # the end of the process frees what it holds
        gc.enable()
