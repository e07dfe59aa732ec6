"""Train the networks of `cam invariance --demo`: write models/position-* (needs scikit-learn).

Writes cards, weights in half precision and the test glyphs, so that the demonstration needs no scikit-learn and no
training.

    python tools/train_positions.py
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save

from cam.cli.printing import progress
from cam.files import write_whole
from cam.invariance.demo.scenes import uci_digits
from cam.invariance.demo.training import MEAN, NETWORKS, SIZE, STD, TOTAL_EPOCHS, TrainedNetwork, train_all

MODELS = Path(__file__).resolve().parent.parent / "models"
SEED = 0
GLYPHS = (
    "Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (CC BY 4.0)"
)
PADDINGS = {"zeros": "zeros", "circular": "the opposite side", "reflect": "the picture mirrored"}
HEADS = {"gap-linear": "GAP, linear", "flatten-linear": "flatten, linear", "flatten-mlp": "flatten, two linear layers"}


def save_half(network: torch.nn.Module) -> bytes:
    """Encode the weights as safetensors in half precision."""
    floats = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    return save({name: tensor.contiguous().half() for name, tensor in floats.items()})


def card(name: str, weights: bytes, trained: TrainedNetwork) -> dict[str, Any]:
    arguments = NETWORKS[name]
    body = f"a body of five convolutions padded with {PADDINGS[arguments['padding_mode']]}"
    return {
        "name": name,
        "description": f"Digits learned in the right half of scenes only: {body}; {HEADS[arguments['head']]}",
        "factory": "cam.networks.small_convnet:SmallConvNet",
        "arguments": arguments,
        "preprocessing": {
            "resize": SIZE[0],
            "crop": list(SIZE),
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bilinear",
        },
        "fit": "crop",
        "labels": [str(digit) for digit in range(10)],
        "weights": f"{name}.safetensors",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "source": f"trained here by tools/train_positions.py; glyphs: {GLYPHS}",
        "license": "weights: MIT; glyphs they were trained on: CC BY 4.0",
        "figures": {
            "command": "python tools/train_positions.py",
            "seed": SEED,
            "small_set_accuracy": trained.small_set_accuracy,
        },
    }


def main() -> None:
    started = time.monotonic()
    with progress(TOTAL_EPOCHS, silent=False) as advance:
        networks = train_all(SEED, advance)
    for name, trained in networks.items():
        weights = save_half(trained.network)
        write_whole(MODELS / f"{name}.safetensors", weights)
        content = json.dumps(card(name, weights, trained), indent=2) + "\n"
        write_whole(MODELS / f"{name}.json", content.encode())
    glyphs, classes = uci_digits("test")
    arrays = {"glyphs": np.rint(16 * glyphs).astype(np.uint8), "classes": classes.astype(np.uint8)}
    write_whole(MODELS / "position-glyphs.safetensors", save_arrays(arrays, {"source": GLYPHS}))
    print(f"{len(networks)} networks in {(time.monotonic() - started) / 60:.1f} minutes: {MODELS}")


if __name__ == "__main__":
    main()
