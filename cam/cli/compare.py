"""The command `cam compare`: which predictions changed between two runs, and where the change comes from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cam.cli.command import NOTHING_DONE, SOME_FAILED, Command, option_group
from cam.cli.options import output_options
from cam.cli.values import PATH

_LISTED = 20  # images that --json prints
_run = option_group("Run")


@click.command(cls=Command)
@click.argument("a", metavar="RUN_A", type=PATH)
@click.argument("b", metavar="RUN_B", type=PATH)
@_run("-o", "--out", type=PATH, metavar="FOLDER", required=True, help="Folder for the results.")
@output_options
@click.pass_context
def compare(ctx: click.Context, a: Path, b: Path, out: Path, as_json: bool, quiet: bool) -> None:
    """Compare two runs: which predictions changed, and where from.

    RUN_A and RUN_B are folders of cam explain over the same images, made with --report (maps of all classes) or
    --save cam (of the explained ones): two checkpoints, two models or two input sizes. With --truth in one of them it
    says which errors were fixed and which are new.

    Writes compare.html, compare.json and compare.csv.

    Example: cam compare before after -o changes
    """
    from cam.audit.compare import compare_runs
    from cam.audit.compare_page import write_page
    from cam.cli.printing import progress, show_comparison
    from cam.runs.folder import RunFolder, read_run_info

    count = read_run_info(RunFolder(a)).get("explained", 0)
    with progress(count, quiet or as_json) as advance:
        comparison = compare_runs(a, b, advance)
    comparison.write(out)
    page = write_page(comparison, out)
    if as_json:
        click.echo(json.dumps({**comparison.summary, "out": str(out), "images": comparison.rows[:_LISTED]}, indent=2))
    elif not quiet:
        show_comparison(comparison, page)
    failed, compared = comparison.summary["failed"], comparison.summary["compared"]
    ctx.exit(SOME_FAILED if failed and compared else NOTHING_DONE if failed else 0)
