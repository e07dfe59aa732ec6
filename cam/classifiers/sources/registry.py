"""From a model's name to a network: torchvision builders, cards and Python factories."""

from __future__ import annotations

import difflib
from pathlib import Path

from cam.classifiers.sources.base import LoadedNetwork
from cam.classifiers.sources.cards import card_names, from_card, read_card
from cam.classifiers.sources.factory import from_factory
from cam.classifiers.sources.torchvision import from_torchvision, torchvision_names
from cam.errors import ModelError


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
) -> LoadedNetwork:
    """Build the network a name stands for.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it instead of its own weights.
        random_weights: leave the weights as they are initialized.
        unsafe_pickle: let the checkpoint run code while it is read.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: its weights cannot be had, read or fitted.

    Example:
        >>> build("cifar-resnet20", random_weights=True).network.linear.out_features
        10
    """
    if ":" in model:
        return from_factory(model, weights, unsafe_pickle)
    if model in card_names():
        return from_card(model, weights, random_weights, unsafe_pickle)
    if model in torchvision_names():
        return from_torchvision(model, weights, random_weights, unsafe_pickle)
    known = card_names() + torchvision_names()
    near = ", ".join(difflib.get_close_matches(model, known, 4, 0.4)) or "resnet50, squeezenet1_1, digits"
    raise ModelError(
        f"There is no model {model!r}",
        f"Did you mean {near}? `cam models` lists all; a network of your own is given as package.module:callable",
    )
