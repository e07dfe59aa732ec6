"""The command `cam invariance`: move a picture, or an object of it, over a canvas and see what becomes of its class."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cam.cli.options import classifier_options, color, loading, picked

_PATH = click.Path(path_type=Path)

_RANDOM = "The weights are random (--no-weights): which class is predicted means nothing."


def _box(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}(,-?[0-9]{1,9}){3}", value):
        raise click.BadParameter(f"{value!r} is no box. Give x0,y0,x1,y1 in pixels, such as 40,20,160,140.")
    return tuple(map(int, value.split(",")))


def _canvas(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(x[0-9]{1,6})?", value):
        raise click.BadParameter(f"{value!r} is no size. Give a side in pixels such as 448, or HxW such as 448x640.")
    sides = tuple(map(int, value.split("x")))
    return sides if len(sides) == 2 else sides * 2


def _fill(ctx: click.Context, parameter: click.Parameter, value: str) -> str | tuple[int, ...] | None:
    try:
        return value if value in ("mean", "blur", "reflect") else color(ctx, parameter, value)
    except click.BadParameter as error:
        raise click.BadParameter(f"{error.message} Or mean, blur or reflect.") from None


@click.command()
@click.argument("picture", type=_PATH, required=False)
@click.option("-o", "--out", type=_PATH, required=True, help="Folder for the figures and the numbers.")
@click.option("--demo", is_flag=True, help="Instead of a picture: GAP against flatten heads that saw one half only.")
@click.option("--train", is_flag=True, help="With --demo: train its networks on the spot, in some minutes.")
@click.option("-t", "--target", default="top1", show_default=True, help="A class index, a label, or top1.")
@click.option(
    "--box", callback=_box, help="Move the object in x0,y0,x1,y1, pixels of the picture. [default: all of it]"
)
@click.option("--mask", type=_PATH, help="Move the object that is white in this picture.")
@click.option("--canvas", callback=_canvas, help="Input pixels: its side, or HxW. [default: twice the object]")
@click.option("--steps", type=click.IntRange(min=1), default=8, show_default=True, help="Places along each axis.")
@click.option(
    "--fill",
    default="mean",
    show_default=True,
    callback=_fill,
    help="Of the canvas: mean, blur (the picture), reflect (mirror images of the object, in which the heat may peak, "
    "so that its distances mean little) or a color such as 0,0,0. It counts: it may change the class.",
)
@classifier_options
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--max-pixels", type=click.IntRange(min=1), default=100_000_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def invariance(ctx: click.Context, /, picture: Path | None, out: Path, **options: Any) -> None:
    """Move a picture over a larger canvas: does its class stay, and does its heat move along?

    Writes the score and the heat's error over all places as figures, a contact sheet, an animation, and all numbers
    as invariance.json. A network without an exact map is measured too, by its score alone.

    Example: cam invariance dog.jpg -m squeezenet1_0 -o out --steps 15
    """
    from cam.invariance.plotting import check_matplotlib

    if (picture is None) != options["demo"]:
        raise click.UsageError("Give one picture to move, or --demo.")
    if options["train"] and not options["demo"]:
        raise click.UsageError("--train trains the networks of --demo. Give both.")
    if options["box"] and options["mask"]:
        raise click.UsageError("--box and --mask are two ways to say where the object is. Give one of them.")
    if picture is None and (idle := _said(ctx) - {"--out", "--demo", "--train", "--json", "--quiet"}):
        raise click.UsageError(f"--demo has networks and pictures of its own. Take away {', '.join(sorted(idle))}.")
    check_matplotlib()
    if picture is None:
        _demonstrate(out, **picked(options, "train", "as_json", "quiet"))
    else:
        _move(picture, out, options, ctx.params)


def _said(ctx: click.Context) -> set[str]:
    """The options that were given."""
    given = (each for each in ctx.command.params if each.name)
    return {each.opts[-1] for each in given if ctx.get_parameter_source(each.name) is ParameterSource.COMMANDLINE}


def _demonstrate(out: Path, *, train: bool, as_json: bool, quiet: bool) -> None:
    from cam.cli.printing import progress
    from cam.invariance.demo.demo import run_demo
    from cam.invariance.demo.training import NETWORKS, TOTAL_EPOCHS

    with progress(len(NETWORKS) + train * TOTAL_EPOCHS, quiet or as_json) as advance:
        found = run_demo(out, train=train, progress=advance)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not quiet:
        for each in found["networks"]:
            seen, unseen = (100 * each[half][0] for half in ("seen", "unseen"))
            line = f"{each['name']}: {seen:.1f} % right in the half it saw, {unseen:.1f} % in the other"
            click.echo(f"{line}; {each['parameters']:,} parameters" + _gap(each["small_set_accuracy"]))
        click.echo(f"Figures and demo.json: {out}")


def _gap(few: dict[str, float]) -> str:
    """What a network that learned from few scenes makes of them, and of others."""
    return f"; after few scenes {100 * few['train']:.1f} % of them, {100 * few['test']:.1f} % of others" if few else ""


def _move(picture: Path, out: Path, options: dict[str, Any], arguments: dict[str, Any]) -> None:
    from cam.classifiers.provenance import describe
    from cam.cli.printing import progress
    from cam.explanations.options import parse_target
    from cam.files import write_whole
    from cam.images.io import read_image
    from cam.invariance.figures import write_figures
    from cam.invariance.measure import measure_invariance
    from cam.invariance.models import load_any_classifier

    for path in filter(None, (picture, options["mask"])):
        if path.is_dir():
            raise click.UsageError(f"{str(path)!r} is a folder. Give one picture: cam invariance moves one at a time.")
    read = picked(options, "max_pixels")
    image = read_image(picture, **read)
    mask = read_image(options["mask"], **read).max(2) if options["mask"] else None
    model = load_any_classifier(**loading(options))
    silent = options["quiet"] or options["as_json"]
    with progress(options["steps"] ** 2, silent) as advance:
        result = measure_invariance(
            model,
            image,
            mask=mask,
            target=parse_target(options["target"], model.labels),
            progress=advance,
            **picked(options, "box", "canvas", "steps", "fill", "batch_size"),
        )
    if options["no_weights"]:
        result = replace(result, notes=(*result.notes, _RANDOM))
    write_whole(out / "invariance.json", result.to_json(describe(model, arguments)).encode())
    written = write_figures(result, out)
    if options["as_json"]:
        click.echo(json.dumps(result.facts(), indent=2))
    elif not silent:
        click.echo(f"{result}\n{len(written)} figures and invariance.json: {out}")
