"""The commands of `cam evaluate`: each plays one benchmark on pictures and shows who did how well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cam.cli.options import EVIDENCE, SOME_FAILED, Command, classifier_options, color, loading, picked
from cam.errors import UsageError

if TYPE_CHECKING:
    from cam.classifiers.classifier import Classifier
    from cam.evaluation.methods import Method
    from cam.evaluation.statistics import Evaluation


_PATH = click.Path(path_type=Path)


def _benchmark(command: Command) -> Command:
    """Options of every benchmark."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
        click.option("-o", "--out", type=_PATH, help="Also write the JSON to this file."),
        click.option("--max-pixels", type=click.IntRange(min=1), default=100_000_000, show_default=True),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance."),
        classifier_options,
        click.option(
            "--evidence",
            "kinds",
            type=EVIDENCE,
            multiple=True,
            default=["logit", "margin", "posterior"],
            show_default=True,
            callback=lambda context, parameter, kinds: tuple(dict.fromkeys(kinds)),
            help="Kinds of evidence to compare. Repeatable.",
        ),
    ):
        command = option(command)
    return command


def _maps(command: Command) -> Command:
    option = click.option(
        "--maps",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        multiple=True,
        help="Also measure maps made elsewhere: a folder with NAME.npy, (H, W), for picture NAME. Repeatable.",
    )
    return option(command)


_FIT = click.option(
    "--fit", type=click.Choice(["crop", "whole"]), help="How the model looks. [default: the model's own]"
)


@click.group()
def evaluate() -> None:
    """Measure which maps to trust, beside two baselines: a bell in the middle, and chance.

    Every value has a 95 % interval from the bootstrap.

    Example: cam evaluate grid photos/ -m squeezenet1_0
    """


@evaluate.command()
@click.argument("folder", type=_PATH)
@click.option("--truth", type=_PATH, help="CSV of path,label. [default: one folder a class]")
@click.option("--size", "sizes", type=click.IntRange(2, 8), multiple=True, default=[2, 3], show_default=True)
@click.option("--mosaics", type=click.IntRange(min=1), default=50, show_default=True, help="Of each size.")
@click.option(
    "--confidence", type=click.FloatRange(0, 1), default=0.9, show_default=True, help="Of the model in a picture."
)
@click.option("--save", type=_PATH, help="Folder for the mosaics and their classes, to make maps of them elsewhere.")
@_maps
@_benchmark
def grid(folder: Path, truth: Path | None, **options: Any) -> None:
    """Play the grid pointing game: in a mosaic of classes, does each one's heat lie in its own tile?

    share: part of the positive evidence in the right tile; hit: whether the peak lies there.

    Example: cam evaluate grid photos/ -m squeezenet1_0 --truth labels.csv --evidence logit --evidence margin
    """
    from cam.evaluation.grid import evaluate_grid
    from cam.evaluation.labels import labeled_pictures

    def run(classifier: Classifier, progress: Callable[..., Any]) -> Evaluation:
        pictures = labeled_pictures(folder, classifier.labels, truth)
        rules = picked(options, "sizes", "mosaics", "confidence", "seed", "max_pixels", "save")
        return evaluate_grid(classifier, pictures, lambda whole: _methods(whole, options), progress=progress, **rules)

    _run_benchmark(options, run, len(options["sizes"]) * options["mosaics"])


@evaluate.command()
@click.argument("dataset", type=_PATH)
@_FIT
@_maps
@_benchmark
def boxes(dataset: Path, **options: Any) -> None:
    """Measure heat against true boxes: COCO JSON, Pascal VOC XML, or CSV of path,label,x0,y0,x1,y1.

    pointing: the peak in a box; energy: share of positive evidence in boxes; max_box_acc and max_box_acc_v2: boxes
    from heat against true ones (Choe et al. 2020); px_ap where there are masks.

    Example: cam evaluate boxes scenes/ -m digits
    """
    from cam.evaluation.annotations import read_boxes
    from cam.evaluation.boxes import evaluate_boxes

    items = read_boxes(dataset)

    def run(classifier: Classifier, progress: Callable[..., Any]) -> Evaluation:
        rules = picked(options, "seed", "max_pixels")
        return evaluate_boxes(classifier, items, _methods(classifier, options), progress=progress, **rules)

    _run_benchmark(options, run, len({item.picture for item in items}))


@evaluate.command()
@click.argument("inputs", nargs=-1, required=True, metavar="PHOTO_OR_FOLDER_OR_GLOB...")
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True, help="Of each curve.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@_FIT
@_maps
@_benchmark
def faithfulness(inputs: tuple[str, ...], **options: Any) -> None:
    """Measure how the probability follows the pixels a map calls important.

    insertion (high is good) and deletion (low is good), with a blurred picture and the mean as baselines; average
    drop and increase in confidence, in %.

    Example: cam evaluate faithfulness photos/ -m squeezenet1_0
    """
    from cam.evaluation.faithfulness import evaluate_faithfulness
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)

    def run(classifier: Classifier, progress: Callable[..., Any]) -> Evaluation:
        rules = picked(options, "seed", "steps", "batch_size", "fit", "max_pixels")
        return evaluate_faithfulness(classifier, pictures, _methods(classifier, options), progress=progress, **rules)

    _run_benchmark(options, run, len(pictures))


@evaluate.command()
@click.argument("inputs", nargs=-1, required=True, metavar="PHOTO_OR_FOLDER_OR_GLOB...")
@click.option("--canvas", type=click.IntRange(min=1), help="Side of the scenes, pixels. [default: the input's]")
@click.option("--object-size", type=click.IntRange(min=1), help="Side of the objects, pixels. [default: a third]")
@click.option("--background", callback=color, help="Color of the canvas, such as 0,0,0. [default: the model's mean]")
@click.option("--each", type=click.IntRange(min=1), default=8, show_default=True, help="Places for each picture.")
@_benchmark
def placement(inputs: tuple[str, ...], **options: Any) -> None:
    """Measure how far the heat lies from objects pasted at known places: the pictures, shrunk.

    Pixels from the object's center to the centroid and the peak of the heat, and the bias along each axis, with the
    cells of a map where they are measured to be, where arithmetic puts them, and where stretching does.

    Example: cam evaluate placement photos/ -m squeezenet1_0 --evidence logit
    """
    from cam.evaluation.placement import evaluate_placement
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)

    def run(classifier: Classifier, progress: Callable[..., Any]) -> Evaluation:
        rules = picked(options, "kinds", "canvas", "object_size", "background", "each", "seed", "max_pixels")
        return evaluate_placement(classifier, pictures, progress=progress, **rules)

    _run_benchmark(options, run, len(pictures))


@evaluate.command()
@click.argument("inputs", nargs=-1, required=True, metavar="PHOTO_OR_FOLDER_OR_GLOB...")
@click.option("--stages", type=click.IntRange(min=2), default=5, show_default=True, help="Of the randomization.")
@_FIT
@_benchmark
def sanity(inputs: tuple[str, ...], **options: Any) -> None:
    """Measure what every map must pass: it follows the weights, adds up, and moves with the picture.

    Example: cam evaluate sanity photos/ -m squeezenet1_0
    """
    from cam.evaluation.sanity import evaluate_sanity
    from cam.images.find import find_pictures

    pictures = find_pictures(inputs)

    def run(classifier: Classifier, progress: Callable[..., Any]) -> Evaluation:
        rules = picked(options, "kinds", "seed", "stages", "fit", "max_pixels")
        return evaluate_sanity(classifier, pictures, progress=progress, **rules)

    _run_benchmark(options, run, len(pictures))


def _methods(classifier: Classifier, options: dict[str, Any]) -> list[Method]:
    from cam.evaluation.methods import evidence_of, gaussian, made_elsewhere, uniform
    from cam.explanations.options import ExplainOptions

    kinds = [ExplainOptions(kind, fit=options.get("fit")) for kind in options["kinds"]]
    elsewhere = map(made_elsewhere, options["maps"])
    methods = [*evidence_of(classifier, kinds), *elsewhere, gaussian(), uniform(options["seed"])]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        found = f"Two of the maps to compare have one name: {', '.join(names)}"
        raise UsageError(found, "Rename the folder given with --maps")
    return methods


def _run_benchmark(
    options: dict[str, Any], run: Callable[[Classifier, Callable[..., Any]], Evaluation], steps: int
) -> None:
    """Load the classifier, run with a bar that shows how far it is, and show the result."""
    from cam.classifiers.load import load_classifier
    from cam.cli.printing import progress, show_evaluation
    from cam.files import write_whole

    classifier = load_classifier(**loading(options))
    with progress(steps, options["as_json"]) as advance:
        evaluation = run(classifier, advance)
    show_evaluation(evaluation, as_json=options["as_json"])
    if options["out"]:
        write_whole(options["out"], evaluation.to_json().encode())
    if evaluation.failed:
        click.get_current_context().exit(SOME_FAILED)
