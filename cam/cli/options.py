"""Parameters that several commands have, and what may be said with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

NOTHING_DONE, USAGE, SOME_FAILED, STOPPED = 1, 2, 3, 130
"""Exit status when nothing could be done, for wrong usage, when some pictures failed, and for a run cut short."""

EVIDENCE = click.Choice(["logit", "contrast", "margin", "posterior"])


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers. Give such as 0.5,0.5,0.5.") from None


def color(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Red, green and blue."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,3}", part) and int(part) < 256 for part in parts):
        raise click.BadParameter(f"{value!r} is no color. Give red, green and blue from 0 to 255, such as 0,0,0.")
    return tuple(map(int, parts))


def scale(ctx: click.Context, parameter: click.Parameter, value: str) -> str | float:
    """A color scale: run, image or the evidence at its ends."""
    if value in ("run", "image"):
        return value
    with suppress(ValueError):
        if 0 < float(value) < float("inf"):
            return float(value)
    raise click.BadParameter(f"{value!r} is no color scale. Give run, image, or a number of logits above 0.")


def resolution(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Pixels, or a factor with an x."""
    if value is None or re.fullmatch(r"[0-9]{1,9}|[0-9]{1,4}(\.[0-9]{1,4})?x", value):
        return value
    raise click.BadParameter(f"{value!r} is no size of an input. Give pixels such as 448, or a factor such as 2x.")


def shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """One of several parts, counted from 1."""
    if value is None:
        return None
    if parts := re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value):
        index, count = int(parts[1]), int(parts[2])
        if 1 <= index <= count:
            return index, count
    raise click.BadParameter(f"{value!r} is no part of a whole. Give such as 1/3, 2/3 or 3/3.")


def save(ctx: click.Context, parameter: click.Parameter, value: str) -> frozenset[str]:
    """What to keep of each picture, with commas between."""
    parts = frozenset(part.strip() for part in value.split(",") if part.strip())
    if not parts or parts - {"overlay", "heat", "cam"}:
        raise click.BadParameter(f"{value!r} is no list of what to save. Give some of overlay,heat,cam.")
    return parts


def checkpoint_options(command: Command) -> Command:
    """Options of every command that builds a network."""
    return _with(
        command,
        click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint: safetensors or torch."),
        click.option("--no-weights", is_flag=True, help="Random weights, to try a network offline."),
        click.option("--input-size", type=click.IntRange(min=1), help="Side of the network's square input."),
        click.option("--mean", callback=numbers, help="Of each channel, such as 0.5,0.5,0.5; one number: gray."),
        click.option("--std", callback=numbers, help="Of each channel, such as 0.5,0.5,0.5; one number: gray."),
        click.option(
            "--unsafe-pickle", is_flag=True, help="Let the checkpoint run code while it is read. Trust its source!"
        ),
    )


def classifier_options(command: Command) -> Command:
    """Options of every command that needs a whole classifier."""
    named = _with(
        command,
        click.option(
            "-m", "--model", default="resnet50", show_default=True, help="See `cam models`, or package.module:callable."
        ),
        click.option(
            "--labels", type=click.Path(path_type=Path), help="Labels: text, one a line, or JSON list or index map."
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    )
    return checkpoint_options(named)


def truth_option(command: Command) -> Command:
    """Option of the commands that write a report."""
    help_ = "What pictures show, for the report: folder (each lies in one called by its class), or CSV of path,label."
    return click.option("--truth", metavar="folder|CSV", help=help_)(command)


def picked(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Some of the options, by name."""
    return {name: options[name] for name in names}


def loading(options: dict[str, Any]) -> dict[str, Any]:
    """What `classifier_options` say, as arguments of `cam.load_classifier`."""
    from cam.classifiers.labels import read_labels

    labels = read_labels(options["labels"]) if options["labels"] else None
    same = picked(options, "model", "weights", "input_size", "mean", "std", "device", "unsafe_pickle")
    return {**same, "labels": labels, "random_weights": options["no_weights"]}


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
