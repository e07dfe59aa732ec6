"""Read back the evidence that a run stored for its report."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.truth import Truth, read_truth
from cam.errors import UsageError
from cam.report.evidence import MODEL
from cam.report.packing import unpack
from cam.runs.folder import RunFolder, open_finished
from cam.runs.manifest import Record, read_records


@dataclass(frozen=True)
class RunEvidence:
    """A finished run (`info` is its run.json) with the evidence of its images; `model` is its model.json."""

    folder: RunFolder
    info: dict[str, Any]
    model: dict[str, Any]
    records: list[Record]  # the lines of its manifest

    @classmethod
    def open(cls, out: Path, records: Sequence[Record] = ()) -> RunEvidence:
        """Open a folder, with its manifest if that has been read; UsageError without a finished run with evidence."""
        folder, run_info = open_finished(out)
        return cls(folder, run_info, read_model(out), list(records or read_records(folder.manifest)))

    def entry(self, record: Record) -> dict[str, Any]:
        """Read what the list shows of an image; UsageError if its file is missing or damaged."""
        return self._read_line(record, 1)

    def details(self, record: Record) -> dict[str, Any]:
        """Read what opening an image needs; UsageError if its file is missing or damaged."""
        return self._read_line(record, 2)

    def _read_line(self, record: Record, number: int) -> dict[str, Any]:
        path = self.folder.out / record.get("files", {}).get("report", "")
        try:
            with path.open(encoding="ascii") as file:
                line = next(islice(file, number, None))
            return dict(json.loads(line.rstrip().removesuffix(",")))
        except (OSError, ValueError, StopIteration):
            problem = f"{record['path']!r} has no evidence in {str(self.folder.out)!r}"
            raise UsageError(problem, "Run the same cam explain again, with --report") from None

    def cam(self, details: dict[str, Any], class_idx: int) -> NDArray[np.float32] | None:
        """Compute the map of a class, (h, w) logits, right to 5e-4; None if it is not stored."""
        maps = details["maps"]
        if maps["kind"] == "selected" and class_idx not in maps["classes"]:
            return None
        values = unpack(maps["values"])
        if maps["kind"] == "features":
            return np.asarray(maps["scale"] * np.tensordot(self._weight[class_idx], values, 1))
        return np.asarray(values[maps["classes"].index(class_idx) if maps["kind"] == "selected" else class_idx])

    @cached_property
    def _weight(self) -> NDArray[np.float32]:
        """(C, K)."""
        return np.frombuffer(b64decode(self.model["weight"]), "<f4").reshape(len(self.model["labels"]), -1)


def read_model(out: Path) -> dict[str, Any]:
    """Read model.json; UsageError if it is missing or damaged."""
    try:
        return dict(json.loads((out / MODEL).read_bytes()))
    except (OSError, ValueError):
        remedy = "Run cam explain again, with --report and --overwrite"
        raise UsageError(f"The run in {str(out)!r} has no evidence for a report", remedy) from None


def find_truth(truth: str, records: Iterable[Record], labels: Sequence[str]) -> Truth:
    """Find the true classes of the images of a run; `truth` is for `read_truth`."""
    return read_truth(truth, ((record["path"], record["name"]) for record in records), labels)
