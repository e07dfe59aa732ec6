"""The demonstration: networks trained on digits in the right half only, tested at all positions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cam.classifiers.load import load_network, wrap
from cam.classifiers.provenance import versions
from cam.classifiers.sources import cards
from cam.evaluation.benchmark import interval, plain
from cam.explanations.explain import explain_all
from cam.files import write_whole
from cam.invariance.demo.figures import MIN_SCENES, CellSums, MovedDigit, draw_demo
from cam.invariance.demo.scenes import Floats, Ints, compose
from cam.invariance.demo.training import (
    DIGIT_SIZE,
    HEADS,
    NETWORKS,
    RIGHT_HALF,
    SIZE,
    DigitScenes,
    TrainedNetwork,
    make_scenes,
    to_inputs,
    train_all,
)
from cam.networks.global_average_pooling import global_average_pool
from cam.tensors import hash_tensors

SCENES = 4000
EXPLAINED = 100  # scenes in the unseen half whose heat is measured
BIN = 4  # pixels, side of the squares in which digits are counted by position


def run_demo(
    out: Path, *, train: bool = False, seed: int = 0, progress: Callable[[object], None] = lambda step: None
) -> dict[str, Any]:
    """Evaluate all networks, write figures and `demo.json`, and return its content.

    `train` trains the networks first (minutes) instead of loading the shipped ones, with the seed; the test scenes, of
    other glyphs, have the next seed. `progress` is called `TOTAL_EPOCHS` times while training, then once a network.
    """
    networks = train_all(seed, progress) if train else shipped_networks()
    scenes = make_scenes(*shipped_glyphs(), SCENES, seed=seed + 1)
    results = []
    for name, trained in networks.items():
        results.append(evaluate_network(name, trained, scenes, seed=seed))
        progress(name)

    name, loaded = "position-gap", load_network("position-gap")
    network, labels, preprocessing = networks[name].network, loaded.labels, loaded.preprocessing
    classifier = wrap(network, labels=labels, preprocessing=preprocessing, name=name)
    chosen = np.flatnonzero(scenes.unseen)[:EXPLAINED]
    unseen = DigitScenes(scenes.images[chosen], scenes.classes[chosen], scenes.boxes[chosen])
    explanations = list(explain_all(classifier, list(unseen.images)))
    peaks, boxes = np.array([explanation.peak[::-1] for explanation in explanations]), unseen.boxes  # x, y
    hits = np.all((boxes[:, :2] <= peaks) & (peaks < boxes[:, 2:]), axis=1)

    moved = move_digit(networks, seed=seed)
    draw_demo(out, results, explanations, unseen, moved)
    facts: dict[str, Any] = plain(
        {
            "seed": seed,
            "trained": "on the spot" if train else "shipped",
            "versions": versions(),
            "scenes": SCENES,
            "peak_in_box_unseen": interval(hits, seed=seed),
            "networks": results,
            "moved_digit": moved.facts(),
        }
    )
    write_whole(out / "demo.json", (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    return facts


def evaluate_network(name: str, trained: TrainedNetwork, scenes: DigitScenes, *, seed: int) -> dict[str, Any]:
    """Evaluate one of `NETWORKS` on digits at all positions, with bootstrap intervals of that seed.

    `position_r2` is the share of the variance of the digit's x that a linear readout of the averaged features explains
    on held-out scenes (R2): 0 if the average tells nothing about the position, 1 if it tells it exactly.
    """
    body, head = trained.network.get_submodule("features"), trained.network.get_submodule("head")
    with torch.inference_mode():
        features = [body(inputs) for inputs in torch.split(to_inputs(scenes.images), 250)]
        predicted = torch.cat([head(batch).argmax(1) for batch in features]).numpy()
        pooled = torch.cat([global_average_pool(batch) for batch in features]).numpy()
    correct = predicted == scenes.classes
    return {
        "tensors_sha256": hash_tensors(trained.network.state_dict()),
        "name": name,
        **NETWORKS[name],
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "head_parameters": sum(parameter.numel() for parameter in head.parameters()),
        "seen": interval(correct[scenes.seen], seed=seed),
        "unseen": interval(correct[scenes.unseen], seed=seed),
        "drop": interval(np.stack((correct, scenes.seen, scenes.unseen), 1), _drop, seed=seed),
        "position_r2": interval(read_out_x(pooled, scenes.boxes), _r2, seed=seed),
        "small_set_accuracy": trained.small_set_accuracy,
        "by_position": accuracy_by_position(correct, scenes.boxes),
    }


def move_digit(networks: Mapping[str, TrainedNetwork], *, seed: int) -> MovedDigit:
    """Move the first digit that two heads recognize in the seen half by half of the width, to the unseen half."""
    glyphs, classes = shipped_glyphs()
    rng = np.random.default_rng(seed)
    for glyph, class_idx in zip(glyphs, classes.tolist(), strict=True):
        scene = compose([glyph], [class_idx], SIZE, rng, digit_size=DIGIT_SIZE, clutter=0, area=RIGHT_HALF)
        shift = SIZE[1] // 2
        images = np.stack((scene.image, np.roll(scene.image, -shift, 1)))  # without clutter all else is one color
        heads = {name: add_up_cells(networks[name].network, images, class_idx) for name in HEADS[:2]}
        if all(head.predicted[0] == class_idx for head in heads.values()):
            break
    return MovedDigit(class_idx, images, np.concatenate((scene.boxes, scene.boxes - (shift, 0, shift, 0))), heads)


def add_up_cells(network: torch.nn.Module, images: NDArray[np.uint8], class_idx: int) -> CellSums:
    """Split the logit of a class, of a head of one linear layer, into what each cell of the features adds."""
    with torch.inference_mode():
        features = network.get_submodule("features")(to_inputs(images))  # (N, K, h, w)
        logits = network.get_submodule("head")(features)
    linear, cells = network.get_submodule("head.linear"), features[0, 0].numel()
    weight, bias = linear.get_parameter("weight")[class_idx], float(linear.get_parameter("bias")[class_idx])
    if len(weight) == len(features[0]):  # each cell of an average has the same weights
        weight = (weight / cells)[:, None].expand(-1, cells)
    weights = weight.reshape(features.shape[1:])
    shares = (weights * features).sum(1)
    probabilities, predicted = logits.softmax(1).max(1)
    return CellSums(weights.numpy(), shares.numpy(), bias, predicted.numpy(), probabilities.numpy())


def accuracy_by_position(correct: NDArray[np.bool_], boxes: Ints) -> NDArray[np.float64]:
    """Average `correct` (N,) in squares, by the centers of boxes (N, 4): (8, 16), NaN below `MIN_SCENES`."""
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    edges = [np.arange(0, side + 1, BIN) for side in SIZE]
    counts, hits = np.histogram2d(y, x, edges)[0], np.histogram2d(y[correct], x[correct], edges)[0]
    return np.where(counts >= MIN_SCENES, hits / np.maximum(counts, 1), np.nan)


def read_out_x(pooled: NDArray[np.floating], boxes: Ints) -> NDArray[np.float64]:
    """Fit x of the boxes' centers to averaged features (N, K) on the first half: true and predicted x of the rest."""
    features = np.column_stack((pooled, np.ones(len(pooled)))).astype(np.float64)
    x, half = (boxes[:, 0] + boxes[:, 2]) / 2, len(pooled) // 2
    weights = np.linalg.lstsq(features[:half], x[:half])[0]
    return np.column_stack((x[half:], features[half:] @ weights))


def _drop(samples: NDArray[np.bool_]) -> float:
    correct, seen, unseen = samples.T
    return float(correct[seen].mean() - correct[unseen].mean())


def _r2(samples: NDArray[np.float64]) -> float:
    truth, predicted = samples.T
    return float(1 - ((truth - predicted) ** 2).mean() / truth.var())


def shipped_networks() -> dict[str, TrainedNetwork]:
    """Load the networks that tools/train_positions.py trained, by name."""
    accuracies = {name: cards.read_card(name)["figures"]["small_set_accuracy"] for name in NETWORKS}
    return {name: TrainedNetwork(load_network(name).network, accuracy) for name, accuracy in accuracies.items()}


def shipped_glyphs() -> tuple[Floats, Ints]:
    """Load the glyphs of `uci_digits("test")` without scikit-learn."""
    arrays = load_file(cards.FOLDER / "position-glyphs.safetensors")
    return (arrays["glyphs"] / 16).astype(np.float32), arrays["classes"].astype(np.int64)
