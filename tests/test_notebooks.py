"""The notebooks run, and keep their pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from run_notebooks import NOTEBOOKS, run


def results(notebook):
    """The kinds of the results of each cell, and what was printed as a number of lines."""
    return [
        [sorted(output.get("data", {"text": ""})) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.filterwarnings("ignore")  # of the kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_what_it_shows(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    kept = nbformat.read(path, 4)
    assert results(run(path)) == results(kept)
    assert sum("data:image/jpeg" in str(cell.get("outputs")) for cell in kept.cells) >= 2
    assert path.stat().st_size < 600_000
    nbformat.validate(kept)


def test_there_are_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["debugging_an_error", "first_look"]
