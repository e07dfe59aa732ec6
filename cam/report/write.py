"""Write report.html, and files of previews if there are many images."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.activations import Activation, activate
from cam.classifiers.truth import Truth, describe_unmatched
from cam.drawing.colormaps import lookup
from cam.errors import UsageError
from cam.files import write_whole
from cam.report.evidence import script_json
from cam.report.html import make_page
from cam.report.packing import unpack
from cam.report.read import RunEvidence, find_truth
from cam.report.summary import Summary
from cam.runs.folder import fingerprint
from cam.runs.manifest import Record

REPORT = "report.html"
AUDIT = "audit.json"
_NO_AUDIT: dict[str, Any] = {"grid": None, "groups": [], "scatters": {}, "duplicates": []}
PREVIEWS = "report/previews"
_IN_ONE_FILE = 100  # images in the page itself, and previews per file
_COLORMAPS = "signed", "viridis", "inferno", "turbo"


def write_report(
    out: Path,
    truth: str | None = None,
    notify: Callable[[str], object] = lambda text: None,
    records: Sequence[Record] = (),
) -> Path:
    """Write the page of a run that stored evidence, and return its path.

    `truth` is for `read_truth`, by default that of the run; `notify` is called with a line if it has labels that match
    no class, or if the evidence of images is missing. `records` are the lines of the manifest, if they have been read.

    Up to 100 images are in the page itself. With more, the page loads the evidence of an image when it is opened, and
    previews, which are thumbnails with the maps of their predicted classes, a hundred at a time.
    """
    run = RunEvidence.open(out, records)
    with run.folder.locked():
        loads_files = run.info["explained"] > _IN_ONE_FILE
        if truth:
            found = find_truth(truth, run.records, run.model["labels"])
            if found.unmatched:
                notify(describe_unmatched(found.unmatched))
        else:
            found = Truth({record["path"]: record["truth"]["class_idx"] for record in run.records if record["truth"]})
        index = _make_index(run, found.classes, loads_files=loads_files)
        records = () if loads_files else run.records
        shown = {entry["path"] for entry in index["pictures"]}
        if missing := run.info["explained"] - len(shown):
            notify(f"left out {missing} image{'s' * (missing > 1)} without evidence; run the same cam explain again")
        evidence = (script_json(run.details(record)) for record in records if record["path"] in shown)
        write_whole(out / REPORT, make_page(index, evidence, loads_files=loads_files).encode("ascii"))
    return out / REPORT


def _make_index(run: RunEvidence, true_classes: Mapping[str, int], *, loads_files: bool) -> dict[str, Any]:
    """What the page knows from the start."""
    rmtree(run.folder.out / PREVIEWS, ignore_errors=True)  # an earlier report may have had more images
    entries, failed, peaks, summary = [], [], [], Summary()
    for record in run.records:
        if record["status"] != "ok":
            failed.append({"path": record["path"], "error": record["error"]})
            continue
        try:
            entry, peak = _list_picture(run, record, true_classes.get(record["path"]), summary, loads_files=loads_files)
        except UsageError as error:  # its evidence is missing or damaged
            failed.append({"path": record["path"], "error": str(error)})
            continue
        peaks.append(peak)
        if loads_files:
            entry["file"] = quote(os.fsencode(record["files"]["report"]))
        if original := _find_original(run, record["path"]):
            entry["original"] = original
        entries.append(entry)
        if loads_files and len(entries) % _IN_ONE_FILE == 0:
            _move_previews(run.folder.out, entries)
    if not entries:
        problem = f"The run in {str(run.folder.out)!r} has no evidence of any image"
        raise UsageError(problem, "Run the same cam explain again, with --report")
    if loads_files and len(entries) % _IN_ONE_FILE:
        _move_previews(run.folder.out, entries)
    return {
        "title": f"{run.info['model']}, {len(entries)} picture{'s' if len(entries) != 1 else ''}",
        **run.model,
        "drawing": _drawing(run.info, peaks),
        "about": {
            "model": run.info["model"],
            "head": run.info["head"]["kind"],
            "weights": run.info["weights"]["sha256"] or run.info["weights"]["tensors_sha256"],
            "version": run.info["versions"]["gapcam"],
        },
        "pictures": entries,
        "failed": failed,
        "summary": summary.to_json(),
        "audit": _read_audit(run, entries),
        "previews": _IN_ONE_FILE if loads_files else None,
    }


def _list_picture(
    run: RunEvidence, record: Record, truth: int | None, summary: Summary, *, loads_files: bool
) -> tuple[dict[str, Any], float]:
    """What the page lists of an image, which is added to the summary, and the largest value of its map."""
    entry = run.entry(record)
    entry.pop("features", None)  # for cam audit
    entry |= {"path": record["path"], "name": record["name"], "truth": truth}
    cam, (predicted, _, probability) = unpack(entry["preview"]["map"]), entry["top"][0]
    entry["self_confidence"] = probability if truth == predicted else None
    is_wrong = truth not in (None, predicted)
    details = run.details(record) if is_wrong or not loads_files else {}
    if is_wrong and truth is not None:
        true_cam = run.cam(details, truth)
        entry["self_confidence"] = _probability(unpack(details["logits"]), truth, run.model["activation"])
        summary.add_confusion(truth, predicted, None if true_cam is None else cam - true_cam)
    summary.add(entry, cam)
    return entry, float(np.abs(cam).max())


def _probability(logits: NDArray[np.float32], class_idx: int, activation: Activation) -> float | None:
    """The probability of a class by logits (C,); None if they are values."""
    probability = float(activate(torch.from_numpy(logits)[None], activation)[0, class_idx])
    return None if isnan(probability) else probability


def _read_audit(run: RunEvidence, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What cam audit found in this run, with the numbers of images; nothing if it audited another run."""
    try:
        audit = json.loads((run.folder.out / AUDIT).read_bytes())
        if audit["run"] != fingerprint(run.info):
            return _NO_AUDIT
        numbers = {entry["path"]: number for number, entry in enumerate(entries)}
        scatters = {
            scatter["class_idx"]: {**scatter, "images": [numbers[audit["paths"][image]] for image in scatter["images"]]}
            for scatter in audit["scatters"]
        }
        groups = [
            {**finding, "members": [numbers[path] for path in finding["members"]]}
            for finding in audit["findings"]
            if finding["stands_out"]
        ]
        duplicates = [[numbers[path] for path in paths] for paths in audit["duplicates"]]
        grid = audit["grid"]
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
        return _NO_AUDIT
    return {"grid": grid, "groups": groups, "scatters": scatters, "duplicates": duplicates}


def _find_original(run: RunEvidence, path: str) -> str | None:
    """Return the address of an image's file as seen from the page; None if it is not there, or in an archive."""
    file = os.path.join(run.info["directory"], path)  # noqa: PTH118
    if not os.path.isfile(file):  # noqa: PTH113 - pathlib raises without permission
        return None
    try:
        relative = Path(os.path.relpath(file, run.folder.out))
    except ValueError:  # on another drive of Windows
        return None
    return quote(os.fsencode(relative.as_posix()))


def _move_previews(out: Path, entries: list[dict[str, Any]]) -> None:
    """Move the previews of the last hundred entries into a script that the page loads when it shows them."""
    number = (len(entries) - 1) // _IN_ONE_FILE
    previews = [entry.pop("preview") for entry in entries[number * _IN_ONE_FILE :]]
    write_whole(out / PREVIEWS / f"{number}.js", f"gapcam.receive({script_json(previews)})\n".encode("ascii"))


def _drawing(info: dict[str, Any], peaks: list[float]) -> dict[str, Any]:
    """How the page draws at first: as the run did; and the colormaps that it offers."""
    settings = info["settings"]
    run_scale = info["scale"] if settings["evidence"] == "logit" else None
    colormap = settings["colormap"].lower()
    names = dict.fromkeys((colormap, *_COLORMAPS))  # each once
    return {
        "vmax": run_scale or float(np.median(peaks)) or 1.0,
        "scale": "picture" if settings["scale"] == "image" else "run",
        "opacity": settings["opacity"],
        "photo": settings["photo"],
        "colormap": colormap,
        "colormaps": {name: b64encode(lookup(name).tobytes()).decode() for name in names},
    }
