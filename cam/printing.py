"""What the commands show on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from cam.evaluation.results import Evaluation
    from cam.inspection import Inspection

_ROWS = 20


@contextmanager
def progress(total: int, silent: bool) -> Iterator[Callable[[object], None]]:
    """Show progress on standard error where that is a terminal; give what moves it on by one picture."""
    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task)


def show_run(records: Sequence[dict[str, Any]], out: Path, *, as_json: bool, quiet: bool) -> None:
    """Show what became of the pictures: a short table, what failed, and where the results are."""
    failed = [record for record in records if record["status"] == "failed"]
    if as_json:
        summary = {"explained": len(records) - len(failed), "failed": len(failed), "out": str(out)}
        print(json.dumps({**summary, "errors": {record["path"]: record["error"] for record in failed}}, indent=2))
        return
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    for record in failed:
        errors.print(f"[red]failed[/] {_plain(record['path'])}: {_plain(record['error'])}")
    if quiet:
        return
    console = _console()
    rows = [(record, target) for record in records for target in record["targets"]]
    if rows:
        console.print(_table(rows[:_ROWS]))
    if len(rows) > _ROWS:
        console.print(f"... and {len(rows) - _ROWS} more in {_plain(out / 'manifest.jsonl')}", soft_wrap=True)
    console.print(f"{len(records) - len(failed)} explained, {len(failed)} failed: {_plain(out)}", soft_wrap=True)


def show_inspection(inspection: Inspection) -> None:
    """Show what is known of a model's head, a line a fact."""
    table = Table.grid(padding=(0, 2))
    for name, value in inspection.to_json().items():
        if value is not None:
            table.add_row(name.replace("_", " "), _plain(_fact(value)))
    _console().print(table)


def show_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """Show who did how well: a table with a row for each metric and contender, or JSON."""
    if as_json:
        print(evaluation.to_json(), end="")
        return
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    for path, why in evaluation.failed.items():
        errors.print(f"[red]failed[/] {_plain(path)}: {_plain(why)}")
    table = Table("metric", "maps", "value", "95 % interval", "n", box=None)
    for row in evaluation.rows:
        figures = _number(row.value), f"{_number(row.low)} to {_number(row.high)}", str(row.count)
        table.add_row(_plain(row.metric), _plain(row.contender), *figures)
    console = _console()
    console.print(table)
    settings = ", ".join(f"{name} {_fact(value)}" for name, value in evaluation.settings.items())
    about = f"{evaluation.game}: {evaluation.model}, {evaluation.pictures} pictures, seed {evaluation.seed}; {settings}"
    console.print(_plain(about), soft_wrap=True)


def show_models(models: Sequence[dict[str, str]]) -> None:
    """Show the names that -m takes."""
    table = Table("model", "from", "description", box=None)
    for model in models:
        table.add_row(*(_plain(model[key]) for key in ("name", "source", "description")))
    _console().print(table)


def _console() -> Console:
    """Standard output; wide where it is no terminal, so that lines stay whole in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _table(rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Table:
    table = Table("picture", "class", "probability", "logit", "peak (y, x)", box=None)
    for record, target in rows:
        figures = f"{target['probability']:.1%}", f"{target['logit']:.2f}", str(tuple(target["peak"]))
        against = f" over {target['against']['label']}" if "against" in target else ""
        table.add_row(_plain(record["path"]), _plain(target["label"] + against), *figures)
    return table


def _number(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " x ".join(_fact(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: object) -> str:
    """Names and labels are data: no markup, and nothing a terminal cannot print."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return escape(printable.encode("utf-8", "replace").decode())
