"""The command `cam audit`: groups of images whose evidence does not belong with the rest of their class."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cam.cli.command import Command, option_group
from cam.cli.options import json_option, truth_option
from cam.cli.values import PATH

_run = option_group("Run")


@click.command(cls=Command)
@click.argument("out", metavar="OUT", type=PATH)
@truth_option
@_run("--fiftyone", metavar="NAME", help="Also make this FiftyOne dataset; needs gapcam[fiftyone].")
@json_option
def audit(out: Path, truth: str | None, fiftyone: str | None, as_json: bool) -> None:
    """Find shortcuts, such as a watermark, in the images of a run.

    OUT is the folder of a run made with --report or --save cam. The maps of each class are compared cell by cell, and
    groups of images whose evidence does not belong with the rest are listed. No network is run. Writes OUT/audit.json,
    and shows the groups in the report if there is one.

    Example: cam audit out
    """
    from cam.audit.audit import audit_run
    from cam.cli.printing import show_audit, show_notes

    if fiftyone:
        from cam.audit.to_fiftyone import import_fiftyone, write_dataset

        import_fiftyone(fiftyone)  # an error before the work
    found = audit_run(out, truth, lambda line: show_notes([line], silent=False))
    if fiftyone and (missing := write_dataset(fiftyone, found, truth)):
        show_notes([f"--fiftyone {fiftyone}: left out {missing} images whose files are not there"], silent=False)
    if as_json:
        click.echo(json.dumps(found.summary(), indent=2))
    else:
        show_audit(found)
