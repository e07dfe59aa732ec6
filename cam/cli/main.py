"""The commands: each reads its arguments, calls one library function, and prints."""

from __future__ import annotations

import errno
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from cam.cli.evaluate import evaluate
from cam.cli.explain import explain
from cam.cli.invariance import invariance
from cam.cli.options import NOTHING_DONE, STOPPED, USAGE, checkpoint_options
from cam.cli.runs import merge, report
from cam.errors import CamError, UsageError
from cam.version import VERSION


class _Group(click.Group):
    """Turn an error of the library into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CamError as error:
            from cam.cli.printing import printable

            click.echo(f"Error: {printable(error)}", err=True)
            ctx.exit(USAGE if isinstance(error, UsageError) else NOTHING_DONE)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)
        except OSError as error:
            # Of files the library tells by itself; a pipe that is closed click knows.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            reason = f"What the command prints cannot be written ({error.strerror})"
            click.echo(f"Error: {reason}. Free space, or send it elsewhere.", err=True)
            ctx.exit(NOTHING_DONE)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="cam")
def main() -> None:
    """Exact class activation maps: where did the model look, and why this class?

    Example: cam explain dog.jpg -m resnet50 -o out
    """
    warnings.filterwarnings("ignore", module="PIL")  # notes on broken metadata of sound pictures
    sys.path.insert(0, str(Path.cwd()))  # so that -m package.module:callable finds the user's own


@main.command()
@click.argument("model")
@checkpoint_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: str, no_weights: bool, as_json: bool, **options: Any) -> None:
    """Tell a model's head: its kind, where the features are, where its cells look, and the proof.

    Example: cam inspect resnet50 --no-weights
    """
    from cam.classifiers.inspection import inspect_model
    from cam.cli.printing import show_inspection

    inspection = inspect_model(model, random_weights=no_weights, **options)
    if as_json:
        click.echo(json.dumps(inspection.to_json(), indent=2))
    else:
        show_inspection(inspection)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(as_json: bool) -> None:
    """List the models that -m takes by name.

    Example: cam models --json
    """
    from cam.classifiers.sources.registry import list_models
    from cam.cli.printing import show_models

    listed = list_models()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        show_models(listed)


main.add_command(explain)

main.add_command(merge)

main.add_command(report)

main.add_command(evaluate)

main.add_command(invariance)
