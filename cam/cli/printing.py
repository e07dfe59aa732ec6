"""What the commands print."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from math import floor, isfinite, log10
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Column, Table

if TYPE_CHECKING:
    from pathlib import Path

    from cam.audit.audit import Audit, Finding
    from cam.audit.compare import Comparison
    from cam.classifiers.inspection import Inspection
    from cam.evaluation.benchmark import Evaluation
    from cam.runs.manifest import Record
    from cam.runs.run import RunSummary

_ROWS, _FAILURES, _MEMBERS, _MOST_MOVED = 20, 100, 3, 5  # shown at most
_FACTS = (  # of run.json, that --json prints
    *("explained", "failed", "left_out", "truth", "note", "notes"),
    *("model", "weights", "head", "activation", "preprocessing", "versions"),
)


@contextmanager
def progress(total: int, silent: bool) -> Iterator[Callable[[object], None]]:
    """Show a progress bar on standard error if that is a terminal; yields the function that advances it."""
    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda step: bar.advance(task)


class RunTable:
    """What a run shows at its end: its first images and rows, and the failures; `advance` moves its progress bar."""

    def __init__(self) -> None:
        self.advance: Callable[[object], None] = lambda record: None
        self.first: list[Record] = []
        self.rows: list[tuple[Record, dict[str, Any]]] = []  # an image and a class
        self.row_count = 0
        self.failures: dict[str, str] = {}  # by path
        self.predicted: Counter[int] = Counter()  # images by their predicted class

    def add(self, record: Record) -> None:
        """Count a record, and keep its error."""
        self.advance(record)
        rows = [(record, target) for target in record["targets"][:_ROWS]]
        self.first = sorted([*self.first, record], key=itemgetter("index"))[:_ROWS]
        self.rows = sorted([*self.rows, *rows], key=lambda row: int(row[0]["index"]))[:_ROWS]
        self.row_count += len(record["targets"])
        if record["status"] == "failed":
            self.failures[record["path"]] = record["error"]
        else:
            self.predicted[record["predicted"]["class_idx"]] += 1


def show_run(run: RunSummary, run_table: RunTable, *, as_json: bool, quiet: bool) -> None:
    """Show the result of a run: a table, failed images with their errors, and where the results are."""
    out, info, rows = run.manifest.parent, run.info, run_table.rows
    if as_json:
        places = {"out": str(out), "manifest": str(run.manifest)}
        facts = {"earlier": run.earlier, **places, **{name: info[name] for name in _FACTS}}
        print(json.dumps({**facts, "errors": run_table.failures, "images": run_table.first}, indent=2))
        return
    show_failures(run_table.failures)
    if quiet:
        return
    if info["note"]:
        _console(stderr=True).print(f"slower: {printable(info['note'])}", soft_wrap=True)
    console = _console()
    if rows:
        console.print(_table(rows))
    if more := run_table.row_count - len(rows):
        console.print(f"... and {more} more in {printable(run.manifest)}", soft_wrap=True)
    if info["left_out"]:
        from cam.images.find import describe_left_out

        console.print(printable(describe_left_out(info["left_out"])), soft_wrap=True)
    if (expected := info["settings"]["expect"]) is not None:
        met = run_table.predicted[expected]
        over = "; there the map is over the runner-up" if met else ""
        console.print(f"predicted as expected: {met} of {run.explained}{over}", soft_wrap=True)
    truth = info["truth"] or {"images": 0, "unmatched": {}}
    if count := truth["images"]:
        images = f"{count} image{'s' * (count != 1)} with a known class"
        console.print(f"accuracy {100 * truth['accuracy']:.1f} % of {images}")
    if truth["unmatched"]:
        from cam.classifiers.truth import describe_unmatched

        console.print(printable(describe_unmatched(truth["unmatched"])), soft_wrap=True)
    gone = f"not among the inputs, and out of the manifest: {run.gone} of an earlier run\n" if run.gone else ""
    earlier = f" ({run.earlier} explained by an earlier run)" if run.earlier else ""
    console.print(f"{gone}{run.explained} explained, {run.failed} failed{earlier}: {printable(out)}", soft_wrap=True)


def show_notes(notes: Sequence[str], silent: bool) -> None:
    """Say what is assumed of a model, on standard error."""
    for note in () if silent else notes:
        _console(stderr=True).print(printable(note), soft_wrap=True)


def show_failures(failures: Mapping[str, str]) -> None:
    """Show which images failed and why, on standard error."""
    table = Table(Column("failed", overflow="fold"), Column("why", overflow="fold"), box=None, pad_edge=False)
    for path, error in islice(failures.items(), _FAILURES):
        table.add_row(printable(path), printable(error))
    console = _console(stderr=True)
    if failures:
        console.print(table)
    if more := len(failures) - table.row_count:
        console.print(f"... and {more} more failed; see the manifest", soft_wrap=True)


def show_inspection(inspection: Inspection) -> None:
    """Show the facts about a model's head, one per line."""
    table = Table.grid(padding=(0, 2))
    for name, value in inspection.to_json().items():
        if value is not None and name != "labels":
            table.add_row(name.replace("_", " "), printable(_fact(value)))
    _console().print(table)


def show_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """Show the results of a benchmark: a row for each metric and method, or JSON."""
    if as_json:
        print(evaluation.to_json(), end="")
        return
    show_failures(evaluation.failed)
    table = Table("metric", "maps", "value", "95 % interval", "n", box=None)
    for row in evaluation.rows:
        span = f"{_number(row.low)} to {_number(row.high)}" if isfinite(row.low) else "-"
        figures = _number(row.value), span, str(row.count)
        table.add_row(printable(row.metric), printable(row.method), *figures)
    console = _console()
    console.print(table)
    settings = ", ".join(f"{name} {_fact(value)}" for name, value in evaluation.settings.items())
    images = f"{evaluation.pictures} image{'s' * (evaluation.pictures != 1)}"
    images += f" ({evaluation.unrecognized} more not recognized)" if evaluation.unrecognized else ""
    line = f"{evaluation.benchmark}: {evaluation.model}, {images}, seed {evaluation.seed}"
    console.print(printable(f"{line}; {settings}"), soft_wrap=True)


def show_audit(audit: Audit) -> None:
    """Show the groups that stand out, with the paths of typical members, or the strongest one that does not."""
    console = _console()
    shown = audit.standing_out or audit.findings[:1]
    names = Column("class", overflow="fold"), Column("group", no_wrap=True), "place"
    table = Table(*names, "sd apart", "chance", "logit from there", "correct", box=None)
    for finding in shown:
        table.add_row(*(printable(cell) for cell in _finding_row(finding)))
    if shown:
        if not audit.standing_out:
            console.print("The strongest group, which does not stand out:")
        console.print(table)
    for finding in audit.standing_out:
        paths = ", ".join(finding.members[:_MEMBERS])
        console.print(printable(f"{finding.label}, {finding.place}: {paths}"), soft_wrap=True)
    for note in audit.notes:
        console.print(printable(f"note: {note}"), soft_wrap=True)
    if sets := audit.duplicates:
        images = f"{sum(map(len, sets))} images in {len(sets)} set{'s' * (len(sets) != 1)}"
        console.print(
            printable(f"near-duplicates: {images}, the first: {', '.join(sets[0][:_MEMBERS])}"), soft_wrap=True
        )
    count = len(audit.standing_out)
    found = f"{count} group{'s' * (count != 1)} stand{'s' * (count == 1)} out" if count else "nothing stands out"
    found = found if audit.classes else "no class compared"
    images = f"{len(audit.paths)} image{'s' * (len(audit.paths) != 1)}"
    classes = f" {audit.classes} class{'es' * (audit.classes != 1)}," if audit.classes else ""
    console.print(f"{found}: {images},{classes} {printable(audit.file)}", soft_wrap=True)
    if audit.report and audit.classes:
        console.print(f"See Summary in {printable(audit.report)}", soft_wrap=True)


def _finding_row(finding: Finding) -> tuple[str, ...]:
    chance = "-" if finding.chance is None else f"{finding.chance:.1g}"
    digits = max(2, 1 - floor(log10(abs(finding.logits) or 1)))
    correct = "-"
    if finding.correct is not None and finding.correct_of_others is not None:
        correct = f"{finding.correct:.0%} (others {finding.correct_of_others:.0%})"
    return (
        finding.label,
        f"{len(finding.members)} of {finding.images}",
        finding.place,
        f"{finding.separation:.1f}",
        chance,
        f"{finding.logits:+.{digits}f} (others {finding.logits_of_others:+.{digits}f})",
        correct,
    )


def show_comparison(comparison: Comparison, page: Path) -> None:
    """Show what changed between two runs: how many images by verdict, and the five that moved most."""
    summary, console = comparison.summary, _console()
    show_failures({row["path"]: row["error"] for row in comparison.rows if row["error"]})
    for key in "ab":
        accuracy = summary[key]["accuracy"]
        right = "" if accuracy is None else f": {100 * accuracy:.1f} % of {summary['with_truth']} right"
        console.print(
            f"{key.upper()}  {printable(summary[key]['out'])}, {printable(summary[key]['model'])}{right}",
            soft_wrap=True,
        )
    differ = ", ".join(difference["text"] for difference in summary["differ"])
    console.print(printable(f"The runs differ in {differ}" if differ else "No setting differs"), soft_wrap=True)
    table = Table("images", "verdict", "", box=None)
    for verdict, meaning in summary["meanings"].items():
        table.add_row(str(summary["verdicts"][verdict]), verdict, meaning)
    console.print(table)
    moved = [row for row in comparison.rows if row["moved"] is not None]
    rows = sorted(moved, key=lambda row: -float(row["moved"]))[:_MOST_MOVED]
    names = (Column(name, overflow="fold") for name in ("most moved", "A", "B"))
    table = Table(*names, Column("moved", no_wrap=True), box=None)
    for row in rows:
        table.add_row(
            *(printable(text) for text in (row["name"], row["a"]["label"], row["b"]["label"])), f"{row['moved']:.0%}"
        )
    if rows:
        console.print(table)
    only = [(key, summary[f"only_in_{key}"]["count"]) for key in "ab"]
    notes = [f"{count} image{'s' * (count != 1)} explained in {key.upper()} only" for key, count in only if count]
    for note in [*notes, *summary["notes"]]:
        console.print(printable(note), soft_wrap=True)
    console.print(f"{summary['compared']} compared, {summary['failed']} failed: {printable(page)}", soft_wrap=True)


def show_models(models: Sequence[dict[str, str]]) -> None:
    """Show the names for -m."""
    table = Table("model", "from", "description", box=None)
    for model in models:
        table.add_row(*(printable(model[key]) for key in ("name", "source", "description")))
    _console().print(table)


def _console(*, stderr: bool = False) -> Console:
    """Standard output or error, for text without markup; wide in a pipe, so that lines stay whole."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000 if stderr else 200
    return console


def _table(rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Table:
    names = Column("image", overflow="fold"), Column("class", overflow="fold")
    scores = ("value",) if rows[0][1]["probability"] is None else ("probability", "logit")
    table = Table(*names, *(Column(name, no_wrap=True) for name in (*scores, "peak (y, x)")), box=None)
    for record, target in rows:
        score = f"margin {target['margin']:+.2f}" if "margin" in target else f"{target['logit']:.2f}"
        shares = () if target["probability"] is None else (f"{100 * target['probability']:.1f} %",)
        figures = *shares, score, str(tuple(target["peak"]))
        against = f" over {target['against']['label']}" if "against" in target else ""
        moment = f" at {record['clip']['time']:.1f} s" if "clip" in record else ""  # the frame that stands for a clip
        table.add_row(printable(record["path"]) + moment, printable(target["label"] + against), *figures)
    return table


def _number(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " x ".join(_fact(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def printable(text: object) -> str:
    """Replace what a terminal cannot print, or would obey as a command."""
    characters = (character if character.isprintable() else "?" for character in str(text))
    return "".join(characters).encode("utf-8", "replace").decode()
