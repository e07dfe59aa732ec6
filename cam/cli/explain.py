"""The command `cam explain`: heat maps of any number of images."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from cam.cli.command import NOTHING_DONE, SOME_FAILED, STOPPED, Command, option_group, select
from cam.cli.options import (
    classifier_arguments,
    classifier_options,
    max_bytes_option,
    max_pixels_option,
    method_options,
    output_options,
    read_options,
    timeout_option,
    truth_option,
)
from cam.cli.process import guarded, importing, keep_memory
from cam.cli.values import ADDRESS, EVIDENCE, FIT, FRACTION, Value, integers, whole_number
from cam.errors import hide_passwords

if TYPE_CHECKING:
    from cam.classifiers.classifier import Classifier
    from cam.classifiers.truth import Truth
    from cam.cli.printing import RunTable
    from cam.images.find import Picture
    from cam.runs.options import RunOptions

_ALONE = ["top1"], None, "logit"  # --target, --against and --evidence, with --expect
_SAVED = {"overlay", "heat", "cam"}
_SAVE = Value("LIST", lambda text: sorted(set(text.split(","))), "some of overlay,heat,cam", _SAVED.issuperset)
_SCALE = Value(
    "SCALE",
    lambda text: text if text in ("run", "image") else float(text),
    "run, image or a number above 0",
    lambda scale: isinstance(scale, str) or 0 < scale < inf,
)
_SIZE = re.compile(r"[0-9]{1,9}|[0-9]{1,4}(\.[0-9]{1,4})?x")
_RESOLUTION = Value("SIZE", str, "pixels such as 448, or a factor such as 2x", _SIZE.fullmatch)
_SHARD = Value(
    "I/N",
    lambda text: integers(text, "/"),
    "a part such as 1/3, 2/3 or 3/3",
    lambda shard: len(shard) == 2 and 1 <= shard[0] <= shard[1],
)
_SECOND = Value("X", float, "seconds from the beginning of the clip", lambda second: 0 <= second < inf)
_FORMAT = click.Choice(["jpg", "png", "webp"])
_ENGINE = click.Choice(["auto", "eager", "compile", "onnxruntime"])
_PRECISION = click.Choice(["float32", "bfloat16", "float16"])
_input = option_group("Inputs")
_target = option_group("What to explain")
_picture = option_group("Picture")
_speed = option_group("Speed")
_run = option_group("Run")
_clip = option_group("Clips")


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@_input("--list", "list_", metavar="FILE", help="List of inputs: a line each, or CSV; - for stdin.")
@_input("--pattern", metavar="GLOB", multiple=True, help='Only files like "*.png" or "val/*.jpg". Repeatable.')
@read_options
@classifier_options
@_target(
    "-t", "--target", metavar="CLASS", multiple=True, default=["top1"], help="topN, truth, index or label. Repeatable."
)
@_target("--evidence", type=EVIDENCE, default="logit", help="logit, contrast, margin or posterior.")
@method_options
@_target("--against", metavar="CLASS", show_default="runner-up", help="Class for contrast: index or label.")
@_target("--expect", metavar="CLASS", help="Why the prediction and not this class? A contrast.")
@_target("--fit", type=FIT, show_default="the model's own", help="crop (center), whole or stretch.")
@_target("--resolution", type=_RESOLUTION, help="Finer maps: a shorter side (448) or a factor (2x).")
@_target("--tta", is_flag=True, help="Average the maps over mirrored and larger inputs.")
@_target("--channels", type=whole_number(0), default=0, help="Also draw the N channels that add most.")
@_picture("--save", type=_SAVE, default="overlay", help="overlay,heat,cam: images, .npy and .npz.")
@_picture("--opacity", type=FRACTION, default=0.85, help="Opacity of the most evidence, from 0 to 1.")
@_picture(
    "--photo",
    metavar="gray|color",
    default="gray",
    callback=lambda ctx, param, value: "gray" if value == "grey" else value,
    help="The photograph under the heat.",
)
@_picture("--contours/--no-contours", default=True, help="A line around half of the scale.", show_default="on")
@_picture("--colormap", metavar="NAME", default="signed", help="signed, or a color map of OpenCV.")
@_picture("--scale", type=_SCALE, default="run", help="End of the color scale: run, image, a number.")
@_picture("--boxes", is_flag=True, help="Draw the boxes that the manifest has, too.")
@_picture("--box-share", type=float, metavar="X", default=0.2, help="Box threshold, a share of the map's maximum.")
@_picture("--format", "format_", type=_FORMAT, default="jpg", help="Format of the overlays.")
@_picture("--max-side", type=whole_number(1), help="Longer side of the overlays; smaller is faster.")
@_clip("--every", type=whole_number(1), default=1, help="Take every N-th frame only.")
@_clip("--start", type=_SECOND, default=0, help="Begin at this second.")
@_clip("--end", type=_SECOND, show_default="the clip's own", help="End at this second.")
@_clip("--frames", is_flag=True, help="Animated GIF and WebP are clips, too.")
@_speed("--batch-size", type=whole_number(1), show_default="4 per core, 32 on a GPU", help="Images in a forward pass.")
@_speed("--engine", type=_ENGINE, default="auto", help="auto, eager, compile or onnxruntime.")
@_speed("--precision", type=_PRECISION, default="float32", help="On CUDA: float32, bfloat16 or float16.")
@_speed("--processes", type=whole_number(1), default=1, help="Processes, each with its own copy of the model.")
@_run("-o", "--out", type=ADDRESS, metavar="FOLDER", required=True, help="Folder for the results.")
@_run("--report", is_flag=True, help="Also write OUT/report.html, to browse all results.")
@truth_option
@_run("--csv", type=ADDRESS, metavar="FILE", help="Also write a table: a row for each image and class.")
@_run("--parquet", type=ADDRESS, metavar="FILE", help="The same as Parquet; needs gapcam[parquet].")
@_run("--overwrite/--resume", help="Replace an earlier run in OUT, or go on.")
@_run("--on-error", type=click.Choice(["skip", "stop"]), default="skip", help="What to do after a bad image.")
@_run("--shard", type=_SHARD, help="The I-th of N parts of the images; see cam merge.")
@_run(
    "--ray", is_flag=False, flag_value="local", metavar="[ADDRESS]", help="Explain on a Ray cluster, or on a local one."
)
@output_options
@max_pixels_option
@max_bytes_option
@timeout_option
@click.pass_context
def explain(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> None:
    """Draw heat maps of a model's evidence on the original images.

    INPUT is an image, a clip (.mp4, .mov, .avi, .mkv, .webm), a folder (with all folders below it), a glob, or a .zip
    or .tar archive. Brackets hold defaults.

    Example: cam explain photos/ -m squeezenet1_1 -o out --target top5

    Evidence: logit is for the class alone, contrast against one other class, margin against the best other class at
    each position, posterior the probability of the class at each position.

    Run the same command again to continue a run that was stopped.

    Exit status: 0 if all went well, 1 if no image could be explained or the run failed, 2 for wrong usage, 3 if some
    images failed, 130 if the run was stopped.
    """
    if options["expect"] and (list(options["target"]), options["against"], options["evidence"]) != _ALONE:
        raise click.UsageError("--expect explains the prediction. Leave out --target, --against and --evidence.")
    if options["ray"] and options["processes"] > 1:
        raise click.UsageError("--processes is for this machine. Leave it out with --ray.")
    keep_memory()
    if options["processes"] > 1:
        from cam.runs.starting import begin_imports

        begin_imports()
    from cam.cli.printing import RunTable, progress, show_notes, show_run

    out, silent = options["out"], options["quiet"] or options["as_json"]
    run_table = RunTable()
    with _stoppable(ctx, run_table):
        with importing():
            from cam.classifiers.load import load_classifier
            from cam.classifiers.truth import read_truth
            from cam.images.find import shard
            from cam.images.video import ClipOptions
            from cam.report.write import write_report
            from cam.runs.cluster import Cluster
            from cam.runs.local import LocalProcesses
            from cam.runs.processes import load_seeded
            from cam.runs.run import explain_folder
        loading = classifier_arguments(options)
        cluster = Cluster(options["ray"], loading) if options["ray"] else None
        local = LocalProcesses(options["processes"], loading, keep_memory) if options["processes"] > 1 else None
        processes = cluster or local
        left_out: Counter[str] = Counter()
        pictures = _find_inputs(inputs, options, left_out)
        with guarded():
            here = {"device": "cpu"} if cluster else {}
            classifier = load_seeded(loading, **here) if processes else load_classifier(**loading)
        unused = _unused(ctx, pictures)
        show_notes([*classifier.notes, *(f"--{name}: no input is a clip" for name in unused)], silent)
        options |= {name: value for name, value in vars(ClipOptions()).items() if name in unused}
        names = [(str(picture.path), str(picture.name)) for picture in pictures]
        truth = read_truth(options["truth"], names, classifier.labels)
        count = len(shard(pictures, options["shard"]))
        spelled = {param.name: param.opts[-1].lstrip("-") for param in reversed(ctx.command.params)}
        arguments = {spelled[name]: value for name, value in ctx.params.items()}
        with guarded(), progress(count, silent) as run_table.advance:
            follow = ctx.get_parameter_source("target") is not ParameterSource.COMMANDLINE
            settings = _run_options(classifier, options, truth, follow=follow)
            run = explain_folder(classifier, pictures, out, settings, arguments, run_table.add, left_out, processes)
        show_run(run, run_table, as_json=options["as_json"], quiet=options["quiet"])
        if options["report"] and not options["shard"] and run.explained:
            page = write_report(out, records=run.records)
            if not silent:
                click.echo(str(page))
    ctx.exit(SOME_FAILED if run.failed and run.explained else NOTHING_DONE if run.failed else 0)


def _find_inputs(inputs: tuple[str, ...], options: dict[str, Any], left_out: Counter[str]) -> list[Picture]:
    """Find the images, after all checks that need no model."""
    from cam.images.find import check_output, find_pictures
    from cam.images.tables import read_list

    listed = read_list(options["list_"]) if options["list_"] else []
    if not (inputs or listed):
        raise click.UsageError("No inputs. Give images, folders, globs or archives, or --list FILE.")
    for text in inputs:
        if text.endswith((".txt", ".csv", ".tsv")):
            name = hide_passwords(text)
            raise click.UsageError(f"INPUT {name!r} is not an image. For a list of images, write --list {name}.")
    _check_outputs(options)
    check_output([*inputs, *listed], options["out"])
    patterns = options["pattern"]
    return find_pictures(
        inputs, exclude=options["out"], patterns=patterns, listed=listed, left_out=left_out, videos=True
    )


def _check_outputs(options: dict[str, Any]) -> None:
    """Refuse what cannot be written, before there is anything to write."""
    from cam.classifiers.sources.base import import_extra
    from cam.files import check_file, check_folder
    from cam.remote import Address

    files = [str(options[name]) for name in ("csv", "parquet", "truth", "list_")]
    for table in filter(None, (options["csv"], options["parquet"])):
        if files.count(str(table)) > 1:
            raise click.UsageError(f"{str(table)!r} is given twice. Give the table another name.")
    for place in (options["out"], options["csv"], options["parquet"]):
        if isinstance(place, Address):
            place.check()
    check_folder(options["out"], "--out")
    for name in ("csv", "parquet"):
        if options[name]:
            check_file(options[name], f"--{name}")
    if options["report"] and isinstance(options["out"], Address):
        problem = f"--report reads the results in a folder, and --out is {str(options['out'])!r}"
        raise click.UsageError(f"{problem}. Leave --report out, or choose a folder.")
    if options["parquet"]:
        import_extra("pyarrow", "parquet", "--parquet")


def _unused(ctx: click.Context, pictures: list[Picture]) -> list[str]:
    """Options for clips that are given where no input is one: they change nothing."""
    from cam.images.video import ClipOptions, is_clip

    names = ("frames", "every", "start", "end")
    given = [name for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    clips = ClipOptions(frames=ctx.params["frames"])
    if not given or any(is_clip(picture, clips) for picture in pictures):
        return []
    return given


def _run_options(classifier: Classifier, options: dict[str, Any], truth: Truth, *, follow: bool) -> RunOptions:
    """Make the options of the library from those of the command line."""
    from cam.explanations.options import (
        ExplainOptions,
        TrueClass,
        parse_against,
        parse_class,
        parse_resolution,
        parse_target,
    )
    from cam.images.read import Limits
    from cam.images.samples import ReadOptions
    from cam.images.video import ClipOptions
    from cam.report.evidence import EvidenceWriter
    from cam.runs.options import RunOptions

    expect = options["expect"] and parse_class(options["expect"], classifier.labels, "--expect")
    return RunOptions(
        targets=tuple(
            TrueClass() if text == "truth" and text not in classifier.labels else parse_target(text, classifier.labels)
            for text in options["target"]
        ),
        explain=ExplainOptions(
            against=parse_against(options["against"], classifier.labels),
            resolution=parse_resolution(options["resolution"], classifier.preprocessing),
            evidence=options["evidence"] if expect is None else "contrast",
            expect=expect,
            **select(options, "fit", "tta", "channels"),
        ),
        save=frozenset(options["save"]),
        format=options["format_"],
        outputs=(EvidenceWriter(),) if options["report"] else (),
        truth=truth,
        read=ReadOptions(**select(options, "value_range", "bands")),
        clips=ClipOptions(**select(options, "frames", "every", "start", "end")),
        follow=follow,
        limits=Limits(options["max_pixels"], options["max_bytes"], options["timeout"]),
        **select(options, "scale", "boxes", "box_share", "opacity", "colormap", "photo", "contours", "max_side"),
        **select(options, "engine", "precision", "batch_size", "shard", "on_error", "overwrite", "csv", "parquet"),
    )


@contextmanager
def _stoppable(ctx: click.Context, run_table: RunTable) -> Iterator[None]:
    """On Ctrl-C or a request to terminate, end the run in order and say how to continue it."""
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _stop) for number in signals}
    try:
        yield
    except KeyboardInterrupt:
        from cam.cli.printing import show_failures

        show_failures(run_table.failures)
        command = "the same command" + (" without --overwrite" if ctx.params["overwrite"] else "")
        click.echo(f"Stopped. Run {command} to continue in {str(ctx.params['out'])!r}.", err=True)
        ctx.exit(STOPPED)
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is _stop:  # after a stop, more requests must not disturb the end of the process
                signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Stop at the first request; another would tear down the threads that finish the images in progress."""
    for request in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request, signal.SIG_IGN)
    with suppress(OSError):  # standard error is closed
        os.write(2, b"\nStopping after the images in progress.\n")  # print may be what was interrupted
    raise KeyboardInterrupt
