"""The demonstration: networks that saw digits in the right half only, tested everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

import cam.classifiers.sources.cards
from cam.classifiers.load import load_network, wrap
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.provenance import versions
from cam.evaluation.statistics import interval, plain
from cam.explanations.explain import explain_all
from cam.explanations.explanation import Explanation
from cam.files import write_whole
from cam.invariance.demo.figures import draw_demo
from cam.invariance.demo.positions import Measured, measure
from cam.invariance.demo.scenes import Floats, Ints
from cam.invariance.demo.training import MEAN, NETWORKS, SIZE, STD, Scenes, Trained, make_scenes, train_all
from cam.invariance.figures import check_matplotlib
from cam.tensors import hash_tensors

SCENES = 4000

EXPLAINED = 100


def run_demo(
    out: Path, *, train: bool = False, seed: int = 0, progress: Callable[[object], None] = lambda done: None
) -> dict[str, Any]:
    """Measure every network on digits everywhere, and draw it.

    Writes `accuracy-by-place.png`, `accuracy.png`, `unseen-heat.png` and `demo.json`.

    Args:
        out: the folder for them, made where there is none.
        train: whether to train all networks first (minutes) instead of taking the shipped ones.
        seed: of the training; one more is that of the test scenes, which share no glyph with those learned from.
        progress: called `TOTAL_EPOCHS` times while training, then once for each of the `NETWORKS`.

    Returns:
        What `demo.json` holds.

    Raises:
        OutputError: matplotlib is not installed, or a file cannot be written.
        UsageError: scikit-learn is needed to train, and is not installed.
    """
    check_matplotlib()
    networks = train_all(seed, progress) if train else shipped_networks()
    scenes = make_scenes(*shipped_glyphs(), SCENES, seed=seed + 1)
    measured = []
    for name, trained in networks.items():
        measured.append(measure(name, trained, scenes, seed=seed))
        progress(name)
    unseen = np.flatnonzero(scenes.unseen)[:EXPLAINED]
    explanations = explain_scenes(networks["position-gap"].network, scenes, unseen)
    hits = np.array([_inside(each, scenes.boxes[i]) for each, i in zip(explanations, unseen, strict=True)])
    facts = {
        "seed": seed,
        "trained": "on the spot" if train else "shipped",
        "versions": versions(),
        "scenes": SCENES,
        "peak_in_box_unseen": interval(hits, seed=seed),
        "networks": [_plain(each, networks[each.name].network) for each in measured],
    }
    draw_demo(out, measured, explanations, scenes, unseen)
    write_whole(out / "demo.json", (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    return facts


def shipped_networks() -> dict[str, Trained]:
    """Load the networks that tools/train_positions.py trained, by name.

    Example:
        >>> list(shipped_networks())[:2]
        ['position-gap', 'position-gap-circular']
    """
    cards = {
        name: json.loads((cam.classifiers.sources.cards.FOLDER / f"{name}.json").read_text("utf-8"))
        for name in NETWORKS
    }
    return {name: Trained(load_network(name).network, card["figures"]["few"]) for name, card in cards.items()}


def shipped_glyphs() -> tuple[Floats, Ints]:
    """Load the glyphs of `uci_digits("test")` without scikit-learn: (400, 8, 8) from 0 to 1, and classes (400,).

    Example:
        >>> glyphs, classes = shipped_glyphs()
        >>> glyphs.shape, glyphs.max().item()
        ((400, 8, 8), 1.0)
    """
    arrays = load_file(cam.classifiers.sources.cards.FOLDER / "position-glyphs.safetensors")
    return (arrays["glyphs"] / 16).astype(np.float32), arrays["classes"].astype(np.int64)


def explain_scenes(network: torch.nn.Module, scenes: Scenes, indices: Iterable[int]) -> list[Explanation]:
    """Explain what a network with an averaged head predicts of some of the scenes."""
    looks = Preprocessing(SIZE[0], SIZE, (MEAN,) * 3, (STD,) * 3)
    classifier = wrap(network, labels=tuple("0123456789"), preprocessing=looks, name="position-gap")
    return list(explain_all(classifier, [scenes.images[i] for i in indices]))


def _inside(explanation: Explanation, box: Ints) -> bool:
    """Whether the heat's peak lies in the digit's box."""
    y, x = explanation.peak
    return bool(box[0] <= x < box[2] and box[1] <= y < box[3])


def _plain(measured: Measured, network: torch.nn.Module) -> dict[str, Any]:
    return dict(plain({"tensors_sha256": hash_tensors(network.state_dict()), **asdict(measured)}))
