"""The samples, the embedded model, folders of images, and what a run leaves of them, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small import photo, three_classes
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.images.find import find_pictures
from cam.images.io import read_image, write_image
from cam.runs.manifest import Record
from cam.runs.options import RunOptions
from cam.runs.run import RunSummary, explain_folder

SAMPLES = Path(__file__).parents[1] / "samples"
FIVE = SAMPLES / "five.png"
CARD = json.loads((SAMPLES.parent / "models" / "digits.json").read_text())
DIGITS = "-m", "digits", "--device", "cpu"
PNG = *DIGITS, "--format", "png", "--save", "overlay,heat"
NAMES = sorted(path.name for path in SAMPLES.glob("*.png"))


class CutError(Exception):
    """Stands for anything that ends a run at any moment."""


# Ends its process at a picture whose pixels are all white; its weights are random.
KILLER = """
import os, signal, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)

    def forward(self, x):
        if bool((x > 2).flatten(1).all(1).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.body(x).relu().mean((2, 3)))

make = Net
"""


def cut_after(count: int) -> Callable[[Record], None]:
    """For `report`: end the run at a record."""
    records: list[Record] = []

    def cut(record: Record) -> None:
        records.append(record)
        if len(records) == count:
            raise CutError

    return cut


def animals() -> Classifier:
    return cam.wrap(three_classes(), input_size=32, labels=["cat", "dog", "bird"])


def write_photos(folder: Path, count: int = 12) -> Path:
    """Images of three sizes."""
    for number in range(count):
        write_image(folder / f"{number}.png", photo(40, 50 + number % 3, seed=number))
    return folder


def write_noise(folder: Path, count: int) -> Path:
    """Write images of several sizes that all differ; 33.png is damaged."""
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        write_image(folder / f"{number}.png", np.kron(coarse, np.ones((40, 40 + number % 5, 1), np.uint8)))
    (folder / "33.png").write_bytes(b"torn")
    return folder


def oddly_labeled() -> Classifier:
    """Labels that would be bad file names."""
    network = three_classes()
    nn.init.normal_(network[4].weight, std=2)
    return cam.wrap(network, input_size=32, labels=["Cat & Dog", "<b>bird</b>", "../魚"])


def write_odd_photos(folder: Path) -> Path:
    """Images of different sizes and content, some of similar names."""
    sizes = {"a.jpg": (40, 60), "a.png": (60, 40), "sub/a.png": (32, 32), "10.png": (50, 50), "9.png": (30, 90)}
    for seed, (name, size) in enumerate(sizes.items()):
        coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
        write_image(folder / name, np.kron(coarse, np.ones((20, 30, 1), np.uint8))[: size[0], : size[1]])
    return folder


def explain_into(
    out: Path, classifier: Classifier, *inputs: Path | str, report=lambda _: None, **options
) -> RunSummary:
    options = {"format": "png", **options}
    return explain_folder(classifier, find_pictures(inputs), out, RunOptions(**options), {}, report)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def classes(out: Path) -> dict[str, tuple[int, float]]:
    return {
        Path(line["path"]).name: (line["targets"][0]["class_idx"], round(line["targets"][0]["logit"], 3))
        for line in lines(out)
    }


def contents(out: Path) -> dict[str, bytes]:
    """All files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def assert_same_results(out: Path, expected: Path) -> None:
    """The same files and lines, and the same numbers and images up to rounding."""
    assert contents(out).keys() == contents(expected).keys()
    for ours, theirs in zip(lines(out), lines(expected), strict=True):
        assert {**ours, "targets": []} == {**theirs, "targets": []}
        for target, other in zip(ours["targets"], theirs["targets"], strict=True):
            assert target["class_idx"] == other["class_idx"]
            assert target["logit"] == pytest.approx(other["logit"], abs=1e-4)
            assert target["files"] == other["files"]
            one, two = (read_image(folder / target["files"]["overlay"]).astype(int) for folder in (out, expected))
            assert (np.abs(one - two) > 2).mean() < 0.01  # a value between two colors may become either
    scales = [json.loads((folder / "run.json").read_text())["scale"] for folder in (out, expected)]
    assert scales[0] == pytest.approx(scales[1])
