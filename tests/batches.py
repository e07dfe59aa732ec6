"""Runs over a few pictures of unlike size, by a network whose labels would make bad names of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small import three_classes
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.explanations.options import ExplainOptions
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.manifest import read_records
from cam.runs.options import RunOptions
from cam.runs.run import Run, explain_folder


def oddly_labeled() -> Classifier:
    network = three_classes()
    nn.init.normal_(network[4].weight, std=2)
    return cam.wrap(network, input_size=32, labels=["Cat & Dog", "<b>bird</b>", "../魚"])


def unlike_pictures(folder: Path) -> Path:
    """Pictures of unlike size and content, several of like names."""
    for number, (name, size) in enumerate(
        {"a.jpg": (40, 60), "a.png": (60, 40), "sub/a.png": (32, 32), "10.png": (50, 50), "9.png": (30, 90)}.items()
    ):
        coarse = np.random.default_rng(number).integers(0, 256, (3, 3, 3), np.uint8)
        image = np.kron(coarse, np.ones((30, 30, 1), np.uint8))[: size[0], : size[1]]
        image = np.pad(image, ((0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)))
        path = folder / name
        if path.suffix == ".png":
            write_image(path, image)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path.with_suffix(".webp"), image)
            write_image(path, image)
            path.with_suffix(".webp").unlink()
    return folder


def run(classifier: Classifier, folder: Path, out: Path, fit=None, **options) -> list[dict]:
    options = RunOptions(explain=ExplainOptions(fit=fit), **options)
    return records_of(explain_folder(classifier, find_pictures([folder]), out, options))


def records_of(run: Run) -> list[dict]:
    records = list(read_records(run.manifest))
    assert [record["status"] for record in records].count("ok") == run.explained
    assert len(records) == run.explained + run.failed
    return records
