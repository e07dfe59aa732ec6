"""Model cards: what a model is made of, how it looks at a picture, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam.preprocessing import Preprocessing

_HERE = Path(__file__).parent
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
        licence: of the weights, or of the network where there are none.
        source: where weights and data come from.
    """

    name: str
    description: str
    factory: str
    arguments: dict[str, Any]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Path | None
    licence: str
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
        content["licence"],
        content["source"],
    )
