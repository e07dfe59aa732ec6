"""The C library's memory, kept from picture to picture."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3) of the GNU C library
_ALWAYS, _MOST = 2**31 - 1, 2**30  # bytes: what is freed stays; what is smaller than this is taken from there


def keep_memory() -> bool:
    """Let this process keep what it frees, in one place for all threads, until it ends; whether it can be told to.

    Fresh memory is cleared by the system, page by page: of photographs of 12 megapixels, a sixth of the time. For a
    process that does nothing but explain pictures, and before its first thread; only the GNU C library can be told.

    Example:
        >>> isinstance(keep_memory(), bool)
        True
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return False
    told = ctypes.CDLL(None).mallopt
    return all(
        told(name, value) for name, value in ((_TRIM_THRESHOLD, _ALWAYS), (_MMAP_THRESHOLD, _MOST), (_ARENA_MAX, 1))
    )
