"""Run the notebooks of docs/notebooks and keep their results: `python tools/run_notebooks.py`."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in the project's folder; an error of a cell is raised."""
    notebook: nbformat.NotebookNode = nbformat.read(path, 4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=300, coalesce_streams=True, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data.pop("image/png", None)  # the same picture again
    return notebook


if __name__ == "__main__":
    for file in NOTEBOOKS:
        nbformat.write(run(file), file)  # type: ignore[no-untyped-call]
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
