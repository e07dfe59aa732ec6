"""What every model source shares."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its preprocessing, the labels of its classes and the file of its weights, if there are any."""

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    weights: Path | None = None


def import_callable(name: str) -> Callable[..., nn.Module]:
    """Import `package.module:callable`."""
    try:
        function: Callable[..., nn.Module] = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script exits
        raise ModelError(
            f"{name!r} cannot be imported: {type(error).__name__}: {error}",
            "Give package.module:callable; installed modules come before those in the working directory",
        ) from error
    return function
