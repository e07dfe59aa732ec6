"""The commands of `cam evaluate`: each runs one benchmark of maps and shows its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cam.cli.command import SOME_FAILED, Command, Function, option_group, select
from cam.cli.options import (
    add_options,
    classifier_arguments,
    classifier_options,
    json_option,
    max_pixels_option,
    read_options,
)
from cam.cli.process import guarded
from cam.cli.values import COLOR, EVIDENCE, FIT, FRACTION, METHOD, PATH, whole_number
from cam.errors import UsageError

if TYPE_CHECKING:
    from cam.classifiers.classifier import Classifier
    from cam.evaluation.benchmark import Evaluation
    from cam.evaluation.methods import Method

_option = option_group("Benchmark")
_run = option_group("Run")


def _each_once(ctx: click.Context, parameter: click.Parameter, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop repetitions."""
    return tuple(dict.fromkeys(values))


def _common_options(function: Function) -> Function:
    """Add the options of every benchmark."""
    return add_options(
        function,
        _option(
            "--evidence",
            "kinds",
            type=EVIDENCE,
            multiple=True,
            callback=_each_once,
            show_default="logit, margin, posterior",
            help="Repeatable.",
        ),
        read_options,
        classifier_options,
        _option("--layer", metavar="NAME", help="Features of an earlier layer: finer maps."),
        _run("-o", "--out", type=PATH, metavar="FILE", help="Also write the results to this JSON file."),
        _run("--seed", type=whole_number(0), default=0, help="Random seed."),
        json_option,
        max_pixels_option,
    )


_maps_option = _option(
    "--maps",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    multiple=True,
    help="Maps of another tool: NAME.npy, (H, W). Repeatable.",
)
_method_option = _option(
    "--method",
    "methods",
    type=METHOD,
    metavar="NAME",
    multiple=True,
    callback=_each_once,
    help="integrated, shapley, gradcam, ... Repeatable.",
)
_fit_option = _option("--fit", type=FIT, show_default="the model's own", help="Center crop or whole image.")
_inputs_argument = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")


@click.group()
def evaluate() -> None:
    """Compare maps on localization and faithfulness benchmarks.

    The baselines are a centered Gaussian and uniform noise. Every value has a 95 % bootstrap interval.

    Example: cam evaluate grid photos/ -m squeezenet1_0
    """


evaluate.command_class = Command


@evaluate.command()
@click.argument("folder", type=PATH)
@_option("--truth", type=PATH, metavar="CSV", show_default="folder names", help="CSV file with columns path,label.")
@_option(
    "--size",
    "sizes",
    type=whole_number(2, 8),
    multiple=True,
    callback=_each_once,
    default=[2, 3],
    help="Tiles per side. Repeatable.",
)
@_option("--mosaics", type=whole_number(1), default=50, help="Number of mosaics of each size.")
@_option("--confidence", type=FRACTION, default=0.9, help="Smallest probability of an image's class.")
@_option("--save", type=PATH, metavar="FOLDER", help="Write the mosaics, to make maps for --maps.")
@_method_option
@_maps_option
@_common_options
def grid(folder: Path, truth: Path | None, **options: Any) -> None:
    """Play the grid pointing game: is heat in its class's tile?

    FOLDER has a folder of images for each class, or any folders and a table for --truth.

    share: part of the positive evidence in the right tile; hit: whether the peak lies there.

    Example: cam evaluate grid photos/ -m squeezenet1_0 --truth labels.csv --evidence margin
    """
    from cam.classifiers.truth import labeled_pictures
    from cam.evaluation.grid import evaluate_grid

    def run(classifier: Classifier, **settings: Any) -> Evaluation:
        pictures, failed = labeled_pictures(folder, classifier.labels, truth)
        evaluation = evaluate_grid(classifier, pictures, partial(_methods, options=options), **settings)
        return replace(evaluation, failed={**failed, **evaluation.failed})

    steps = len(options["sizes"]) * options["mosaics"]
    _run_benchmark(run, steps, options, "sizes", "mosaics", "confidence", "save")


@evaluate.command()
@click.argument("dataset", type=PATH)
@_fit_option
@_method_option
@_maps_option
@_common_options
def boxes(dataset: Path, **options: Any) -> None:
    """Compare heat with true boxes.

    DATASET is COCO JSON, a folder of Pascal VOC XML, or CSV with path,label,x0,y0,x1,y1.

    pointing: the peak is in a box; energy: share of the positive evidence in boxes; max_box_acc and max_box_acc_v2:
    boxes from heat against true boxes (Choe et al. 2020); px_ap: average precision of pixels, for data with masks.

    Example: cam evaluate boxes scenes/ -m digits
    """
    from cam.evaluation.annotations import read_boxes
    from cam.evaluation.boxes import evaluate_boxes

    items = read_boxes(dataset)

    def run(classifier: Classifier, **settings: Any) -> Evaluation:
        return evaluate_boxes(classifier, items, _methods(classifier, options), **settings)

    _run_benchmark(run, len({item.picture for item in items}), options, "fit")


@evaluate.command()
@_inputs_argument
@_option("--steps", type=whole_number(1), default=50, help="Steps of each curve.")
@_option("--batch-size", type=whole_number(1), default=32, help="Images in a forward pass.")
@_fit_option
@_method_option
@_maps_option
@_common_options
def faithfulness(inputs: tuple[str, ...], **options: Any) -> None:
    """Delete and insert pixels in the order of their heat.

    insertion (higher is better) and deletion (lower is better), from and to a blurred image or the mean color; average
    drop and increase in confidence, in %.

    Example: cam evaluate faithfulness photos/ -m squeezenet1_0
    """
    from cam.evaluation.faithfulness import evaluate_faithfulness
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)

    def run(classifier: Classifier, **settings: Any) -> Evaluation:
        return evaluate_faithfulness(classifier, pictures, _methods(classifier, options), **settings)

    _run_benchmark(run, len(pictures), options, "steps", "batch_size", "fit")


@evaluate.command()
@_inputs_argument
@_option("--canvas", type=whole_number(1), show_default="the input's", help="Side of the scenes, in pixels.")
@_option("--object-size", type=whole_number(1), show_default="a third", help="Side of the objects, in pixels.")
@_option("--background", type=COLOR, show_default="the model's mean", help="Color of the canvas: 0,0,0.")
@_option("--each", "positions", type=whole_number(1), default=8, help="Positions for each image.")
@_method_option
@_common_options
def placement(inputs: tuple[str, ...], **options: Any) -> None:
    """Measure how far the heat is from pasted objects.

    Distances in pixels from the object's center to the centroid and the peak of the heat, and the bias along each axis,
    with the cells of a map at their measured positions and stretched over the image.

    Example: cam evaluate placement photos/ -m squeezenet1_0 --evidence logit
    """
    from cam.evaluation.placement import evaluate_placement
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)
    run = partial(evaluate_placement, pictures=pictures)
    _run_benchmark(run, len(pictures), options, "kinds", "methods", "canvas", "object_size", "background", "positions")


@evaluate.command()
@_inputs_argument
@_option("--stages", type=whole_number(2), default=5, help="Stages of the randomization.")
@_fit_option
@_common_options
def sanity(inputs: tuple[str, ...], **options: Any) -> None:
    """Check that maps depend on the weights and add up.

    They must also move with the image.

    Example: cam evaluate sanity photos/ -m squeezenet1_0
    """
    from cam.evaluation.sanity import evaluate_sanity
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)
    _run_benchmark(partial(evaluate_sanity, pictures=pictures), len(pictures), options, "kinds", "stages", "fit")


def _methods(classifier: Classifier, options: dict[str, Any]) -> list[Method]:
    from cam.evaluation.methods import baselines, evidence_methods, map_methods, saved_maps

    fit = options.get("fit")
    evidence = evidence_methods(classifier, options["kinds"], fit=fit)
    by_method = map_methods(classifier, options["methods"], fit=fit)
    methods = [*evidence, *by_method, *map(saved_maps, options["maps"]), *baselines(options["seed"])]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise UsageError(f"--maps must give every method its own name, got {', '.join(names)}", "Rename the folder")
    return methods


def _run_benchmark(run: Callable[..., Evaluation], steps: int, options: dict[str, Any], *names: str) -> None:
    """Load the classifier, run a benchmark with the options of these names and show its results."""
    from cam.classifiers.load import load_classifier
    from cam.cli.printing import progress, show_evaluation, show_notes
    from cam.evaluation.methods import default_evidence, load_image
    from cam.files import check_file, write_whole
    from cam.images.samples import ReadOptions

    if options["out"]:
        check_file(options["out"], "--out")
    with guarded():
        classifier = load_classifier(**classifier_arguments(options))
    show_notes(classifier.notes, options["as_json"])
    classifier.preprocessing.check_channels(3)
    if not options["kinds"] and not options.get("methods"):
        options["kinds"] = default_evidence(classifier)
    with guarded(), progress(steps, options["as_json"]) as advance:
        reading = ReadOptions(**select(options, "value_range", "bands"))
        load = partial(load_image, max_pixels=options["max_pixels"], options=reading)
        evaluation = run(classifier, progress=advance, load=load, **select(options, "seed", *names))
    chosen = {name: value for name, value in vars(reading).items() if value is not None}
    evaluation = replace(evaluation, settings={**evaluation.settings, **chosen})
    show_evaluation(evaluation, as_json=options["as_json"])
    if options["out"]:
        write_whole(options["out"], evaluation.to_json().encode())
    if evaluation.failed:
        click.get_current_context().exit(SOME_FAILED)
