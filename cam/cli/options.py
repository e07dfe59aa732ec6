"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cam.cli.command import Function, option_group, select
from cam.cli.values import ACTIVATION, BANDS, INTERPOLATION, METHOD, NUMBERS, PATH, RANGE, SECONDS, SIZE, whole_number

_input = option_group("Inputs")
_model = option_group("Model")
_target = option_group("What to explain")
_run = option_group("Run")
_limit = option_group("Limits")


def checkpoint_options(function: Function, *, several: bool = False) -> Function:
    """Add the options of every command that builds a network, or several networks."""
    checkpoint = (
        "Checkpoint of each model, in order." if several else "Checkpoint, in the format of safetensors or torch."
    )
    return add_options(
        function,
        _model("--weights", type=PATH, metavar="FILE", multiple=several, help=checkpoint),
        _model("--output", metavar="NAME|INDEX", help="Which of several outputs are the class scores."),
        _model("--input-size", type=whole_number(1), help="Side of the network's square input, in pixels."),
        _model("--resize", type=SIZE, metavar="N|WxH", help="Resize: shorter side, or width and height."),
        _model("--crop", type=SIZE, metavar="N|WxH", help="Input: the center; default: all of --resize."),
        _model("--interpolation", type=INTERPOLATION, metavar="NAME", help="bilinear, bicubic, nearest, ..."),
        _model("--channels-in", type=whole_number(1), help="Channels of the input: 1 for gray."),
        _model("--mean", type=NUMBERS, help="Mean of each channel: 0.5,0.5,0.5; 0.5 if gray."),
        _model("--std", type=NUMBERS, help="Standard deviation of each channel, like --mean."),
        _model("--no-weights", is_flag=True, help="Use random weights, to try a network offline."),
        _model("--unsafe-pickle", is_flag=True, help="Let the checkpoint run code, if you trust it."),
    )


def classifier_options(function: Function, *, several: bool = False) -> Function:
    """Add the options of every command that loads a classifier, or several classifiers."""
    names = "cam models, timm:X, hf:X, file.py:make."
    return add_options(
        function,
        _model(
            "-m",
            "--model",
            metavar="NAME",
            default=["digits"] if several else "resnet50",
            multiple=several,
            help=f"{names} Repeatable." if several else names,
        ),
        _model("--labels", type=PATH, metavar="FILE", help="Class names: a line each, a JSON list or index map."),
        _model(
            "--activation", type=ACTIVATION, metavar="NAME", help="softmax, sigmoid (multi-label) or none (regression)."
        ),
        _model("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps."),
        partial(checkpoint_options, several=several),
    )


def method_options(function: Function) -> Function:
    """Add the options of how maps are computed."""
    return add_options(
        function,
        _target("--method", type=METHOD, metavar="NAME", help="exact, integrated, shapley, gradcam, ..."),
        _target("--exact-only", "method", flag_value="exact", help="Refuse networks without an exact map."),
        _target("--layer", metavar="NAME", help="Features of an earlier layer: finer maps."),
    )


def add_options(function: Function, *options: Callable[[Function], Function]) -> Function:
    """Apply decorators in the order in which the help lists them."""
    for option in reversed(options):
        function = option(function)
    return function


truth_option = _run("--truth", metavar="folder|CSV", help="True classes: folder names, or CSV of path,label.")
json_option = _run("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
max_pixels_option = _limit("--max-pixels", type=whole_number(1), default=100_000_000, help="Largest image, in pixels.")
max_bytes_option = _limit(
    "--max-bytes", type=whole_number(1), default=500_000_000, help="Largest file to read, in bytes."
)
timeout_option = _limit("--timeout", type=SECONDS, default=60, help="Longest time to decode an image, in seconds.")


def read_options(function: Function) -> Function:
    """Add the options of how numbers become pixels."""
    return add_options(
        function,
        _input("--value-range", type=RANGE, help="Black and white above 8 bits: LOW,HIGH or minmax."),
        _input("--bands", type=BANDS, help="Bands shown as RGB, such as 4,3,2, or one as gray."),
    )


def output_options(function: Function) -> Function:
    """Add the options for what a command prints."""
    return add_options(function, json_option, _run("--quiet", is_flag=True, help="Print nothing but errors."))


def classifier_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `cam.load_classifier` that `classifier_options` give."""
    same = select(
        options,
        "model",
        "weights",
        "labels",
        "activation",
        "output",
        "input_size",
        "resize",
        "crop",
        "interpolation",
        "mean",
        "std",
        "channels_in",
        "device",
        "unsafe_pickle",
    )
    chosen = {name: value for name, value in options.items() if name in ("method", "layer")}
    return {**same, **chosen, "random_weights": options["no_weights"]}
