"""Bring the maps of a run to one grid, in a file, so that those of one class can be read together."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.audit.read import PlacedMap, RunMaps
from cam.errors import UsageError
from cam.files import open_whole
from cam.report.packing import unpack

_SHIFT = 0.02  # of a side: images whose cells lie farther from those of the first one are counted


@dataclass(frozen=True)
class Collected:
    """M maps of N images: of the predicted class of each, and of the true one where that is another."""

    paths: list[str]  # (N,)
    correct: NDArray[np.float64]  # (N,), 1 where the prediction is the true class, 0 where not, NaN where not known
    labels: dict[int, str]
    maps: NDArray[np.float16]  # (M, h, w), logits, in a file; three digits are enough to compare many
    images: NDArray[np.int64]  # (M,), which image
    classes: NDArray[np.int64]  # (M,), class of the map
    features: NDArray[np.float32]  # (F, K), averaged over the positions, in a file; of the images that have them stored
    described: NDArray[np.int64]  # (F,), which image
    predicted: NDArray[np.int64]  # (F,), its class
    extents: NDArray[np.float64]  # (M, 4): y0, x0, y1, x1 of the outer cells' centers, shares of the photograph
    notes: list[str]  # what was left out or assumed


def collect(run: RunMaps, folder: Path) -> Collected:
    """Write maps, on the grid of the first, and features of a run into files; UsageError if no map can be read."""
    paths: list[str] = []
    labels: dict[int, str] = {}
    problems: list[str] = []
    correct, images, classes, extents = array("d"), array("q"), array("q"), array("d")
    described, predicted = array("q"), array("q")
    grid: tuple[int, int] | None = None
    resized = missing = 0
    with open_whole(folder / "maps") as stored, open_whole(folder / "features") as stored_features:
        for record in run.records():
            named = {
                chosen["class_idx"]: chosen["label"] for chosen in (record["predicted"], record["truth"]) if chosen
            }
            try:
                entry = run.entry(record)
                maps = {class_idx: run.map_of(record, class_idx, entry) for class_idx in named}
            except UsageError as error:
                problems.append(error.problem)
                continue
            for class_idx, placed in maps.items():
                if placed is None:
                    missing += 1
                    continue
                grid = grid or (placed.cam.shape[0], placed.cam.shape[1])
                resized += placed.cam.shape != grid
                stored.write(_on_grid(placed.cam, grid).tobytes())
                images.append(len(paths))
                classes.append(class_idx)
                extents.extend(_extent(placed))
            if "features" in entry:  # not in runs of earlier versions
                stored_features.write(unpack(entry["features"]).tobytes())
                described.append(len(paths))
                predicted.append(record["predicted"]["class_idx"])
            paths.append(record["path"])
            correct.append(np.nan if record["correct"] is None else record["correct"])
            labels |= named
    if grid is None:
        problem = problems[0] if problems else f"The run in {str(run.folder.out)!r} kept no map of a predicted class"
        raise UsageError(problem, "Run the same cam explain again" if problems else "Run cam explain with --report")
    places = np.array(extents).reshape(-1, 4)
    return Collected(
        paths=paths,
        correct=np.array(correct),
        labels=labels,
        maps=np.memmap(folder / "maps", np.float16, "r", shape=(len(images), *grid)),
        images=np.array(images),
        classes=np.array(classes),
        features=_features(folder / "features", len(described)),
        described=np.array(described),
        predicted=np.array(predicted),
        extents=places,
        notes=_notes(problems, missing, resized, grid, places),
    )


def _features(file: Path, images: int) -> NDArray[np.float32]:
    return np.memmap(file, np.float32, "r").reshape(images, -1) if images else np.empty((0, 0), np.float32)


def _on_grid(cam: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float16]:
    if cam.shape != grid:
        cam = np.asarray(cv2.resize(cam, grid[::-1], interpolation=cv2.INTER_LINEAR))
    largest = np.finfo(np.float16).max
    return np.asarray(cam.clip(-largest, largest), np.float16)


def _extent(placed: PlacedMap) -> tuple[float, float, float, float]:
    return placed.rows[0], placed.columns[0], placed.rows[-1], placed.columns[-1]


def _notes(
    problems: list[str], missing: int, resized: int, grid: tuple[int, int], places: NDArray[np.float64]
) -> list[str]:
    """Say what was left out or assumed."""
    elsewhere = int((np.abs(places - places[0]).max(1) > _SHIFT).sum())
    images, others = (f"{count} image{'s' * (count != 1)}" for count in (len(problems), elsewhere))
    notes = {
        f"left out {images} without a map, the first: {''.join(problems[:1])}": len(problems),
        f"{missing} maps of predicted or true classes are not stored; --report keeps them": missing,
        f"{resized} maps of other grids were resized to {grid[0]} x {grid[1]} cells": resized,
        f"of {others} the network saw another part than of the first, by shape or crop: "
        "there the same cell is another place in the photograph": elsewhere,
    }
    return [note for note, count in notes.items() if count]
