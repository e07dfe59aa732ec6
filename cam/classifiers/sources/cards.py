"""Model cards: the JSON files in `models/`, each with a model's factory, preprocessing, labels and weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, import_callable
from cam.errors import WeightsError
from cam.tensors import fixed_seed

_CAM = Path(__file__).parents[2]

FOLDER = _CAM / "models" if (_CAM / "models").is_dir() else _CAM.parent / "models"


@dataclass(frozen=True)
class Card:
    """The part of a file of `models/` that loading needs; without weights the user gives them."""

    description: str
    factory: str
    arguments: dict[str, Any]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Path | None


def card_names() -> list[str]:
    """Names of the models that have a card."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> Card:
    """Read the card of a model in `card_names`."""
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    values = content["preprocessing"]
    height, width = values["crop"]
    preprocessing = Preprocessing(
        values["resize"],
        (height, width),
        tuple(values["mean"]),
        tuple(values["std"]),
        values["interpolation"],
        content["fit"],
    )
    weights = FOLDER / content["weights"] if content["weights"] else None
    return Card(
        content["description"],
        content["factory"],
        content["arguments"],
        preprocessing,
        tuple(content["labels"]),
        weights,
    )


def from_card(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> LoadedNetwork:
    """Build the network of a card."""
    card = read_card(name)
    factory = import_callable(card.factory)
    with fixed_seed():
        network = factory(**card.arguments)
    if random_weights:
        return LoadedNetwork(network, card.preprocessing, card.labels)
    file = weights or card.weights
    if file is None:
        raise WeightsError(
            f"{name!r} comes without weights", "Give a checkpoint with --weights, or --no-weights for random ones"
        )
    network = fill_weights(network, factory, card.arguments, file, unsafe_pickle)
    return LoadedNetwork(network, card.preprocessing, card.labels, file)
