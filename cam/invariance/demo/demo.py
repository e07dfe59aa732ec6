"""The demonstration: networks trained on digits in the right half only, tested at all positions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cam.classifiers.load import load_network, wrap
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.provenance import versions
from cam.classifiers.sources import cards
from cam.evaluation.benchmark import interval, plain
from cam.explanations.explain import explain_all
from cam.files import write_whole
from cam.invariance.demo.figures import draw_demo
from cam.invariance.demo.positions import evaluate_network
from cam.invariance.demo.scenes import Floats, Ints
from cam.invariance.demo.training import MEAN, NETWORKS, SIZE, STD, TrainedNetwork, make_scenes, train_all
from cam.invariance.plotting import check_matplotlib
from cam.tensors import hash_tensors

SCENES = 4000

EXPLAINED = 100  # scenes in the unseen half whose heat is measured


def run_demo(
    out: Path, *, train: bool = False, seed: int = 0, progress: Callable[[object], None] = lambda step: None
) -> dict[str, Any]:
    """Evaluate every network, and write figures and `demo.json`.

    Args:
        out: the output folder.
        train: train all networks first (minutes) instead of loading the shipped ones.
        seed: of the training; the test scenes, of other glyphs, have the next one.
        progress: called `TOTAL_EPOCHS` times while training, then once for each of the `NETWORKS`.

    Returns:
        The content of `demo.json`.
    """
    check_matplotlib()
    networks = train_all(seed, progress) if train else shipped_networks()
    scenes = make_scenes(*shipped_glyphs(), SCENES, seed=seed + 1)
    results = []
    for name, trained in networks.items():
        results.append(evaluate_network(name, trained, scenes, seed=seed))
        progress(name)

    preprocessing = Preprocessing(SIZE[0], SIZE, (MEAN,) * 3, (STD,) * 3)
    network, labels = networks["position-gap"].network, tuple("0123456789")
    classifier = wrap(network, labels=labels, preprocessing=preprocessing, name="position-gap")
    unseen = np.flatnonzero(scenes.unseen)[:EXPLAINED]
    explanations = list(explain_all(classifier, [scenes.images[i] for i in unseen]))
    peaks = np.array([explanation.peak[::-1] for explanation in explanations])  # x, y
    boxes = scenes.boxes[unseen]
    hits = np.all((boxes[:, :2] <= peaks) & (peaks < boxes[:, 2:]), axis=1)

    facts = {
        "seed": seed,
        "trained": "on the spot" if train else "shipped",
        "versions": versions(),
        "scenes": SCENES,
        "peak_in_box_unseen": interval(hits, seed=seed),
        "networks": [
            plain({"tensors_sha256": hash_tensors(networks[result.name].network.state_dict()), **asdict(result)})
            for result in results
        ],
    }
    draw_demo(out, results, explanations, scenes.classes[unseen], boxes)
    write_whole(out / "demo.json", (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    return facts


def shipped_networks() -> dict[str, TrainedNetwork]:
    """Load the networks that tools/train_positions.py trained, by name."""
    networks = {}
    for name in NETWORKS:
        card = json.loads((cards.FOLDER / f"{name}.json").read_text("utf-8"))
        networks[name] = TrainedNetwork(load_network(name).network, card["figures"]["small_set_accuracy"])
    return networks


def shipped_glyphs() -> tuple[Floats, Ints]:
    """Load the glyphs of `uci_digits("test")` without scikit-learn."""
    arrays = load_file(cards.FOLDER / "position-glyphs.safetensors")
    return (arrays["glyphs"] / 16).astype(np.float32), arrays["classes"].astype(np.int64)
