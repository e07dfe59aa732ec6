"""cam explain: heat maps of any number of pictures; cam merge: the parts of a run together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cam.cli.options import (
    EVIDENCE,
    NOTHING_DONE,
    SOME_FAILED,
    STOPPED,
    classifier_options,
    loading,
    picked,
    resolution,
    save,
    scale,
    shard,
    truth_option,
)
from cam.cli.process import importing, keep_memory

if TYPE_CHECKING:
    from cam.classifiers.classifier import Classifier
    from cam.runs.options import RunOptions


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--list",
    "list_",
    metavar="FILE",
    help="Inputs named in a file, from where you are: a line each, or NUL or CSV; - for stdin.",
)
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    help='Of the pictures in a folder or an archive those that fit: "*.png", or "val/*.jpg" seen from it. Repeatable.',
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
    help="Look at the center the model was evaluated on, or at all of the picture. [default: the model's own]",
)
@click.option("--resolution", callback=resolution, help="Finer maps from a larger input: its side (448), or 2x.")
@click.option("--tta", is_flag=True, help="Average maps over mirrored and larger inputs.")
@click.option("--channels", type=click.IntRange(min=0), default=0, help="Draw the channels with the largest shares.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compile", "onnxruntime"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto takes what pays for so many pictures.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the layers on CUDA; head and maps are in float32.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: 4 on the CPU, on each core, else 32]")
@click.option(
    "--save", default="overlay", show_default=True, callback=save, help="Of overlay, heat (.npy), cam (.npz)."
)
@click.option(
    "--scale",
    default="run",
    show_default=True,
    callback=scale,
    help="One color scale for the run (the median peak of its first 64 pictures), one an image, or its end in logits.",
)
@click.option("--boxes", is_flag=True, help="Draw boxes around the heat; the manifest has them always.")
@click.option("--box-share", type=float, default=0.2, show_default=True, help="Of the maximum, for heat in a box.")
@click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the heat.")
@click.option("--colormap", default="signed", show_default=True, help="signed, or any of OpenCV's.")
@click.option("--format", "format_", type=click.Choice(["jpg", "png", "webp"]), default="jpg", show_default=True)
@click.option("--max-side", type=click.IntRange(min=1), help="Longer side of the overlays, pixels; smaller is faster.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=100_000_000, show_default=True)
@click.option("--max-bytes", type=click.IntRange(min=1), default=500_000_000, show_default=True, help="Of a file.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60, help="Seconds to decode. [default: 60]"
)
@click.option(
    "--on-error", type=click.Choice(["skip", "stop"]), default="skip", show_default=True, help="Of a bad picture."
)
@click.option("--shard", callback=shard, metavar="I/N", help="Only the I-th of N parts of the pictures; see cam merge.")
@click.option("--report", is_flag=True, help="Also write OUT/report.html, to look at all of it in a browser.")
@truth_option
@click.option(
    "--overwrite/--resume", help="Replace the results of an earlier run, or go on with it. [default: --resume]"
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def explain(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> None:
    """Draw where a model sees its evidence, on the original photographs.

    INPUT: photographs, folders with all below them, globs, .tar and .zip archives.

    Example: cam explain photos/ -m squeezenet1_1 -o out --target top5

    The same command again goes on where a run was cut short.

    Exit status: 0 when all went well, 3 when some pictures failed, 1 when none could be explained or the run had to
    end, 2 for wrong usage, 130 when it was cut short.
    """
    out, silent = options["out"], options["quiet"] or options["as_json"]
    reporting = _reporting(options)
    keep_memory()
    with _stoppable(ctx):
        with importing():
            from cam.classifiers.load import load_classifier
            from cam.cli.printing import progress, show_run
            from cam.evaluation.labels import read_truth
            from cam.images.find import check_output, find_pictures
            from cam.images.find import shard as shard_of
            from cam.images.tables import read_list
            from cam.report.write import write_report
            from cam.runs.run import explain_folder
        listed = read_list(options["list_"]) if options["list_"] else []
        if not (inputs or listed):
            raise click.UsageError("No pictures were named. Give files, folders, globs or archives, or --list FILE.")
        check_output([*inputs, *listed], out)
        pictures = find_pictures(inputs, exclude=out, patterns=options["patterns"], listed=listed)
        classifier = load_classifier(**loading(options))
        names = [(str(picture.path), str(picture.name)) for picture in pictures]
        read_truth(options["truth"], names, classifier.labels)  # before the work
        count = len(shard_of(pictures, *options["shard"]) if options["shard"] else pictures)
        given = {max(each.opts, key=len).lstrip("-"): ctx.params[each.name] for each in ctx.command.params if each.name}
        with progress(count, silent) as advance:
            run = explain_folder(classifier, pictures, out, _wanted(classifier, options), given, advance)
        show_run(run, as_json=options["as_json"], quiet=options["quiet"])
        page = write_report(out, options["truth"]) if reporting and run.explained else None
    if page and not silent:
        click.echo(str(page))
    ctx.exit(SOME_FAILED if run.failed and run.explained else NOTHING_DONE if run.failed else 0)


def _reporting(options: dict[str, Any]) -> bool:
    """Whether there is a report to write: of parts there is one after cam merge."""
    if options["truth"] and not options["report"]:
        raise click.UsageError("--truth tells a report what the pictures show. Give --report too.")
    if options["truth"] and options["shard"]:
        raise click.UsageError(
            "Parts have no report that --truth could tell anything. Give it to cam report, after cam merge."
        )
    return options["report"] and not options["shard"]


def _wanted(classifier: Classifier, options: dict[str, Any]) -> RunOptions:
    """What the options of the command come to, with this model."""
    from cam.explanations.options import ExplainOptions, parse_against, parse_resolution, parse_target
    from cam.images.read import Limits
    from cam.report.evidence import EvidenceWriter
    from cam.runs.options import RunOptions

    explain_options = ExplainOptions(
        against=parse_against(options["against"], classifier.labels),
        resolution=parse_resolution(options["resolution"], classifier.preprocessing),
        **picked(options, "evidence", "fit", "tta", "channels"),
    )
    return RunOptions(
        targets=tuple(parse_target(text, classifier.labels) for text in options["targets"]),
        explain=explain_options,
        format=options["format_"],
        outputs=(EvidenceWriter(),) if options["report"] else (),
        limits=Limits(options["max_pixels"], options["max_bytes"], options["timeout"]),
        **picked(options, "save", "scale", "boxes", "box_share", "opacity", "colormap", "max_side"),
        **picked(options, "engine", "precision", "batch_size", "shard", "on_error", "overwrite"),
    )


@contextmanager
def _stoppable(ctx: click.Context) -> Iterator[None]:
    """Let Ctrl-C and a request to terminate end the run in order, with what is done kept."""
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        how = "the same command" + (" without --overwrite" if ctx.params["overwrite"] else "")
        from cam.cli.printing import show_failures
        from cam.runs.folder import RunFolder

        folder = RunFolder(ctx.params["out"], ctx.params["shard"])
        there = folder.has(folder.manifest.name)
        done = f"What is done is in {str(folder.out)!r}; {how} goes on from there" if there else "Nothing is done yet"
        show_failures(folder.manifest)
        click.echo(f"Stopped. {done}.", err=True)
        ctx.exit(STOPPED)
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _stop:  # else the process is to end, and more requests must not disturb that
                signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at the first request; the next would tear down the threads that are finishing what they have begun."""
    for heard in (signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, signal.SIG_IGN)
    with suppress(OSError):  # nobody listens
        os.write(2, b"\nStopping, when the pictures in hand are done.\n")  # printing might be what was interrupted
    raise KeyboardInterrupt
