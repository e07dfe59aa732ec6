"""Memory that a process frees and takes again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

BLOCK = 40_000_000
FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size, whatever the machine is set to
from cam.cli.process import keep_memory
{}
for number in range(12):
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * {}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Pages that the system clears for ten blocks of 40 MB, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first, BLOCK)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="another C library")
def test_what_is_freed_is_taken_again() -> None:
    pages = 10 * BLOCK / resource.getpagesize()
    assert faults("assert keep_memory()") < 0.01 * pages < 0.9 * pages < faults("")
