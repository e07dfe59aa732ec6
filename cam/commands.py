"""The commands: each reads its arguments, calls one library function, and prints."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from cam.errors import CamError, UsageError
from cam.evaluation_commands import evaluate
from cam.invariance_command import invariance
from cam.parameters import (
    EVIDENCE,
    SOME_FAILED,
    checkpoint_options,
    classifier_options,
    loading,
    picked,
    resolution,
    save,
    scale,
)
from cam.version import VERSION

USAGE, NOTHING_DONE = 2, 1


class _Group(click.Group):
    """Turn an error of the library into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CamError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(USAGE if isinstance(error, UsageError) else NOTHING_DONE)


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
@click.option(
    "--evidence",
    type=EVIDENCE,
    default="logit",
    show_default=True,
    help="Of a class: alone, over --against, over the best other class of each place, or each place's probability.",
)
@click.option("--against", help="With --evidence contrast: a class index, a label or runner-up. [default: runner-up]")
@classifier_options
@click.option(
    "--fit",
    type=click.Choice(["crop", "whole"]),
    help="Look at the centre the model was evaluated on, or at all of the picture. [default: the model's own]",
)
@click.option("--resolution", callback=resolution, help="Finer maps from a larger input: its side (448), or 2x.")
@click.option("--tta", is_flag=True, help="Average maps over mirrored and larger inputs.")
@click.option("--channels", type=click.IntRange(min=0), default=0, help="Draw the channels with the largest shares.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--save", default="overlay", show_default=True, callback=save, help="Of overlay, heat (.npy), cam (.npz)."
)
@click.option(
    "--scale",
    default="run",
    show_default=True,
    callback=scale,
    help="One colour scale for the run (the median peak of its first 64 pictures), one an image, or its end in logits.",
)
@click.option("--boxes", is_flag=True, help="Draw boxes around the heat; the manifest has them always.")
@click.option("--box-share", type=float, default=0.2, show_default=True, help="Of the maximum, for heat in a box.")
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
    from cam.batch import explain_folder
    from cam.classifiers import load_classifier
    from cam.inputs import check_output, find_pictures
    from cam.options import Options
    from cam.printing import progress, show_run
    from cam.question import Question, parse_resolution
    from cam.targets import parse_rival, parse_target

    out, silent = options["out"], options["quiet"] or options["as_json"]
    check_output(inputs, out)
    pictures = find_pictures(inputs, exclude=out)
    classifier = load_classifier(**loading(options))
    question = Question(
        against=parse_rival(options["against"], classifier.labels),
        resolution=parse_resolution(options["resolution"], classifier.preprocessing),
        **picked(options, "evidence", "fit", "tta", "channels"),
    )
    wanted = Options(
        targets=tuple(parse_target(text, classifier.labels) for text in options["targets"]),
        question=question,
        format=options["format_"],
        **picked(options, "save", "scale", "boxes", "box_share", "opacity", "colormap"),
        **picked(options, "batch_size", "max_pixels", "overwrite"),
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


main.add_command(evaluate)
main.add_command(invariance)
