"""What every model source shares."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from torch import nn

from cam.classifiers.activations import Activation
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its preprocessing; labels, file of the weights and activation, if there are any.

    `own_weights` is False if labels and activation are those of other weights.
    """

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    weights: Path | None = None
    activation: Activation | None = None
    own_weights: bool = True


def import_callable(name: str) -> Callable[..., nn.Module]:
    """Import `package.module:callable` or `folder/file.py:callable`."""
    file, _, attribute = name.partition(":")
    try:
        if file.endswith(".py"):
            module = sys.modules[file] = ModuleType(file)  # dataclasses look themselves up there
            module.__file__ = file
            SourceFileLoader(file, file).exec_module(module)
            function: Callable[..., nn.Module] = attrgetter(attribute)(module)
        else:
            function = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script exits
        problem = f"--model {name!r} cannot be imported: {type(error).__name__}: {error}"
        remedy = "Give file.py:callable, or package.module:callable, where installed modules come first"
        raise ModelError(problem, remedy) from error
    return function
