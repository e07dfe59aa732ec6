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
    """List every named model with its source and description: the cards, then torchvision's builders.

    Example:
        >>> list_models()[0]["name"]
        'cifar-resnet20'
    """
    cards = [{"name": name, "source": "card", "description": read_card(name)["description"]} for name in card_names()]
    return cards + [
        {"name": name, "source": "torchvision", "description": "ImageNet, 1000 classes"} for name in torchvision_names()
    ]


def build_network(
    model: str, *, weights: Path | None = None, random_weights: bool = False, unsafe_pickle: bool = False
) -> LoadedNetwork:
    """Build the network of a card, a torchvision builder or `package.module:callable`."""
    if ":" in model:
        return from_factory(model, weights, unsafe_pickle)
    if model in card_names():
        return from_card(model, weights, random_weights, unsafe_pickle)
    if model in torchvision_names():
        return from_torchvision(model, weights, random_weights, unsafe_pickle)
    similar = difflib.get_close_matches(model, card_names() + torchvision_names(), 4) or ["resnet50", "digits"]
    raise ModelError(
        f"There is no model {model!r}",
        f"Use a name such as {', '.join(similar)}; `cam models` lists all. For your own, give package.module:callable",
    )
