"""Thirty pictures, one of them torn, and runs over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small import three_classes

import cam
from cam.classifiers.classifier import Classifier
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.options import RunOptions
from cam.runs.run import Run, explain_folder

COUNT = 30


def animals() -> Classifier:
    return cam.wrap(three_classes(), input_size=32, labels=["cat", "dog", "bird"])


def pictures(folder: Path) -> Path:
    for number in range(COUNT):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
        write_image(folder / f"{number}.png", np.kron(coarse, np.ones((9, 9 + number % 3, 1), np.uint8)))
    (folder / "7.png").write_bytes(b"torn")
    return folder


def run(classifier: Classifier, folder: Path, out: Path, report=lambda record: None, **options) -> Run:
    return explain_folder(classifier, find_pictures([folder]), out, RunOptions(**options), {}, report)


def unbroken_run(classifier: Classifier, folder: Path, out: Path) -> Path:
    explained = run(classifier, folder, out)
    assert (explained.explained, explained.failed, explained.earlier) == (COUNT - 1, 1, 0)
    return out
