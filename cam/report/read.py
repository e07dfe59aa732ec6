"""Read what a run kept for its report."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError
from cam.report.evidence import MODEL
from cam.report.packing import unpack
from cam.runs.folder import RunFolder, read_about
from cam.runs.manifest import Record, read_records


@dataclass(frozen=True)
class Kept:
    """A finished run with the evidence of all its pictures.

    Attributes:
        folder: of the run.
        about: what it was made with.
        model: `labels`, `bias`, `logistic` and `weight`, as `model_file` writes them.
    """

    folder: RunFolder
    about: dict[str, Any]
    model: dict[str, Any]

    @classmethod
    def open(cls, out: Path) -> Kept:
        """Open the folder of a run.

        Raises:
            UsageError: there is no such run, it is not finished, or it kept no evidence.

        Example:
            >>> Kept.open(Path("nowhere"))
            Traceback (most recent call last):
            cam.errors.UsageError: 'nowhere' holds no finished run. Name the folder of a run that is done; ...
        """
        folder = RunFolder(out)
        about = read_about(folder)
        if "explained" not in about:
            remedy = "Name the folder of a run that is done; of one made with --shard, after cam merge"
            raise UsageError(f"{str(out)!r} holds no finished run", remedy)
        if not about["explained"]:
            raise UsageError(f"The run in {str(out)!r} explained no picture", "Look into its manifest for the reasons")
        try:
            return cls(folder, about, json.loads((out / MODEL).read_bytes()))
        except (OSError, ValueError):
            remedy = "Give cam explain again, with --report and --overwrite"
            raise UsageError(f"The run in {str(out)!r} kept no evidence for a report", remedy) from None

    def records(self) -> Iterator[Record]:
        """Give the lines of the manifest, in order."""
        return read_records(self.folder.manifest)

    def row(self, record: Record) -> dict[str, Any]:
        """Give what the list of pictures shows of one.

        Raises:
            UsageError: its file is missing or damaged.
        """
        return self._line(record, 1)

    def evidence(self, record: Record) -> dict[str, Any]:
        """Give what is needed to look at a picture.

        Raises:
            UsageError: its file is missing or damaged.
        """
        return self._line(record, 2)

    def _line(self, record: Record, number: int) -> dict[str, Any]:
        path = self.folder.out / record.get("files", {}).get("report", "")
        try:
            with path.open(encoding="ascii") as file:
                lines = islice(file, number, None)
                return dict(json.loads(next(lines).rstrip().removesuffix(",")))
        except (OSError, ValueError, StopIteration):
            found = f"{record['path']!r} has no evidence in {str(self.folder.out)!r}"
            raise UsageError(found, "Give its cam explain again, with --report") from None

    def cam(self, evidence: dict[str, Any], class_idx: int) -> NDArray[np.float32] | None:
        """Compute the map of a class, (h, w) float32, logit units, right to 5e-4; None where it was not kept.

        Args:
            evidence: of a picture.
            class_idx: the class.
        """
        maps = evidence["maps"]
        if maps["kind"] == "some":
            kept = {class_idx: row for row, class_idx in enumerate(maps["classes"])}
            return unpack(maps["values"])[kept[class_idx]] if class_idx in kept else None
        values = unpack(maps["values"])
        if maps["kind"] == "classes":
            return np.asarray(values[class_idx])
        return np.asarray(maps["scale"] * np.tensordot(self._weight[class_idx], values, 1))

    @cached_property
    def _weight(self) -> NDArray[np.float32]:
        """(C, K), logits a feature."""
        return np.frombuffer(b64decode(self.model["weight"]), "<f4").reshape(len(self.model["labels"]), -1)
