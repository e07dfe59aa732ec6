"""Settings of the process of a command: memory and imports."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3) of the GNU C library
_LARGEST_BLOCK = 2**26  # bytes; a larger block goes back to the system when it is freed


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
