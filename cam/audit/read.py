"""The maps of a finished run, from the files of --save cam or from the evidence of its report."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.truth import Truth
from cam.errors import UsageError
from cam.report.packing import unpack
from cam.report.read import RunEvidence, find_truth, read_model
from cam.runs.folder import RunFolder, open_finished
from cam.runs.manifest import Record, grade, read_records


@dataclass(frozen=True)
class PlacedMap:
    """The map of one class of one image, and where its cells lie in the photograph."""

    cam: NDArray[np.float32]  # (h, w), logit units
    rows: NDArray[np.float64]  # (h,), centers of the cells, as shares of the photograph's height
    columns: NDArray[np.float64]  # (w,), as shares of its width


@dataclass(frozen=True)
class ScoredMap(PlacedMap):
    """A map with the score that it adds up to: mean(cam) + base = score."""

    seen: tuple[float, float, float, float]  # what the network saw: left, top, right, bottom as shares
    score: float  # logit of the map's input
    base: float  # the bias where the map is exact


@dataclass(frozen=True)
class RunMaps:
    """A finished run that kept maps; nothing is read before it is asked for."""

    folder: RunFolder
    info: dict[str, Any]  # its run.json
    evidence: RunEvidence | None  # of a report; None for a run with --save cam only
    truth: Truth | None = None  # true classes in place of those of the run

    @classmethod
    def open(cls, out: Path, truth: str | None = None) -> RunMaps:
        """Open a folder; UsageError without a finished run that kept maps in logits.

        `truth` is for `read_truth`, by default that of the run.
        """
        folder, info = open_finished(out)
        settings = info["settings"]
        kept = {*settings["save"], *settings["outputs"]}
        if not kept & {"cam", "report"}:
            remedy = "Run cam explain again, with --report or --save cam, and --overwrite"
            raise UsageError(f"The run in {str(out)!r} kept no maps", remedy)
        if (method := info["head"]["method"]) not in ("exact", "integrated", "shapley"):
            problem = f"The maps in {str(out)!r} are of --method {method}, and do not add up to the logit"
            raise UsageError(problem, "Run cam explain again, without --method and with --overwrite")
        if all(record["status"] != "ok" for record in read_records(folder.manifest)):
            raise UsageError(f"{str(folder.manifest)!r} is missing or damaged", "Run the same cam explain again")
        evidence = RunEvidence(folder, info, read_model(out), []) if "report" in kept else None
        if truth and evidence is None:
            problem = f"--truth {truth} needs the names of all classes, which the run in {str(out)!r} did not keep"
            raise UsageError(problem, "Give --truth to cam explain, or run it with --report")
        found = evidence and truth and find_truth(truth, read_records(folder.manifest), evidence.model["labels"])
        return cls(folder, info, evidence, found or None)

    def records(self) -> Iterator[Record]:
        """Read the lines of the images that were explained, in their order."""
        for record in read_records(self.folder.manifest):
            if record["status"] == "ok":
                yield (
                    grade(record, self.truth, self.evidence.model["labels"]) if self.truth and self.evidence else record
                )

    def entry(self, record: Record) -> dict[str, Any]:
        """Read what a report lists of an image, empty without a report; UsageError if its file is damaged."""
        return self.evidence.entry(record) if self.evidence else {}

    def map_of(self, record: Record, class_idx: int, entry: dict[str, Any] | None = None) -> PlacedMap | None:
        """Read the map of a class; None if it is not stored, UsageError if its file is missing or damaged.

        `entry` is that of the image if it has been read.
        """
        if self.evidence is None:
            return self._from_file(record, class_idx)
        listed = entry or self.entry(record)
        if class_idx == listed["top"][0][0]:  # of a clip: in the frame that is shown
            positions = listed["preview"]
            cam: NDArray[np.float32] | None = unpack(positions["map"])
        else:
            positions = self.evidence.details(record)
            cam = self.evidence.cam(positions, class_idx)
        return None if cam is None else PlacedMap(cam, np.array(positions["rows"]), np.array(positions["columns"]))

    def scored_maps(self, record: Record, classes: Iterable[int]) -> dict[int, ScoredMap]:
        """Read the maps of classes with their scores, without those that are not stored; UsageError as `map_of`."""
        if self.evidence is None:
            found = {class_idx: self._from_file(record, class_idx) for class_idx in classes}
            return {class_idx: placed for class_idx, placed in found.items() if placed}
        details = self.evidence.details(record)
        scores, maps, scored = unpack(details["map_logits"] or details["logits"]), details["maps"], {}
        rows, columns, seen = np.array(details["rows"]), np.array(details["columns"]), tuple(details["seen"])
        for class_idx in classes:
            if (cam := self.evidence.cam(details, class_idx)) is not None:
                bases = self.evidence.model["bias"]
                base = bases[class_idx] if bases else maps["bases"][maps["classes"].index(class_idx)]
                scored[class_idx] = ScoredMap(cam, rows, columns, seen, float(scores[class_idx]), base)
        return scored

    def _from_file(self, record: Record, class_idx: int) -> ScoredMap | None:
        files = {target["class_idx"]: target["files"].get("cam", "") for target in record["targets"]}
        if class_idx not in files:
            return None
        try:
            with np.load(self.folder.out / files[class_idx]) as stored:
                (height, width), (x0, y0, x1, y1) = stored["photo"].tolist(), stored["seen"].tolist()
                rows, columns = (stored["rows"] + 0.5) / height, (stored["columns"] + 0.5) / width
                seen = x0 / width, y0 / height, x1 / width, y1 / height
                numbers = float(stored["map_logit"]), float(stored["bias"])
                if not np.isfinite(cam := stored["cam"]).all():
                    raise ValueError
                return ScoredMap(cam, rows, columns, seen, *numbers)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            problem = f"{record['path']!r} has no map in {str(self.folder.out)!r}"
            raise UsageError(problem, "Run the same cam explain again, with --save cam") from None
