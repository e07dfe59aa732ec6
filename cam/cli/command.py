"""The class of the commands: a help in groups, and suggestions for wrong options."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
NOTHING_DONE, USAGE, SOME_FAILED, STOPPED = 1, 2, 3, 130  # exit statuses

# Options of similar tools, and what they are called here.
ALIASES = {
    "-m": "MODEL",
    "--model": "MODEL",
    "--alpha": "--opacity",
    "--arch": "--model",
    "--aug-smooth": "--tta",
    "--class": "--target",
    "--class-idx": "--target",
    "--cmap": "--colormap",
    "--image": "INPUT",
    "--image-path": "INPUT",
    "--img": "INPUT",
    "--output-dir": "--out",
    "--savefig": "--out",
}
LAYER_OPTIONS = {"--layers", "--target-layer", "--target-layers"}


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

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the options that are required, too."""
        first, *pieces = super().collect_usage_pieces(ctx)
        options = (parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option))
        return [first, *(f"{one.opts[0]} {one.metavar}" for one in options if one.required), *pieces]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Suggest the option that the user may have meant."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
        if name in LAYER_OPTIONS:
            remedy = "No layer is needed: cam inspect shows the one found; --layer takes an earlier one."
        else:
            known = [option for parameter in self.get_params(ctx) for option in parameter.opts if option[0] == "-"]
            known += [piece.strip("[].") for piece in self.collect_usage_pieces(ctx)]  # such as INPUT
            matches = get_close_matches(ALIASES.get(name, name), known, 1, 1 if name in ALIASES else 0.7)
            remedy = f"Did you mean {matches[0]}?" if matches else f"See {ctx.command_path} --help."
        raise click.UsageError(f"No such option: {name}. {remedy}", ctx)


class Option(click.Option):
    """An option that the help lists in a group, with short names for its values."""

    def __init__(self, *names: Any, group: str, **settings: Any) -> None:
        if isinstance(settings.get("type"), click.Choice):
            choices = "|".join(settings["type"].choices)
            settings["metavar"] = choices if len(choices) <= 12 else "NAME"
        super().__init__(*names, **settings)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Show the default in brackets, and a pair as --[no-]pair, so that most options take one line."""
        if (record := super().get_help_record(ctx)) is None:
            return None
        names = re.sub(r"--([\w-]+) / --no-\1", r"--[no-]\1", record[0])
        return names, re.sub(r" +\[default: \(?(.*?)\)?\]", r" [\1]", record[1])


def option_group(name: str) -> Callable[..., Callable[[Function], Function]]:
    """Make a `click.option` for the options of one group."""
    return partial(click.option, cls=Option, group=name)


def select(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options with these names."""
    return {name: options[name] for name in names}
