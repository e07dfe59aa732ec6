"""What the commands share: their exit statuses, types of values, options, and a help in groups."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

NOTHING_DONE, USAGE, SOME_FAILED, STOPPED = 1, 2, 3, 130  # exit statuses

# Options of similar tools, and what they are called here.
ALIASES = {
    "--alpha": "--opacity",
    "--arch": "--model",
    "--aug-smooth": "--tta",
    "--class": "--target",
    "--class-idx": "--target",
    "--cmap": "--colormap",
    "--image": "INPUT",
    "--image-path": "INPUT",
    "--img": "INPUT",
    "--method": "--evidence",
    "--output": "--out",
    "--output-dir": "--out",
    "--savefig": "--out",
}
LAYER_OPTIONS = {"--layer", "--layers", "--target-layer", "--target-layers"}


class Command(click.Command):
    """A command whose help lists its options in groups, and which knows the options of similar tools."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, in the order of the first options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (row := parameter.get_help_record(ctx)):
                group = getattr(parameter, "group", "Run" if "Run" in groups else "Options")
                groups.setdefault(group, []).append(row)
        width = max(len(names) for rows in groups.values() for names, _ in rows)
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl([(names.ljust(width), text) for names, text in rows])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Suggest the option that the user may have meant."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(self._suggest(ctx, error.option_name), ctx) from None

    def _suggest(self, ctx: click.Context, name: str) -> str:
        message = f"No such option: {name}."
        if name in LAYER_OPTIONS:
            return f"{message} No layer is needed: the head is found automatically; cam inspect shows it."
        known = [option for parameter in self.get_params(ctx) for option in parameter.opts if option.startswith("-")]
        known += [
            parameter.metavar.rstrip(".") for parameter in self.params if parameter.nargs == -1 and parameter.metavar
        ]
        alias = ALIASES.get(name)
        matches = [option for option in known if option == alias] if alias else get_close_matches(name, known, 1, 0.7)
        return f"{message} Did you mean {matches[0]}?" if matches else f"{message} See {ctx.command_path} --help."


class Option(click.Option):
    """An option that the help lists in a group, with short names for its values."""

    def __init__(self, *names: Any, group: str, **settings: Any) -> None:
        if isinstance(settings.get("type"), click.Choice):
            choices = "|".join(settings["type"].choices)
            settings["metavar"] = choices if len(choices) <= 12 else "NAME"
        super().__init__(*names, **settings)
        self.group = group


def option_group(name: str) -> Callable[..., Callable[[Function], Function]]:
    """Make a `click.option` for the options of one group."""
    return partial(click.option, cls=Option, group=name)


class Value(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A value that `read` makes from text; it must be `must_be`, which `valid` tells."""

    def __init__(
        self, name: str, read: Callable[[str], Any], must_be: str, valid: Callable[[Any], bool] = lambda value: True
    ) -> None:
        self.name = name
        self._read, self._must_be, self._valid = read, must_be, valid

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The name as written, not in capital letters."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; a default may be a value already."""
        with suppress(ValueError):
            read = self._read(value) if isinstance(value, str) else value
            if self._valid(read):
                return read
        name = max(param.opts, key=len) if param else self.name
        raise click.UsageError(f"{name} must be {self._must_be}, got {value!r}.", ctx)


def whole_number(least: int, most: float = inf) -> Value:
    """The type of a whole number from `least` to `most`."""
    limits = f"from {least} to {most}" if most < inf else f"of {least} or more"
    return Value("N", int, f"a whole number {limits}", lambda number: least <= number <= most)


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas."""
    return tuple(map(float, text.split(",")))


def color(text: str) -> tuple[int, ...]:
    """Read red, green and blue."""
    return tuple(map(int, text.split(",")))


def is_color(value: tuple[int, ...]) -> bool:
    """True if it is red, green and blue from 0 to 255."""
    return len(value) == 3 and all(0 <= part <= 255 for part in value)


FRACTION = Value("X", float, "a number from 0 to 1", lambda number: 0 <= number <= 1)
NUMBERS = Value("X,X,X", numbers, "numbers separated by commas, such as 0.5,0.5,0.5")
COLOR = Value("R,G,B", color, "red, green and blue from 0 to 255, such as 0,0,0", is_color)
FIT = click.Choice(["crop", "whole"])
EVIDENCE = click.Choice(["logit", "contrast", "margin", "posterior"])
PATH = click.Path(path_type=Path)

_model = option_group("Model")
_run = option_group("Run")


def checkpoint_options(function: Function) -> Function:
    """Add the options of every command that builds a network."""
    return add_options(
        function,
        _model("--weights", type=PATH, metavar="FILE", help="Checkpoint, in the format of safetensors or torch."),
        _model("--input-size", type=whole_number(1), help="Side of the network's square input, in pixels."),
        _model("--mean", type=NUMBERS, help="Mean of each channel, such as 0.5,0.5,0.5; one number if gray."),
        _model("--std", type=NUMBERS, help="Standard deviation of each channel, like --mean."),
        _model("--no-weights", is_flag=True, help="Use random weights, to try a network offline."),
        _model("--unsafe-pickle", is_flag=True, help="Let the checkpoint run code. Only for files that you trust."),
    )


def classifier_options(function: Function) -> Function:
    """Add the options of every command that loads a classifier."""
    return add_options(
        function,
        _model("-m", "--model", metavar="NAME", default="resnet50", help="A name from cam models, or module:function."),
        _model("--labels", type=PATH, metavar="FILE", help="Class names: a line each, or a JSON list or index map."),
        _model("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps."),
        checkpoint_options,
    )


def add_options(function: Function, *options: Callable[[Function], Function]) -> Function:
    """Apply decorators in the order in which the help lists them."""
    for option in reversed(options):
        function = option(function)
    return function


truth_option = _run(
    "--truth", metavar="folder|CSV", help="True classes for the report: folder names, or CSV of path,label."
)
json_option = _run("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
quiet_option = _run("--quiet", is_flag=True, help="Print nothing but errors.")
max_pixels_option = option_group("Limits")(
    "--max-pixels", type=whole_number(1), default=100_000_000, help="Largest image to read, in pixels."
)


def select(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options with these names."""
    return {name: options[name] for name in names}


def classifier_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `cam.load_classifier` that `classifier_options` give."""
    from cam.classifiers.labels import read_labels

    labels = read_labels(options["labels"]) if options["labels"] else None
    same = select(options, "model", "weights", "input_size", "mean", "std", "device", "unsafe_pickle")
    return {**same, "labels": labels, "random_weights": options["no_weights"]}
