"""Reports of small pictures, with names and labels that try to be more than names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from small import gap_linear, photo
from torch import nn

import cam
from cam.explanations.options import ExplainOptions
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.manifest import read_records
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

COUNT = 24
LABELS = [
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    'it\'s "quoted" & <b>bold</b>',
    "\u05e9\u05dc\u05d5\u05dd \u202eevil",
    "\U0001f98a=1+1",
]
NAMES = [
    "<img src=x onerror=alert(1)>.png",
    "quote'\".png",
    "\u05d0\u05d1.png",
    "\U0001f98a.png",
    "=1+1.png",
    "a&b;c%20#.png",
]


def explained(folder: Path, count: int, names: list[str] | None = None) -> cam.Classifier:
    torch.manual_seed(7)
    network = gap_linear(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    classifier = cam.wrap(network, input_size=32, labels=LABELS)
    pictures = folder / "photos"
    pictures.mkdir()
    for number in range(count):
        name = (names or [])[number] if number < len(names or []) else f"p{number}.png"
        write_image(pictures / name, photo(36 + number % 3, 48, number))
    (pictures / "broken.png").write_bytes(b"torn")
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(classifier, find_pictures([pictures]), folder / "run", options)
    return classifier


def errors_reported(folder: Path) -> tuple[cam.Classifier, Path, list[dict]]:
    """A report with errors among its pictures: every third is said to show the class after the predicted one."""
    classifier = explained(folder, COUNT, NAMES)
    records = [record for record in read_records(folder / "run" / "manifest.jsonl") if record["status"] == "ok"]
    truth = {r["path"]: (r["targets"][0]["class_idx"] + (i % 3 == 0)) % 5 for i, r in enumerate(records)}
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *truth.items()])
    report = write_report(folder / "run", str(folder / "truth.csv"))
    for record in records:
        record["truth"] = truth[record["path"]]
    return classifier, report, records


def state(page, key):
    return page.evaluate("(key) => gapcam.state.current[key]", key)


def listed(page) -> list[int]:
    return page.evaluate("gapcam.list.listed()")


def wrong(records: list[dict]) -> list[int]:
    return [i for i, record in enumerate(records) if record["truth"] != record["targets"][0]["class_idx"]]


def index_of(report: Path) -> dict:
    return json.loads(report.read_text("ascii").split('id="index">')[1].split("</script>")[0])


def many_maps() -> cam.Classifier:
    """Class maps behind a ReLU, of which some are kept."""
    torch.manual_seed(6)
    network = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return cam.wrap(network, input_size=32)


def report_of(classifier: cam.Classifier, out: Path, **question) -> Path:
    """A report of two photographs, of which parts lie outside the center crop."""
    folder = out / "photos"
    folder.mkdir()
    for seed, size in enumerate([(40, 56), (50, 33)]):
        write_image(folder / f"{seed}.png", photo(*size, seed))
    options = RunOptions(explain=ExplainOptions(**question), outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(classifier, find_pictures([folder]), out / "run", options)
    return write_report(out / "run")
