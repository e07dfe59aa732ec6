"""cam merge and cam report: commands on finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cam.cli.options import (
    truth_option,
)

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("outs", nargs=-1, required=True, metavar="OUT...", type=click.Path(path_type=Path))
def merge(outs: tuple[Path, ...]) -> None:
    """Join the manifests of a run's parts, made with --shard, in the first of their folders.

    Example: cam merge out
    """
    from cam.runs.merge import merge_shards

    manifest = merge_shards(outs)
    click.echo(str(manifest))


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@truth_option
def report(out: Path, truth: str | None) -> None:
    """Write OUT/report.html: where the model looks, why, and what its errors have in common.

    OUT is the folder of a run made with --report, or of its parts after cam merge. The page opens without a server
    and without a network.

    Example: cam report out --truth labels.csv
    """
    from cam.report.write import write_report

    click.echo(str(write_report(out, truth)))
