"""The types of the options' values."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import click

from cam.errors import UsageError
from cam.remote import as_path


class Value(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A value that `read` reads from text; if it is not `valid`, the error says what it must be."""

    def __init__(
        self, name: str, read: Callable[[str], Any], must_be: str, valid: Callable[[Any], object] = lambda value: True
    ) -> None:
        self.name = name
        self._read, self._must_be, self._valid = read, must_be, valid

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; a default may be a value already."""
        try:
            read = self._read(value) if isinstance(value, str) else value
            if self._valid(read):
                return read
        except UsageError:
            raise
        except ValueError:
            pass
        raise click.UsageError(f"{param.opts[-1] if param else self.name} must be {self._must_be}, got {value!r}.", ctx)


def whole_number(least: int, most: float = inf) -> Value:
    """The type of a whole number from `least` to `most`."""
    limits = f"from {least} to {most}" if most < inf else f"of {least} or more"
    return Value("N", int, f"a whole number {limits}", lambda number: least <= number <= most)


def integers(text: str, separator: str = ",") -> tuple[int, ...]:
    """Read whole numbers."""
    return tuple(map(int, text.split(separator)))


def is_color(value: tuple[int, ...]) -> bool:
    """True if it is red, green and blue from 0 to 255."""
    return len(value) == 3 and all(0 <= part <= 255 for part in value)


FRACTION = Value("X", float, "a number from 0 to 1", lambda number: 0 <= number <= 1)
SECONDS = Value("X", float, "a number above 0", lambda seconds: seconds > 0)
NUMBERS = Value(
    "X,X,X", lambda text: tuple(map(float, text.split(","))), "numbers separated by commas, such as 0.5,0.5,0.5"
)
COLOR = Value("R,G,B", integers, "red, green and blue from 0 to 255, such as 0,0,0", is_color)
RANGE = Value(
    "LOW,HIGH",
    lambda text: text if text == "minmax" else tuple(map(float, text.split(","))),
    "minmax or two rising numbers such as 0,4095",
    lambda span: span == "minmax" or (len(span) == 2 and -inf < span[0] < span[1] < inf),
)
BANDS = Value("N,N,N", integers, "numbers of bands such as 4,3,2, counted from 1", lambda bands: min(bands) > 0)
FIT = click.Choice(["crop", "whole", "stretch"])
SIZE = Value(
    "N|WxH",
    lambda text: integers(text, "x")[::-1] if "x" in text else int(text),
    "a side such as 256, or width and height such as 320x256",
    lambda size: min(size) > 0 and len(size) == 2 if isinstance(size, tuple) else size > 0,
)
INTERPOLATION = click.Choice(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
ACTIVATION = click.Choice(["softmax", "sigmoid", "none"])
METHOD = click.Choice(["exact", "integrated", "shapley", "gradcam", "hirescam", "layercam", "xgradcam"])
EVIDENCE = click.Choice(["logit", "contrast", "margin", "posterior"])
ADDRESS = Value("PATH", as_path, "a path or an address")
PATH = click.Path(path_type=Path)
