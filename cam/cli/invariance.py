"""The command `cam invariance`: move an image, or an object in it, over a canvas and measure score and heat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cam.cli.command import Command, option_group, select
from cam.cli.options import classifier_arguments, classifier_options, max_pixels_option, output_options, read_options
from cam.cli.process import guarded
from cam.cli.values import PATH, Value, integers, is_color, whole_number

_FILLS = {"mean", "blur", "reflect"}
_FILL = Value(
    "FILL",
    lambda text: text if text in _FILLS else integers(text),
    "mean, blur, reflect or a color such as 0,0,0",
    lambda fill: fill in _FILLS or is_color(fill),
)
_BOX = Value("BOX", integers, "x0,y0,x1,y1 in pixels, such as 40,20,160,140", lambda box: len(box) == 4)
_CANVAS = Value(
    "SIZE",
    lambda text: integers(text, "x")[::-1] * (1 if "x" in text else 2),
    "a side in pixels such as 448, or WxH such as 640x448",
    lambda sides: len(sides) == 2 and min(sides) > 0,
)
_DEMO_PARAMETERS = {"out", "demo", "train", "as_json", "quiet"}
_RANDOM_WEIGHTS = "The weights are random (--no-weights): the predicted class means nothing."
_object = option_group("Object")
_demo = option_group("Demo")
_speed = option_group("Speed")
_run = option_group("Run")


@click.command(cls=Command)
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False), required=False, metavar="INPUT")
@_object("-t", "--target", metavar="CLASS", default="top1", help="A class index, a label or top1.")
@_object("--box", type=_BOX, show_default="the whole image", help="Object as x0,y0,x1,y1 in pixels.")
@_object("--mask", type=PATH, metavar="FILE", help="Object as the white part of this image.")
@_object("--canvas", type=_CANVAS, show_default="twice the object", help="Input pixels: a side, or WxH.")
@_object("--fill", type=_FILL, default="mean", help="Canvas: mean, blur, reflect, or 0,0,0.")
@_object("--steps", type=whole_number(2), default=8, help="Positions along each axis.")
@read_options
@classifier_options
@_demo("--demo", is_flag=True, help="Compare networks trained on half of the canvas.")
@_demo("--train", is_flag=True, help="Train the networks of --demo first: some minutes.")
@_speed("--batch-size", type=whole_number(1), default=32, help="Images in a forward pass.")
@_run("-o", "--out", type=PATH, metavar="FOLDER", required=True, help="Folder for the figures and the numbers.")
@output_options
@max_pixels_option
@click.pass_context
def invariance(ctx: click.Context, /, picture: Path | None, out: Path, **options: Any) -> None:
    """Measure how class and heat change when an image moves.

    Writes the score and the error of the heat at each position as figures, a contact sheet and an animation, and all
    numbers as invariance.json. A network without exact maps is measured by its score alone.

    The fill may change the class. With reflect, the heat may peak in a mirror image of the object.

    Example: cam invariance dog.jpg -m squeezenet1_0 -o out --steps 15
    """
    if (picture is None) != options["demo"]:
        raise click.UsageError("Give one image to move, or --demo.")
    if options["train"] and not options["demo"]:
        raise click.UsageError("--train is for the networks of --demo. Give both.")
    if options["box"] and options["mask"]:
        raise click.UsageError("--box and --mask both select the object. Give one of them.")

    from cam.invariance.figures import check_libraries

    check_libraries()
    if picture:
        _move(picture, out, options, ctx.params)
        return
    given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if ignored := [f"--{name.replace('_', '-')}" for name in given if name not in _DEMO_PARAMETERS]:
        raise click.UsageError(f"--demo has its own networks and images. Remove {', '.join(ignored)}.")
    _run_demo(out, **select(options, "train", "as_json", "quiet"))


def _run_demo(out: Path, *, train: bool, as_json: bool, quiet: bool) -> None:
    from cam.cli.printing import progress
    from cam.invariance.demo.demo import run_demo
    from cam.invariance.demo.training import NETWORKS, TOTAL_EPOCHS

    with progress(len(NETWORKS) + train * TOTAL_EPOCHS, quiet or as_json) as advance:
        results = run_demo(out, train=train, progress=advance)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    elif not quiet:
        for network in results["networks"]:
            seen, unseen = (100 * network[half][0] for half in ("seen", "unseen"))
            line = f"{network['name']}: {seen:.1f} % right in the half it saw, {unseen:.1f} % in the other"
            line += f"; {network['parameters']:,} parameters"
            if few := network["small_set_accuracy"]:
                line += f"; after few scenes {100 * few['train']:.1f} % of them, {100 * few['test']:.1f} % of others"
            click.echo(line)
        moved = results["moved_digit"]
        for name, head in moved["heads"].items():
            (before, after), digit = head["logits"], moved["class_idx"]
            line = f"{name}: a {digit} moved to the half it never saw: logit {before:.2f} before, {after:.2f} after"
            click.echo(f"{line}, predicted {head['predicted'][1]}")
        click.echo(f"Figures and demo.json: {out}")


def _move(picture: Path, out: Path, options: dict[str, Any], arguments: dict[str, Any]) -> None:
    from cam.classifiers.provenance import describe
    from cam.cli.printing import progress, show_notes
    from cam.explanations.options import parse_target
    from cam.files import write_whole
    from cam.images.io import check_image, read_image
    from cam.invariance.figures import write_figures
    from cam.invariance.measure import load_any_classifier, measure_invariance

    max_pixels = options["max_pixels"]
    image = check_image(read_image(picture, max_pixels=max_pixels, **select(options, "value_range", "bands")))
    mask = None
    if options["mask"]:
        mask = read_image(options["mask"], max_pixels=max_pixels, value_range="minmax").max(2)
    with guarded():
        model = load_any_classifier(**classifier_arguments(options))
    model.preprocessing.check_channels(3)
    silent = options["quiet"] or options["as_json"]
    show_notes(model.notes, silent)
    with guarded(), progress(options["steps"] ** 2, silent) as advance:
        result = measure_invariance(
            model,
            image,
            mask=mask,
            target=parse_target(options["target"], model.labels),
            progress=advance,
            **select(options, "box", "canvas", "steps", "fill", "batch_size"),
        )
    if options["no_weights"]:
        result = replace(result, notes=(*result.notes, _RANDOM_WEIGHTS))
    write_whole(out / "invariance.json", result.to_json(describe(model, arguments)).encode())
    figures = write_figures(result, out)
    if options["as_json"]:
        click.echo(json.dumps(result.facts(), indent=2))
    elif not silent:
        click.echo(f"{result}\n{len(figures)} figures and invariance.json: {out}")
