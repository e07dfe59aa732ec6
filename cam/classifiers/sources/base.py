"""What every model source shares."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError, UsageError


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its preprocessing, the labels of its classes and the file of its weights, if there are any."""

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    weights: Path | None = None


def import_callable(name: str) -> Callable[..., nn.Module]:
    """Import `package.module:callable`."""
    module, _, attribute = name.partition(":")
    try:
        value: object = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{name!r} cannot be imported: {error}",
            "Give package.module:callable; installed modules come before those in the working directory",
        ) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script exits
        raise ModelError(f"{module!r} failed on import: {type(error).__name__}: {error}", "Fix the module") from error
    if not callable(value):
        raise UsageError(f"{name!r} is not callable", "Name a function or class that returns a torch.nn.Module")
    return value
