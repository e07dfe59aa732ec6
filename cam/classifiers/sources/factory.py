"""Networks from `package.module:callable`."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, fill_weights, import_callable
from cam.errors import ModelError
from cam.heads.outputs import unwrap


def from_factory(model: str, weights: Path | None, unsafe_pickle: bool) -> LoadedNetwork:
    """Call a factory of the user."""
    factory = import_callable(model)
    try:
        made = factory()
    except (Exception, SystemExit) as error:  # whatever a stranger's factory may raise
        raise ModelError(f"{model!r} failed: {type(error).__name__}: {error}", "Mend the factory") from error
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{model!r} gave a {type(made).__name__}", "Let it take no arguments and return a torch.nn.Module"
        )
    network = fill_weights(unwrap(made), factory, {}, weights, unsafe_pickle) if weights else unwrap(made)
    return LoadedNetwork(network, Preprocessing(), weights=weights)
