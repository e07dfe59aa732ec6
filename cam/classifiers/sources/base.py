"""What every model source shares."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cam.classifiers.checkpoints import class_count, load_weights, read_checkpoint, strip_prefixes
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError, UsageError, WeightsError
from cam.heads.outputs import unwrap


@dataclass(frozen=True)
class LoadedNetwork:
    """A network and what belongs to it.

    Attributes:
        network: with its weights.
        preprocessing: from photograph to input.
        labels: of the classes; None where they are not known.
        weights: file the weights came from; None where there is none.
    """

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    weights: Path | None = None


def fill_weights(
    network: nn.Module, factory: Callable[..., nn.Module], arguments: dict[str, Any], file: Path, unsafe_pickle: bool
) -> nn.Module:
    """Put a checkpoint into a network, made anew with as many classes as the checkpoint has."""
    state = strip_prefixes(read_checkpoint(file, unsafe_pickle=unsafe_pickle), network.state_dict().keys())
    classes = class_count({name: tensor.shape for name, tensor in network.state_dict().items()}, state)
    if classes is not None:
        if not _takes_classes(factory):
            raise WeightsError(
                f"The weights of {str(file)!r} have {classes} classes, and the network is made with another number",
                "Let its factory take `num_classes` and make a network of that many",
            )
        network = unwrap(factory(**{**arguments, "num_classes": classes}))
    load_weights(network, state, str(file))
    return network


def _takes_classes(factory: Callable[..., nn.Module]) -> bool:
    parameters = inspect.signature(factory).parameters
    return "num_classes" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def import_callable(name: str) -> Callable[..., nn.Module]:
    """Find `package.module:callable`."""
    module, _, attribute = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{name!r} cannot be imported: {error}",
            "Give package.module:callable, as Python would import it from the current folder",
        ) from error
    except (Exception, SystemExit) as error:  # whatever a stranger's module may raise, a script's exit too
        raise ModelError(f"{module!r} failed on import: {type(error).__name__}: {error}", "Mend the module") from error
    if not callable(found):
        raise UsageError(f"{name!r} is not callable", "Name a function or class that returns a torch.nn.Module")
    return found
