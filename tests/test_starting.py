"""Commands start quickly and leave the search for garbage as it was."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from cam.cli.process import importing

PROGRAM = """
import gc
from cam.cli.process import importing
with importing():
    assert not gc.isenabled()
    import torch
assert gc.isenabled()
print(gc.get_freeze_count() > 10_000)
"""


def test_what_is_imported_is_left_out_of_searches_that_go_on():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("True\n", "")


def test_an_import_that_fails_leaves_the_collector_on():
    program = PROGRAM.replace("import torch", "import nowhere")
    program = f"try:\n    exec({program!r})\nexcept ModuleNotFoundError:\n    import gc; print(gc.isenabled())"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_where_torch_is_there_all_is_as_usual(enabled):
    frozen = gc.get_freeze_count()
    if not enabled:
        gc.disable()
    try:
        with importing():
            assert gc.isenabled() == enabled
        assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, frozen)
    finally:
        gc.enable()
