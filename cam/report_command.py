"""cam report: a run as one page in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from cam.parameters import truth_option


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@truth_option
def report(out: Path, truth: str | None) -> None:
    """Write OUT/report.html: where the model looks, why, and what its errors have in common.

    OUT is the folder of a run made with --report, or of its parts after cam merge. The page opens without a server
    and without a network.

    Example: cam report out --truth labels.csv
    """
    from cam.report.writing import write_report

    click.echo(str(write_report(out, truth)))
