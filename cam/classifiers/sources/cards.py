"""Model cards: what a model is made of, how it looks at a picture, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, fill_weights, import_callable
from cam.errors import WeightsError
from cam.tensors import fixed_seed

_HERE = Path(__file__).parents[2]

FOLDER = _HERE / "models" if (_HERE / "models").is_dir() else _HERE.parent / "models"


@dataclass(frozen=True)
class Card:
    """One file of `models/`.

    Attributes:
        name: what `-m` takes.
        description: one sentence.
        factory: `package.module:callable` that builds the network.
        arguments: of the factory.
        preprocessing: from photograph to input.
        labels: of the classes, in order.
        weights: the shipped weights; None where the user gives them.
        license: of the weights, or of the network where there are none.
        source: where weights and data come from.
    """

    name: str
    description: str
    factory: str
    arguments: dict[str, Any]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Path | None
    license: str
    source: str


def card_names() -> list[str]:
    """List the models that have a card.

    Example:
        >>> "digits" in card_names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> Card:
    """Read the card of a model that `card_names` lists.

    Example:
        >>> read_card("cifar-resnet20").preprocessing.crop
        (32, 32)
    """
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    looks = content["preprocessing"]
    preprocessing = Preprocessing(
        looks["resize"],
        (looks["crop"][0], looks["crop"][1]),
        tuple(looks["mean"]),
        tuple(looks["std"]),
        looks["interpolation"],
        content["fit"],
    )
    return Card(
        name,
        content["description"],
        content["factory"],
        content["arguments"],
        preprocessing,
        tuple(content["labels"]),
        FOLDER / content["weights"] if content["weights"] else None,
        content["license"],
        content["source"],
    )


def from_card(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> LoadedNetwork:
    """Build the network of a card."""
    card = read_card(name)
    factory = import_callable(card.factory)
    with fixed_seed():
        network = factory(**card.arguments)
    file = weights or card.weights
    if random_weights:
        return LoadedNetwork(network, card.preprocessing, card.labels)
    if file is None:
        raise WeightsError(
            f"{name!r} comes without weights", "Give a checkpoint with --weights, or --no-weights for random ones"
        )
    network = fill_weights(network, factory, card.arguments, file, unsafe_pickle)
    return LoadedNetwork(network, card.preprocessing, card.labels, file)
