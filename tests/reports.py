"""Reports of small pictures, with file names and labels that contain markup."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
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
SHOWN = [*LABELS[:3], "\u05e9\u05dc\u05d5\u05dd [U+202E]evil", LABELS[4]]  # marks of the writing direction, written out
NAMES = [
    "<img src=x onerror=alert(1)>.png",
    "quote'\".png",
    "\u05d0\u05d1.png",
    "\U0001f98a.png",
    "=1+1.png",
    "a&b;c%20#.png",
]


def run_on_photos(folder: Path, count: int, names: Sequence[str] = ()) -> cam.Classifier:
    """Explain `count` photographs and a broken file, and store evidence in folder/run."""
    torch.manual_seed(7)
    network = gap_linear(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    classifier = cam.wrap(network, input_size=32, labels=LABELS)
    photos = folder / "photos"
    photos.mkdir()
    for number in range(count):
        name = names[number] if number < len(names) else f"p{number}.png"
        write_image(photos / name, photo(36 + number % 3, 48, number))
    (photos / "broken.png").write_bytes(b"torn")
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(classifier, find_pictures([photos]), folder / "run", options)
    return classifier


def report_with_errors(folder: Path) -> tuple[cam.Classifier, Path, list[dict]]:
    """A report in which every third prediction is wrong; the records get the `truth`."""
    classifier = run_on_photos(folder, COUNT, NAMES)
    records = [record for record in read_records(folder / "run" / "manifest.jsonl") if record["status"] == "ok"]
    for number, record in enumerate(records):
        record["truth"] = (record["targets"][0]["class_idx"] + (number % 3 == 0)) % 5
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *((r["path"], r["truth"]) for r in records)])
    return classifier, write_report(folder / "run", str(folder / "truth.csv")), records


def report_on_two(classifier: cam.Classifier, out: Path, **explain_options) -> Path:
    """A report of two photographs that extend beyond the center crop."""
    photos = out / "photos"
    photos.mkdir()
    for seed, size in enumerate([(40, 56), (50, 33)]):
        write_image(photos / f"{seed}.png", photo(*size, seed))
    options = RunOptions(explain=ExplainOptions(**explain_options), outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(classifier, find_pictures([photos]), out / "run", options)
    return write_report(out / "run")


def forty_maps() -> cam.Classifier:
    """40 class maps behind a ReLU; with a small size limit not all are stored."""
    torch.manual_seed(6)
    network = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return cam.wrap(network, input_size=32)


def wrong_ones(records: list[dict]) -> list[int]:
    return [n for n, record in enumerate(records) if record["truth"] != record["targets"][0]["class_idx"]]


def index_of(report: Path) -> dict:
    return json.loads(report.read_text("ascii").split('id="index">')[1].split("</script>")[0])


def number_of(report: Path, name: str) -> int:
    return [row["name"] for row in index_of(report)["pictures"]].index(name)
