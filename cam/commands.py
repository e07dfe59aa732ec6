"""The commands: each reads its arguments, calls one library function, and prints."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from cam.errors import CamError, UsageError
from cam.version import VERSION

Command = TypeVar("Command", bound=Callable[..., Any])

USAGE, NOTHING_DONE, SOME_FAILED = 2, 1, 3


class _Group(click.Group):
    """Turn an error of the library into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CamError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(USAGE if isinstance(error, UsageError) else NOTHING_DONE)


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers. Give such as 0.5,0.5,0.5.") from None


def _scale(ctx: click.Context, parameter: click.Parameter, value: str) -> str | float:
    if value in ("run", "image"):
        return value
    with suppress(ValueError):
        if 0 < float(value) < float("inf"):
            return float(value)
    raise click.BadParameter(f"{value!r} is no colour scale. Give run, image, or a number of logits above 0.")


def _save(ctx: click.Context, parameter: click.Parameter, value: str) -> frozenset[str]:
    parts = frozenset(part.strip() for part in value.split(",") if part.strip())
    if not parts or parts - {"overlay", "heat", "cam"}:
        raise click.BadParameter(f"{value!r} is no list of what to save. Give some of overlay,heat,cam.")
    return parts


def checkpoint_options(command: Command) -> Command:
    """Options of every command that builds a network."""
    for option in reversed(
        (
            click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint: safetensors or torch."),
            click.option("--no-weights", is_flag=True, help="Random weights, to try a network offline."),
            click.option("--input-size", type=click.IntRange(min=1), help="Side of the network's square input."),
            click.option("--mean", callback=_numbers, help="Of each channel, such as 0.5,0.5,0.5; one number: grey."),
            click.option("--std", callback=_numbers, help="Of each channel, such as 0.5,0.5,0.5; one number: grey."),
            click.option(
                "--unsafe-pickle", is_flag=True, help="Let the checkpoint run code while it is read. Trust its source!"
            ),
        )
    ):
        command = option(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="cam")
def main() -> None:
    """Exact class activation maps: where did the model look, and why this class?

    Example: cam explain dog.jpg -m resnet50 -o out
    """
    warnings.filterwarnings("ignore", module="PIL")  # remarks on broken metadata of sound pictures
    sys.path.insert(0, str(Path.cwd()))  # so that -m package.module:callable finds the user's own


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="PHOTO_OR_FOLDER_OR_GLOB...")
@click.option(
    "-m", "--model", default="resnet50", show_default=True, help="See `cam models`, or package.module:callable."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    default=["top1"],
    show_default=True,
    help="top1, topN, a class index or a label. Repeatable.",
)
@checkpoint_options
@click.option("--labels", type=click.Path(path_type=Path), help="Labels: text, one a line, or JSON list or index map.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "whole"]),
    help="Look at the centre the model was evaluated on, or at all of the picture. [default: the model's own]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--save", default="overlay", show_default=True, callback=_save, help="Of overlay, heat (.npy), cam (.npz)."
)
@click.option(
    "--scale",
    default="run",
    show_default=True,
    callback=_scale,
    help="One colour scale for the run (the median peak of its first 64 pictures), one an image, or its end in logits.",
)
@click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the heat.")
@click.option("--colormap", default="signed", show_default=True, help="signed, or any of OpenCV's.")
@click.option("--format", "format_", type=click.Choice(["jpg", "png", "webp"]), default="jpg", show_default=True)
@click.option("--max-pixels", type=click.IntRange(min=1), default=100_000_000, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def explain(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> None:
    """Draw where a model sees its evidence, on the original photographs.

    Example: cam explain photos/ -m squeezenet1_1 -o out --target top5

    Exit status: 0 when all went well, 3 when some pictures failed, 1 when nothing could be done, 2 for wrong usage.
    """
    from cam.batch import Options, explain_folder
    from cam.classifiers import load_classifier
    from cam.inputs import check_output, find_pictures
    from cam.labels import read_labels
    from cam.printing import progress, show_run
    from cam.targets import parse_target

    out, silent = options["out"], options["quiet"] or options["as_json"]
    check_output(inputs, out)
    pictures = find_pictures(inputs, exclude=out)
    classifier = load_classifier(
        options["model"],
        weights=options["weights"],
        labels=read_labels(options["labels"]) if options["labels"] else None,
        random_weights=options["no_weights"],
        **{name: options[name] for name in ("input_size", "mean", "std", "device", "unsafe_pickle")},
    )
    wanted = Options(
        targets=tuple(parse_target(text, classifier.labels) for text in options["targets"]),
        save=options["save"],
        format=options["format_"],
        **{name: options[name] for name in ("fit", "batch_size", "scale", "opacity", "colormap")},
        **{name: options[name] for name in ("max_pixels", "overwrite")},
    )
    with progress(len(pictures), silent) as advance:
        records = explain_folder(classifier, pictures, out, wanted, ctx.params, advance)
    show_run(records, out, as_json=options["as_json"], quiet=options["quiet"])
    failed = sum(record["status"] == "failed" for record in records)
    ctx.exit(NOTHING_DONE if failed == len(records) else SOME_FAILED if failed else 0)


@main.command()
@click.argument("model")
@checkpoint_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: str, no_weights: bool, as_json: bool, **options: Any) -> None:
    """Tell a model's head: its kind, where the features are, where its cells look, and the proof.

    Example: cam inspect resnet50 --no-weights
    """
    from cam.inspection import inspect_model
    from cam.printing import show_inspection

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
    from cam.builders import list_models
    from cam.printing import show_models

    listed = list_models()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        show_models(listed)
