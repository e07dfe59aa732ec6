"""The report of a run: report.html, and beside it what is too much for one file."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup
from cam.evaluation.labels import Truth, read_truth
from cam.files import write_whole
from cam.report.evidence import as_json
from cam.report.html import make_page
from cam.report.packing import unpack
from cam.report.read import Kept
from cam.report.summary import Summary
from cam.runs.folder import REPORT, THUMBNAILS
from cam.runs.manifest import Record

_IN_ONE_FILE = 100  # pictures

_COLORMAPS = "signed", "cividis", "viridis", "turbo"


def write_report(out: Path, truth: str | None = None) -> Path:
    """Write the report of a run that kept evidence of all classes.

    Up to 100 pictures are in the page itself; of more, it loads each one's evidence from its own file when it is
    looked at, and thumbnails a hundred at a time.

    Args:
        out: folder of the run.
        truth: what the pictures show, as `read_truth` understands.

    Returns:
        The page.

    Raises:
        UsageError: the folder holds no finished run with evidence, or the truth cannot be understood.
        OutputError: it cannot be written.

    Example:
        >>> write_report(Path("nowhere"))
        Traceback (most recent call last):
        cam.errors.UsageError: 'nowhere' holds no finished run. Name the folder of a run that is done; ...
    """
    kept = Kept.open(out)
    with kept.folder.locked():
        shards = kept.about["explained"] > _IN_ONE_FILE
        index = _index(kept, truth, shards=shards)
        evidence = (
            () if shards else (as_json(kept.evidence(record)) for record in kept.records() if record["status"] == "ok")
        )
        write_whole(out / REPORT, make_page(index, evidence, shards=shards).encode("ascii"))
    return out / REPORT


def _index(kept: Kept, truth: str | None, *, shards: bool) -> dict[str, Any]:
    """What the page knows from the start, thumbnails included unless they are in shards."""
    names = ((record["path"], record.get("name", "")) for record in kept.records())  # older lines may have none
    found = _Found(kept, read_truth(truth, names, kept.model["labels"]), shards=shards)
    rmtree(kept.folder.out / THUMBNAILS, ignore_errors=True)  # there may have been more pictures
    for record in kept.records():
        found.add(record)
    found.write_thumbnails()
    return {
        "title": f"{kept.about['model']}, {len(found.rows)} picture{'s' if len(found.rows) != 1 else ''}",
        **kept.model,
        "drawing": _drawing(kept.about, found.peaks),
        "about": _about(kept.about),
        "pictures": found.rows,
        "failed": found.failed,
        "summary": found.summary.to_json(),
        "thumbnails": _IN_ONE_FILE if shards else None,
    }


class _Found:
    """What is found in the lines of a run, one after the other."""

    def __init__(self, kept: Kept, truth: Truth, *, shards: bool) -> None:
        self._kept, self._truth, self._shards = kept, truth, shards
        self._thumbnails: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self.peaks: list[float] = []
        self.summary = Summary()

    def add(self, record: Record) -> None:
        if record["status"] != "ok":
            self.failed.append({"path": record["path"], "error": record["error"]})
            return
        row = self._kept.row(record)
        cam = unpack(row.pop("map"))
        row |= {"path": record["path"], "name": record["name"], "truth": self._truth(record["path"])}
        self.peaks.append(float(np.abs(cam).max()))
        self.rows.append(row)
        self._sum_up(record, row, cam)
        if self._shards:
            row["file"] = quote(os.fsencode(record["files"]["report"]))
            self._thumbnails.append(row.pop("thumbnail"))
        if len(self._thumbnails) == _IN_ONE_FILE:
            self.write_thumbnails()

    def _sum_up(self, record: Record, row: dict[str, Any], cam: NDArray[np.float32]) -> None:
        truth, predicted = row["truth"], row["top"][0][0]
        self.summary.add(row, cam, truth)
        if truth not in (None, predicted):
            other = self._kept.cam(self._kept.evidence(record), truth)
            self.summary.add_confusion(truth, predicted, None if other is None else cam - other)

    def write_thumbnails(self) -> None:
        """Write those at hand into a script that the page loads when it shows them."""
        if self._thumbnails:
            number = (len(self.rows) - 1) // _IN_ONE_FILE
            path = self._kept.folder.out / THUMBNAILS / f"{number}.js"
            write_whole(path, f"gapcam.keep({as_json(self._thumbnails)})\n".encode("ascii"))
            self._thumbnails = []


def _drawing(about: dict[str, Any], peaks: list[float]) -> dict[str, Any]:
    """How the page draws from the start: as the run did, with the color maps that it may choose among."""
    options = about["options"]
    own = about["scale"] if options["explain"]["evidence"] == "logit" else None
    names = dict.fromkeys([options["colormap"].lower(), *_COLORMAPS])
    return {
        "vmax": own or float(np.median(peaks)) or 1.0,
        "scale": "picture" if options["scale"] == "image" else "run",
        "opacity": options["opacity"],
        "colormap": options["colormap"].lower(),
        "colormaps": {name: b64encode(lookup(name).tobytes()).decode() for name in names},
    }


def _about(about: dict[str, Any]) -> dict[str, Any]:
    """What the page says of how it was made."""
    weights = about["weights"]["sha256"] or about["weights"]["tensors_sha256"]
    return {
        "model": about["model"],
        "head": about["head"]["kind"],
        "weights": weights,
        "version": about["versions"]["gapcam"],
    }
