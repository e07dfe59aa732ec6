"""Audit a run: which images of a class share evidence that does not belong with the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.audit.collect import Collected, collect
from cam.audit.likeness import near_duplicates
from cam.audit.read import RunMaps
from cam.audit.separation import MIN_CLASSES, MIN_IMAGES, Group, chances, find_group, noise, split, stand_out
from cam.files import write_whole
from cam.report.write import AUDIT, REPORT, write_report
from cam.runs.folder import fingerprint
from cam.version import VERSION

MAX_CHANCE = 0.01  # above which a group does not stand out
MIN_SCORE = 2.0  # below which it does not where classes are too few to tell chance
_CHANNELS = 3  # named of a group
_LISTED, _SHOWN = 10, 2000  # groups that do not stand out; images of a class in its scatter


@dataclass(frozen=True)
class Finding:
    """A group of images of one class whose evidence at one place is not like that of the others."""

    class_idx: int
    label: str
    images: int  # predicted as the class, or of that class in truth
    members: list[str] = field(repr=False)  # paths of the group, the most typical first
    cells: list[tuple[int, int]]  # (row, column) of the map
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 of the cells in the first member, shares of its size
    place: str  # such as "top right"
    separation: float  # distance of the means there over the pooled deviation
    score: float  # robust standard deviations from the other cells and classes
    chance: float | None  # how often some class would score as high by chance; None with fewer than five classes
    stands_out: bool
    logits: float  # that the cells add to the score of a member; without them its logit is lower by as much
    logits_of_others: float  # that they add to the scores of the other images of the class
    channels: list[tuple[int, float]]  # of the features, that members have more of, with D; the three clearest
    correct: float | None  # share of the members that are predicted correctly; None if that is not known
    correct_of_others: float | None


@dataclass(frozen=True)
class Scatter:
    """Up to 2000 images of one class in a plane, those with like maps near each other."""

    class_idx: int
    images: list[int]  # indices into `Audit.paths`
    x: list[float]  # from 0 to 1, along the direction that divides the class best
    y: list[float]  # from 0 to 1, along what differs most besides


@dataclass(frozen=True)
class Audit:
    """What an audit of a run found, the most suspicious group first."""

    file: Path  # audit.json
    grid: tuple[int, int]  # cells of the maps
    classes: int  # with enough images to be judged
    findings: list[Finding]  # all that stand out, then up to ten that do not
    scatters: list[Scatter] = field(repr=False)  # of all classes that were judged
    paths: list[str] = field(repr=False)
    duplicates: list[list[str]]  # paths of sets of images with nearly the same features; empty if these are not stored
    notes: list[str]  # what was left out or assumed
    report: Path | None  # report.html, which shows the groups; None for a run without a report

    @property
    def standing_out(self) -> list[Finding]:
        """The findings that chance does not explain."""
        return [finding for finding in self.findings if finding.stands_out]

    def summary(self) -> dict[str, Any]:
        """What it found, ready for JSON; of the images that were compared only the number."""
        files = {"file": str(self.file), "report": str(self.report) if self.report else None}
        found = {**asdict(self), **files, "images": len(self.paths)}
        del found["paths"], found["scatters"]
        return found


def audit_run(out: Path, truth: str | None = None, notify: Callable[[str], object] = lambda text: None) -> Audit:
    """Look for groups of images whose evidence does not belong with the rest of their class, and write audit.json.

    A run with a report gets its report.html written again, with the groups.

    The images of a class are those predicted as it and, where the truth is known, those that belong to it. Their maps
    are compared cell by cell; no network is run. Needs a finished run that kept maps in logits (`--report` or `--save
    cam`). They lie in a file meanwhile, those of one class at a time in memory. `truth` and `notify` are as for
    `write_report`. The same run gives the same results.

    Raises:
        UsageError: the run kept no maps, or none can be read.
        OutputError: audit.json cannot be written.
    """
    run = RunMaps.open(out, truth)
    with run.folder.locked(), TemporaryDirectory(prefix=".audit-", dir=out) as folder:
        collected = collect(run, Path(folder))
        judged = list(_findings(collected))
        duplicates = _duplicates(collected)
        ranked = sorted(
            (finding for finding, _ in judged), key=lambda finding: (not finding.stands_out, -finding.score)
        )
        listed = ranked[: sum(finding.stands_out for finding in ranked) + _LISTED]
        grid = collected.maps.shape[1], collected.maps.shape[2]
        notes = [*_few(collected, len(judged)), *collected.notes]
        scatters = [scatter for _, scatter in judged]
        report = out / REPORT if run.evidence else None
        audit = Audit(out / AUDIT, grid, len(judged), listed, scatters, collected.paths, duplicates, notes, report)
        del collected  # Windows removes no file that is open
        data = {"gapcam": VERSION, "run": fingerprint(run.info), "model": run.info["model"], **asdict(audit)}
        del data["file"], data["report"]
        write_whole(audit.file, (json.dumps(data) + "\n").encode(), run.folder.unfinished)
    if run.evidence:
        write_report(out, truth, notify)
    return audit


def _duplicates(collected: Collected) -> list[list[str]]:
    sets = near_duplicates(collected.features, collected.predicted)
    return [[collected.paths[image] for image in collected.described[images]] for images in sets]


def _few(collected: Collected, judged: int) -> list[str]:
    """Say that there is nothing to compare, or too little to tell chance."""
    _, counts = np.unique(collected.classes, return_counts=True)
    enough = int((counts >= MIN_IMAGES).sum())
    notes = {
        f"too few images: a class needs {MIN_IMAGES}, and the largest has {counts.max()}": enough == 0,
        f"left out {enough - judged} class{'es' * (enough - judged != 1)} of images that are all alike": enough
        > judged,
        f"with fewer than {MIN_CLASSES} classes chance is not known: a score of {MIN_SCORE:g} or more stands out": (
            judged and enough < MIN_CLASSES
        ),
    }
    return [note for note, holds in notes.items() if holds]


def _findings(collected: Collected) -> Iterator[tuple[Finding, Scatter]]:
    """The group that stands out most in each class that has enough images."""
    classes, counts = np.unique(collected.classes, return_counts=True)
    classes = classes[counts >= MIN_IMAGES]
    if not len(classes):
        return
    splits, noises, rng = [], [], np.random.default_rng(0)
    for class_idx in classes:
        values = collected.maps[collected.classes == class_idx].reshape(-1, collected.maps[0].size)
        splits.append(split(values))
        noises.append(noise(values, rng))
    scores = stand_out(np.stack([found.contrast for found in splits]), np.stack(noises))
    highest = scores.max(1)
    by_chance: list[float | None] = [None] * len(classes)
    if len(classes) >= MIN_CLASSES:
        by_chance = list(chances(highest))
    for n, class_idx in enumerate(map(int, classes)):
        rows, cell, chance = np.flatnonzero(collected.classes == class_idx), int(scores[n].argmax()), by_chance[n]
        group = find_group(collected.maps[rows], cell, float(splits[n].threshold[cell]))
        if group is None:
            continue
        finding = Finding(
            class_idx=class_idx,
            label=collected.labels[class_idx],
            images=len(rows),
            score=float(highest[n]),
            chance=chance,
            stands_out=bool(highest[n] >= MIN_SCORE if chance is None else chance <= MAX_CHANCE),
            **_describe(collected, rows, group),
        )
        yield finding, _scatter(class_idx, collected.images[rows], group)


def _scatter(class_idx: int, images: NDArray[np.int64], group: Group) -> Scatter:
    shown = np.unique(np.linspace(0, len(images) - 1, _SHOWN).round().astype(int))
    x, y = group.positions[shown].round(4).T.tolist()
    return Scatter(class_idx, images[shown].tolist(), x, y)


def _describe(collected: Collected, rows: NDArray[np.int64], group: Group) -> dict[str, Any]:
    """What a finding says of a group of the maps in some rows."""
    images, (height, width) = collected.images[rows], collected.maps.shape[1:]
    first = group.typical[0]
    y0, x0, y1, x1 = collected.extents[rows[first]]
    cells = np.array(group.cells)
    step = np.array([(y1 - y0) / (height - 1) if height > 1 else 1, (x1 - x0) / (width - 1) if width > 1 else 1])
    low = np.array([y0, x0]) + (cells.min(0) - 0.5) * step
    high = np.array([y0, x0]) + (cells.max(0) + 0.5) * step
    top, left, bottom, right = np.clip([*low, *high], 0, 1).tolist()
    return {
        "members": [collected.paths[image] for image in images[group.typical]],
        "cells": group.cells,
        "box": (left, top, right, bottom),
        "place": _place((cells.mean(0) + 0.5) / (height, width)),
        "separation": group.separation,
        "logits": group.logits,
        "logits_of_others": group.logits_of_others,
        "channels": _channels(collected, images, group.members),
        "correct": _share_correct(collected.correct[images[group.members]]),
        "correct_of_others": _share_correct(collected.correct[images[~group.members]]),
    }


def _channels(collected: Collected, images: NDArray[np.int64], members: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """The channels that most set members apart from the others of their class; none if features are not stored."""
    stored = np.isin(images, collected.described)
    inside, outside = (
        collected.features[np.searchsorted(collected.described, images[stored & side])].astype(np.float64)
        for side in (members, ~members)
    )
    if not len(inside) or not len(outside):
        return []
    pooled = np.sqrt((len(inside) * inside.var(0) + len(outside) * outside.var(0)) / (len(inside) + len(outside)))
    apart = (inside.mean(0) - outside.mean(0)) / (pooled + 1e-3 * pooled.max() + 1e-12)
    clearest = np.argsort(-apart, kind="stable")[:_CHANNELS]
    return [(int(channel), float(apart[channel])) for channel in clearest if apart[channel] > 0]


def _place(center: NDArray[np.float64]) -> str:
    """Name a place (y, x) from 0 to 1 by thirds: "top right", "left", "center"."""
    row, column = (min(int(3 * share), 2) for share in center)
    return f"{('top', '', 'bottom')[row]} {('left', '', 'right')[column]}".strip() or "center"


def _share_correct(correct: NDArray[np.float64]) -> float | None:
    known = correct[~np.isnan(correct)]
    return float(known.mean()) if len(known) else None
