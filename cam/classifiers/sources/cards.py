"""Model cards: the JSON files in `models/`, each with a model's factory, preprocessing, labels and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, import_callable
from cam.errors import WeightsError
from cam.tensors import fixed_seed

_CAM = Path(__file__).parents[2]
FOLDER = _CAM / "models" if (_CAM / "models").is_dir() else _CAM.parent / "models"

_DECLARED = "from its card"


def card_names() -> list[str]:
    """Names of the models that have a card."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> dict[str, Any]:
    """Read the card of a model in `card_names`."""
    card: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return card


def from_card(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> LoadedNetwork:
    """Build the network of a card."""
    card = read_card(name)
    factory = import_callable(card["factory"])
    with fixed_seed():
        network = factory(**card["arguments"])
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in card["preprocessing"].items()
    }
    preprocessing, labels = Preprocessing(**values, fit=card["fit"]), tuple(card["labels"])
    activation = card.get("activation", "softmax")
    if random_weights:
        return LoadedNetwork(network, preprocessing, labels, None, activation, _DECLARED)
    file = weights or (FOLDER / card["weights"] if card["weights"] else None)
    if file is None:
        problem = f"{name!r} comes without weights"
        raise WeightsError(problem, "Give a checkpoint with --weights, or --no-weights for random ones")
    network, notes = fill_weights(network, factory, card["arguments"], file, unsafe_pickle)
    return LoadedNetwork(network, preprocessing, labels, file, activation, _DECLARED, notes=notes)
