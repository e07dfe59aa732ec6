"""The classes and maps of one image in two runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cam.audit.difference import Difference, subtract
from cam.audit.read import RunMaps, ScoredMap
from cam.errors import UsageError
from cam.runs.manifest import Record

Records = tuple[Record, Record]  # of one image in A and in B


@dataclass(frozen=True)
class Side:
    """One of the two runs, which finds its classes by those of the other."""

    run: RunMaps
    same_labels: bool  # as the other, so that a class has one index

    @cached_property
    def labels(self) -> dict[str, int] | None:
        """The classes by their names, if the run kept all."""
        evidence = self.run.evidence
        return _by_name(enumerate(evidence.model["labels"])) if evidence else None

    def find(self, record: Record, named: dict[str, Any]) -> int | None:
        """Find the index of a class that the other run named; None if this one has, or names, no such class."""
        if self.same_labels:
            return int(named["class_idx"])
        named_here = [record["predicted"], *record["targets"], *filter(None, [record["truth"]])]
        labels = self.labels or _by_name((one["class_idx"], one["label"]) for one in named_here)
        name = _plain(named["label"])
        return labels.get(name, labels.get(name.partition(", ")[0]))

    def is_right(self, record: Record, other: Record) -> bool | None:
        """True if the prediction is the true class, which the other run may know; None if it is not known."""
        if record["correct"] is not None or other["truth"] is None:
            return None if record["correct"] is None else bool(record["correct"])
        true_class = self.find(record, other["truth"])
        return None if true_class is None else true_class == record["predicted"]["class_idx"]


@dataclass(frozen=True)
class Pair:
    """One image in both runs: its classes as (index in A, index in B), and their maps.

    The first class is A's answer; a second one is B's, if that is another. None stands for a class that is not found.
    """

    records: Records
    classes: list[tuple[int | None, int | None]]
    maps: tuple[dict[int, ScoredMap], dict[int, ScoredMap]]

    def map_of(self, side: int, number: int) -> ScoredMap | None:
        """The map of one of the classes in A (0) or B (1), if that run kept it."""
        class_idx = self.classes[number][side]
        return None if class_idx is None else self.maps[side].get(class_idx)

    def own_maps(self) -> tuple[ScoredMap | None, ScoredMap | None]:
        """The map of A's answer in A, and of B's in B."""
        return self.map_of(0, 0), self.map_of(1, -1)

    def differences(self) -> Iterator[tuple[int, Difference]]:
        """Subtract the maps of each class that both runs kept, with the number of the class."""
        for number in range(len(self.classes)):
            a, b = self.map_of(0, number), self.map_of(1, number)
            if a and b and (difference := subtract(a, b)):
                yield number, difference


def open_sides(a: Path, b: Path) -> tuple[Side, Side]:
    """Open two finished runs that kept maps; UsageError if they are one, or share no label."""
    if a.resolve() == b.resolve():
        raise UsageError(f"RUN_A and RUN_B are the same folder, {str(a)!r}", "Name two runs over the same images")
    first, second = (RunMaps.open(out) for out in (a, b))
    same = first.info["settings"]["labels"] == second.info["settings"]["labels"]
    sides = Side(first, same), Side(second, same)
    labels = [side.labels for side in sides]
    if not same and labels[0] and labels[1] and not labels[0].keys() & labels[1].keys():
        raise no_common_label(sides)
    return sides


def no_common_label(sides: tuple[Side, Side]) -> UsageError:
    """The error for runs whose classes cannot be matched."""
    a, b = (str(side.run.folder.out) for side in sides)
    remedy = "Run cam explain again, with --report, which keeps all labels, and with the same --labels"
    if know_all_labels(sides):
        remedy = "Compare models of the same classes, or give both runs the same --labels"
    return UsageError(f"The classes of {a!r} and {b!r} share no label", remedy)


def know_all_labels(sides: tuple[Side, Side]) -> bool:
    """True if both runs kept the labels of all classes."""
    return all(side.run.evidence is not None for side in sides)


def match_classes(sides: tuple[Side, Side], records: Records) -> list[tuple[int | None, int | None]]:
    """Match the classes that matter, as `Pair` has them."""
    answers = [record["predicted"] for record in records]
    classes: list[tuple[int | None, int | None]]
    classes = [(answers[0]["class_idx"], sides[1].find(records[1], answers[0]))]
    if classes[0][1] != answers[1]["class_idx"]:
        classes.append((sides[0].find(records[0], answers[1]), answers[1]["class_idx"]))
    return classes


def read_pair(sides: tuple[Side, Side], records: Records) -> Pair:
    """Read the maps of an image; UsageError if a file is missing or damaged."""
    classes = match_classes(sides, records)
    first, second = (
        sides[side].run.scored_maps(records[side], [c for c in classes_of_run if c is not None])
        for side, classes_of_run in enumerate(zip(*classes, strict=True))
    )
    return Pair(records, classes, (first, second))


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


def _by_name(classes: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Classes by label, and by the first of several names ("tench, Tinca tinca") where that means one class only."""
    labels = {_plain(label): class_idx for class_idx, label in classes}
    first_names: dict[str, set[int]] = {}
    for label, class_idx in labels.items():
        first_names.setdefault(label.partition(", ")[0], set()).add(class_idx)
    return {name: min(found) for name, found in first_names.items() if len(found) == 1} | labels
