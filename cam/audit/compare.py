"""Compare two runs over the same images: which predictions changed, and where the change comes from."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cam.audit.difference import half_of_change, moved_share
from cam.audit.sides import Records, Side, know_all_labels, match_classes, no_common_label, open_sides, read_pair
from cam.errors import UsageError
from cam.files import write_whole
from cam.runs.manifest import Record, records_by_name

Row: TypeAlias = dict[str, Any]

MOVED = 0.5  # share of the evidence from which on the same answer counts as one from another place
VERDICTS = {
    "fixed": "wrong in A, right in B",
    "broken": "right in A, wrong in B",
    "changed": "another answer, neither known to be right",
    "moved": f"same answer, from another place: {100 * MOVED:.0f} % or more of the evidence moved",
    "same": "same answer, from the same place",
}
COLUMNS = (
    *("name", "path", "verdict", "moved", "truth", "error"),
    *(f"{key}_{run}" for run in "ab" for key in ("predicted", "probability", "correct")),
    *("class", "logit_a", "logit_b", "change", "base_change", "same_grid", "adding_error"),
)
_SETTINGS = (
    *("gapcam version", "model", "weights", "labels", "output", "activation", "head", "preprocessing"),
    *("fit", "resolution", "tta", "value_range", "bands", "precision"),
)
_NAMES = 10  # listed of images that are in one run only
_KEPT = "Only the maps of explained classes are kept without --report"


@dataclass(frozen=True)
class Comparison:
    """Facts about both runs and their images, and a row for each image: by verdict, the most moved first."""

    summary: dict[str, Any]
    rows: list[Row]

    def write(self, out: Path) -> None:
        """Write compare.json, and compare.csv with a row for each image and class, into a folder."""
        write_whole(out / "compare.json", self._json())
        write_whole(out / "compare.csv", self._csv())

    def _json(self) -> Iterator[bytes]:
        """Facts on the first line, then a line for each image."""
        start = json.dumps({**self.summary, "images": []}).removesuffix("]}")
        for row in self.rows:
            yield f"{start}\n{json.dumps(row)}".encode()
            start = ","
        yield b"\n]}\n"

    def _csv(self) -> Iterator[bytes]:
        titles = {name: name for name in COLUMNS}
        for lines in ([titles], *map(_lines, self.rows)):
            csv.DictWriter(text := io.StringIO(newline=""), COLUMNS).writerows(lines)
            yield text.getvalue().encode("utf-8", "backslashreplace")


def compare_runs(a: Path, b: Path, progress: Callable[[object], object] = lambda step: None) -> Comparison:
    """Compare all images that two runs explained, matched by name; `progress` is called for each.

    Maps are read image by image. An image whose maps cannot be read has an `error` in place of a verdict.

    Raises:
        UsageError: a folder has no finished run with maps in logits, or the runs share no image or no label.
    """
    sides = open_sides(a, b)
    rows: list[Row] = []
    only_a: list[str] = []
    notes: Counter[str] = Counter()
    found_class = False
    with records_by_name(sides[1].run.folder.manifest) as find:
        for record in sides[0].run.records():
            progress(record)
            other = find(record["name"])
            if other.get("status") != "ok":
                only_a.append(record["name"])
                continue
            rows.append(_compare(sides, (record, other)))
            matched = match_classes(sides, (record, other))
            found_class = found_class or any(None not in pair for pair in matched)
            lacks_class = know_all_labels(sides) and any(None in pair for pair in matched)
            notes.update(_notes_on(rows[-1], record, other, lacks_class=lacks_class))
    if not rows:
        first = next(sides[1].run.records())["name"]
        problem = f"{str(a)!r} and {str(b)!r} have no image of the same name, but {only_a[0]!r} and {first!r}"
        raise UsageError(problem, "Explain the same folder in both runs")
    if not found_class:
        raise no_common_label(sides)
    order = {verdict: number for number, verdict in enumerate([*VERDICTS, None])}
    rows.sort(key=lambda row: (order[row["verdict"]], row["moved"] is None, -(row["moved"] or 0), row["index"]))
    return Comparison(_summarize(sides, rows, only_a, notes), rows)


def _compare(sides: tuple[Side, Side], records: Records) -> Row:
    """The row of one image."""
    a, b = records
    right = sides[0].is_right(a, b), sides[1].is_right(b, a)
    row: Row = {"index": a["index"], "name": a["name"], "path": a["path"], "verdict": None, "moved": None}
    row |= {"truth": (a["truth"] or b["truth"] or {}).get("label"), "error": None}
    for key, record, is_right in zip("ab", records, right, strict=True):
        row[key] = {**record["predicted"], "probability": _probability(record), "correct": is_right}
    row["changes"] = []
    try:
        pair = read_pair(sides, records)
    except UsageError as error:
        row["error"] = str(error)
        return row
    own = pair.own_maps()
    row["moved"] = moved_share(own[0], own[1]) if own[0] and own[1] else None
    row["verdict"] = _verdict(len(pair.classes) == 1, right, row["moved"])
    for number, difference in pair.differences():
        boxes = half_of_change(difference, (a["size"][0], a["size"][1]))
        row["changes"].append(
            {
                "label": records[number]["predicted"]["label"],
                **{"logit_a": difference.scores[0], "logit_b": difference.scores[1], "change": difference.score},
                "base_change": difference.base,
                "same_grid": difference.same_grid,
                "adding_error": difference.error,
                "where": [{"box": list(box), "share": share} for box, share in boxes],
            }
        )
    return row


def _verdict(same_answer: bool, right: tuple[bool | None, bool | None], moved: float | None) -> str:
    if same_answer:
        return "moved" if moved is not None and moved >= MOVED else "same"
    return {(False, True): "fixed", (True, False): "broken"}.get(right, "changed")  # type: ignore[arg-type]


def _probability(record: Record) -> float | None:
    predicted = record["predicted"]["class_idx"]
    return next((one["probability"] for one in record["targets"] if one["class_idx"] == predicted), None)


def _notes_on(row: Row, a: Record, b: Record, *, lacks_class: bool) -> Iterator[str]:
    """What to note of an image; a note is given once, with the number of images."""
    if a["bytes"] != b["bytes"] or a["size"] != b["size"]:
        yield "other files of the same name in B"
    if row["error"] is None and row["moved"] is None:
        yield f"no positive evidence, or no map of a run's own answer. {_KEPT}"
    if lacks_class:
        yield "an answer that is no class of the other model, so that there is no difference"
    elif row["error"] is None and len(row["changes"]) < (1 if row["verdict"] in ("moved", "same") else 2):
        yield f"a class whose map only one run kept, so that there is no difference. {_KEPT}"
    if any(not change["same_grid"] for change in row["changes"]):
        yield "maps on different grids: the heats on the photograph are subtracted, which is not exact"


def _summarize(sides: tuple[Side, Side], rows: list[Row], only_a: list[str], notes: Counter[str]) -> dict[str, Any]:
    names = {row["name"] for row in rows}
    only_b = [record["name"] for record in sides[1].run.records() if record["name"] not in names]
    infos = [side.run.info for side in sides]
    facts = [{**info["settings"], "model": info["model"], "head": _without_cost(info["head"])} for info in infos]
    verdicts = Counter(row["verdict"] for row in rows)
    errors = [change["adding_error"] for row in rows for change in row["changes"] if change["same_grid"]]
    known = [row for row in rows if None not in (row["a"]["correct"], row["b"]["correct"])]
    return {
        "a": _describe(sides[0], known, "a"),
        "b": _describe(sides[1], known, "b"),
        "differ": list(_differing({key: [fact.get(key) for fact in facts] for key in _SETTINGS})),
        "compared": len(rows) - verdicts[None],
        "failed": verdicts[None],
        "with_truth": len(known),
        **{
            f"only_in_{name}": {"count": len(only), "names": only[:_NAMES]}
            for name, only in (("a", only_a), ("b", only_b))
        },
        "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
        "meanings": _meanings(known),
        "moved_from": MOVED,
        "largest_adding_error": max(errors, default=None),
        "by_class": _by_class(rows),
        "notes": [f"{count} image{'s' * (count != 1)} with {note}" for note, count in notes.items()],
    }


def _meanings(known: list[Row]) -> dict[str, str]:
    """What the verdicts mean; where no true class is known, none is about right and wrong."""
    if known:
        return VERDICTS
    about_truth = {"fixed", "broken"}
    return {**{name: text for name, text in VERDICTS.items() if name not in about_truth}, "changed": "another answer"}


def _describe(side: Side, known: list[Row], key: str) -> dict[str, Any]:
    info = side.run.info
    accuracy = sum(row[key]["correct"] for row in known) / len(known) if known else None
    weights = info["weights"]["sha256"] or info["weights"]["tensors_sha256"]
    method = info["head"]["method"]
    return {
        "out": str(side.run.folder.out),
        "model": info["model"],
        "weights": weights,
        "method": method,
        "accuracy": accuracy,
    }


def _without_cost(head: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in head.items() if key != "cost"}  # which follows from the model


def _differing(settings: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The settings in which the runs differ, those inside others by both names."""
    for name, (a, b) in settings.items():
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differing({f"{name} {key}": [a.get(key), b.get(key)] for key in {**a, **b}})
        elif a != b:
            text = name if name in ("weights", "labels") else f"{name} {_short(a, name)} \u2192 {_short(b, name)}"
            yield {"setting": name, "a": a, "b": b, "text": text}


def _short(value: Any, name: str = "") -> str:
    if isinstance(value, list):
        return " x ".join(map(_short, value))
    if value is None:
        return "the model's own" if name in ("fit", "resolution") else "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _by_class(rows: list[Row]) -> list[dict[str, Any]]:
    """Count the verdicts by true class, or by A's answer where that is not known; the most changes first."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["truth"] or row["a"]["label"]][row["verdict"]] += 1
    changes = {label: count["fixed"] + count["broken"] + count["changed"] for label, count in counts.items()}
    order = sorted(counts, key=lambda label: (-changes[label], -counts[label]["moved"], label))
    return [{"label": label, **{verdict: counts[label][verdict] for verdict in VERDICTS}} for label in order]


def _lines(row: Row) -> Iterator[dict[str, Any]]:
    """The rows of the table for an image: one for each class of which there is a difference, at least one."""
    same = {name: row[name] for name in COLUMNS[:6]}
    for run in "ab":
        answer = row[run]
        same |= {f"predicted_{run}": answer["label"], f"probability_{run}": answer["probability"]}
        same[f"correct_{run}"] = answer["correct"]
    for change in row["changes"] or [{}]:
        values = same | {"class": change.get("label"), **{name: change.get(name) for name in COLUMNS[13:]}}
        yield {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
