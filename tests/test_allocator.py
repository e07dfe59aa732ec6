"""Memory that a process frees and takes again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
from cam.allocator import keep_memory
{}
for number in range(12):
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * 40_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Pages that the system clears for ten blocks of 40 MB, one after the other."""
    done = subprocess.run([sys.executable, "-c", FAULTS.format(first)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="another C library")
def test_what_is_freed_is_taken_again() -> None:
    assert faults("assert keep_memory()") < 100 < 90_000 < faults("")
