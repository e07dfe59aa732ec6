"""The command `cam`, and its small commands: `inspect`, `models`, `merge` and `report`."""

from __future__ import annotations

import errno
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from cam.cli.app import app
from cam.cli.audit import audit
from cam.cli.command import NOTHING_DONE, STOPPED, USAGE, Command
from cam.cli.compare import compare
from cam.cli.evaluate import evaluate
from cam.cli.explain import explain
from cam.cli.invariance import invariance
from cam.cli.options import checkpoint_options, json_option, method_options, truth_option
from cam.cli.process import guarded, own_streams
from cam.cli.values import PATH
from cam.errors import CamError, UsageError
from cam.version import VERSION


class _Group(click.Group):
    """Turns an error of the library into one sentence and an exit status."""

    command_class = Command

    def main(self, *args: Any, **settings: Any) -> Any:
        if not settings.get("standalone_mode", True):
            return super().main(*args, **settings)
        try:
            with own_streams():
                return super().main(*args, **settings)
        except OSError as error:
            # The library handles errors of files, and a closed pipe is none.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            message = f"Standard output cannot be written ({error.strerror})"
            click.echo(f"Error: {message}. Free disk space, or send the output elsewhere.", err=True)
            sys.exit(NOTHING_DONE)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CamError as error:
            from cam.cli.printing import printable

            lines = [f"Error: {error.problem}. {error.remedy}.", *error.example.splitlines()]
            click.echo("\n".join(map(printable, lines)), err=True)
            ctx.exit(USAGE if isinstance(error, UsageError) else NOTHING_DONE)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@click.group(cls=_Group, context_settings=_SETTINGS)
@click.version_option(VERSION, prog_name="cam")
def main() -> None:
    """Class activation maps that add up: where did the model look, and why this class?

    Example: cam explain dog.jpg -m resnet50 -o out
    """
    warnings.filterwarnings("ignore", module="PIL")  # about broken metadata of readable images
    try:
        Path.cwd()
    except FileNotFoundError:  # torch's libraries would end the process
        raise UsageError("The working directory no longer exists", "Change to another directory") from None


@main.command()
@click.argument("model")
@checkpoint_options
@method_options
@json_option
def inspect(model: str, no_weights: bool, as_json: bool, **options: Any) -> None:
    """Show a model's head: kind, layer, grid, receptive field.

    Example: cam inspect resnet50 --no-weights
    """
    from cam.classifiers.inspection import inspect_model
    from cam.cli.printing import show_inspection

    with guarded():
        inspection = inspect_model(model, random_weights=no_weights, **options)
    if as_json:
        click.echo(json.dumps(inspection.to_json(), indent=2))
    else:
        show_inspection(inspection)


@main.command()
@json_option
def models(as_json: bool) -> None:
    """List the names of models.

    Example: cam models --json
    """
    from cam.classifiers.load import list_models
    from cam.cli.printing import show_models

    listed = list_models()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        show_models(listed)


@main.command()
@click.argument("outs", nargs=-1, required=True, metavar="OUT...", type=PATH)
def merge(outs: tuple[Path, ...]) -> None:
    """Join the parts of a run, made with cam explain --shard.

    The joined manifest is in the first folder.

    Example: cam merge out
    """
    from cam.runs.merge import merge_shards

    click.echo(str(merge_shards(outs)))


@main.command()
@click.argument("out", metavar="OUT", type=PATH)
@truth_option
def report(out: Path, truth: str | None) -> None:
    """Write OUT/report.html, to browse the results of a run.

    OUT is the folder of a run made with --report, or of its parts after cam merge. The page needs no server and no
    internet connection.

    Example: cam report out --truth labels.csv
    """
    from cam.cli.printing import show_notes
    from cam.report.write import write_report

    click.echo(str(write_report(out, truth, lambda line: show_notes([line], silent=False))))


for command in (explain, app, audit, compare, evaluate, invariance):
    main.add_command(command)
