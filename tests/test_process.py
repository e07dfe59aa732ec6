"""The process of a command keeps its memory, and imports torch without garbage collection."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys

import pytest

from cam.cli.process import importing

BLOCK = 40_000_000
COUNT_PAGE_FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size on every machine
from cam.cli.process import keep_memory
{}
for number in range(12):
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * {}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
IMPORT = """
import gc
from cam.cli.process import importing
with importing():
    assert not gc.isenabled()
    import {}
assert gc.isenabled()
print(gc.get_freeze_count() > 10_000)
"""


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="another C library")
def test_freed_memory_is_used_again():
    pages = 10 * BLOCK / resource.getpagesize()
    kept, usual = (int(run_python(COUNT_PAGE_FAULTS.format(first, BLOCK))) for first in ("assert keep_memory()", ""))
    assert kept < 0.01 * pages < 0.9 * pages < usual


def test_garbage_collection_skips_imported_objects():
    assert run_python(IMPORT.format("torch")) == "True\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_changes_if_torch_is_imported_already(enabled):
    frozen = gc.get_freeze_count()
    if not enabled:
        gc.disable()
    try:
        with importing():
            assert gc.isenabled() == enabled
        assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, frozen)
    finally:
        gc.enable()
