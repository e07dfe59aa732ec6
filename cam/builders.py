"""From a model's name to a network: torchvision builders, cards and Python factories."""

from __future__ import annotations

import difflib
import importlib
import inspect
import io
import os
import sys
import urllib.error
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam.cards import card_names, read_card
from cam.errors import ModelError, UsageError, WeightsError
from cam.outputs import unwrap
from cam.preprocessing import Preprocessing
from cam.twins import same_each_time
from cam.weights import class_count, load_weights, read_checkpoint, strip_prefixes


@dataclass(frozen=True)
class Built:
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


def torchvision_names() -> list[str]:
    """List torchvision's classification builders.

    Example:
        >>> "resnet50" in torchvision_names()
        True
    """
    models = _torchvision()
    names: list[str] = models.list_models(module=models)
    return names


def list_models() -> list[dict[str, str]]:
    """List every model that has a name: the cards, then torchvision's builders.

    Example:
        >>> list_models()[0]["name"]
        'cifar-resnet20'
    """
    cards = [read_card(name) for name in card_names()]
    shipped = [{"name": card.name, "source": "card", "description": card.description} for card in cards]
    return shipped + [
        {"name": name, "source": "torchvision", "description": "ImageNet, 1000 classes"} for name in torchvision_names()
    ]


def build(
    model: str, *, weights: Path | None = None, random_weights: bool = False, unsafe_pickle: bool = False
) -> Built:
    """Build the network a name stands for.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it instead of its own weights.
        random_weights: leave the weights as they are initialised.
        unsafe_pickle: let the checkpoint run code while it is read.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: its weights cannot be had, read or fitted.

    Example:
        >>> build("cifar-resnet20", random_weights=True).network.linear.out_features
        10
    """
    if ":" in model:
        return _from_factory(model, weights, unsafe_pickle)
    if model in card_names():
        return _from_card(model, weights, random_weights, unsafe_pickle)
    if model in torchvision_names():
        return _from_torchvision(model, weights, random_weights, unsafe_pickle)
    known = card_names() + torchvision_names()
    near = ", ".join(difflib.get_close_matches(model, known, 4, 0.4)) or "resnet50, squeezenet1_1, digits"
    raise ModelError(
        f"There is no model {model!r}",
        f"Did you mean {near}? `cam models` lists all; a network of your own is given as package.module:callable",
    )


def _from_factory(model: str, weights: Path | None, unsafe_pickle: bool) -> Built:
    factory = _import(model)
    try:
        made = factory()
    except (Exception, SystemExit) as error:  # whatever a stranger's factory may raise
        raise ModelError(f"{model!r} failed: {type(error).__name__}: {error}", "Mend the factory") from error
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{model!r} gave a {type(made).__name__}", "Let it take no arguments and return a torch.nn.Module"
        )
    network = _fill(unwrap(made), factory, {}, weights, unsafe_pickle) if weights else unwrap(made)
    return Built(network, Preprocessing(), weights=weights)


def _from_card(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> Built:
    card = read_card(name)
    factory = _import(card.factory)
    with same_each_time():
        network = factory(**card.arguments)
    file = weights or card.weights
    if random_weights:
        return Built(network, card.preprocessing, card.labels)
    if file is None:
        raise WeightsError(
            f"{name!r} comes without weights", "Give a checkpoint with --weights, or --no-weights for random ones"
        )
    network = _fill(network, factory, card.arguments, file, unsafe_pickle)
    return Built(network, card.preprocessing, card.labels, file)


def _from_torchvision(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> Built:
    entry = _torchvision().get_model_weights(name).DEFAULT
    preset = entry.transforms()
    looks = Preprocessing(
        preset.resize_size[0],
        (preset.crop_size[0], preset.crop_size[0]),
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )
    labels = tuple(entry.meta["categories"])
    if weights is None and not random_weights:
        return Built(_pretrained(name, entry), looks, labels, _cached_file(entry))
    network = _untrained(name)
    if weights is not None:
        network = _fill(network, lambda **arguments: _untrained(name, **arguments), {}, weights, unsafe_pickle)
    return Built(network, looks, labels, weights)


def _torchvision() -> Any:
    """Its models, imported only for those who want one: that takes as long as torch itself."""
    return importlib.import_module("torchvision.models")


def _untrained(name: str, **arguments: Any) -> nn.Module:
    with same_each_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet and inception_v3 announce a new initialisation
        network: nn.Module = _torchvision().get_model(name, weights=None, **arguments)
    return network


def _pretrained(name: str, entry: Any) -> nn.Module:
    """Let torchvision fetch, check and load its weights; a file in its cache is taken as it is."""
    file, watched = _cached_file(entry), sys.stderr.isatty()
    try:
        with _weights_only(), redirect_stdout(sys.stderr if watched else io.StringIO()):  # ours is for results
            network: nn.Module = _torchvision().get_model(name, weights=entry, progress=watched)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"The weights of {name!r} cannot be fetched ({getattr(error, 'reason', error)})",
            f"Put the file {file.name} into {str(file.parent)!r}, or set TORCH_HOME to a folder that has "
            f"hub/checkpoints/{file.name}; the embedded model works offline: -m digits",
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{str(file)!r} cannot be read or written ({error})", "Mend it, or set TORCH_HOME"
        ) from error
    except Exception as error:  # a wrong hash, a torn file, code in a pickle, other keys: all mean another file
        raise WeightsError(
            f"The weights of {name!r} in {str(file)!r} cannot be used: {error}",
            "Remove the file so that it is fetched again",
        ) from error
    return network


@contextmanager
def _weights_only() -> Iterator[None]:
    """Forbid code in the pickles that torchvision reads: its builders do not pass `weights_only` on."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _cached_file(entry: Any) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)


def _fill(
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


def _import(name: str) -> Callable[..., nn.Module]:
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
