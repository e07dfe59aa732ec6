"""Commands on finished runs: `cam merge` and `cam report`."""

from __future__ import annotations

from pathlib import Path

import click

from cam.cli.command import Command
from cam.cli.options import truth_option
from cam.cli.values import PATH


@click.command(cls=Command)
@click.argument("outs", nargs=-1, required=True, metavar="OUT...", type=PATH)
def merge(outs: tuple[Path, ...]) -> None:
    """Join the parts of a run, made with cam explain --shard.

    The joined manifest is in the first folder.

    Example: cam merge out
    """
    from cam.runs.merge import merge_shards

    click.echo(str(merge_shards(outs)))


@click.command(cls=Command)
@click.argument("out", metavar="OUT", type=PATH)
@truth_option
def report(out: Path, truth: str | None) -> None:
    """Write OUT/report.html: where the model looks, why, and what its errors share.

    OUT is the folder of a run made with --report, or of its parts after cam merge. The page needs no server and no
    internet connection.

    Example: cam report out --truth labels.csv
    """
    from cam.report.write import write_report

    click.echo(str(write_report(out, truth)))
