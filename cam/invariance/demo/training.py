"""Train one body under several heads on digits that stand only in the right half of small scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cam.invariance.demo.scenes import Box, Floats, Ints, compose, uci_digits
from cam.networks.heads_compared import HeadsCompared

SIZE = (32, 64)

ANYWHERE: Box = (0, 0, 64, 32)

RIGHT: Box = (32, 0, 64, 32)

DIGIT_SIZE = (16, 20)

CLUTTER = 0.1

MEAN, STD = 0.5, 0.25

MANY, FEW = 4000, 1000
"""Scenes to learn from: enough of them, and so few that a network can learn them by heart."""

EPOCHS = {MANY: 12, FEW: 30}

BATCH = 32

LEARNING_RATE = 3e-3

NETWORKS: dict[str, dict[str, Any]] = {
    "position-gap": {"head": "gap-linear", "padding_mode": "zeros"},
    "position-gap-circular": {"head": "gap-linear", "padding_mode": "circular"},
    "position-gap-reflect": {"head": "gap-linear", "padding_mode": "reflect"},
    "position-flatten": {"head": "flatten-linear", "padding_mode": "zeros"},
    "position-flatten-mlp": {"head": "flatten-mlp", "padding_mode": "zeros"},
}
"""Arguments of `HeadsCompared`, by the name of the card."""

HEADS = ("position-gap", "position-flatten", "position-flatten-mlp")
"""Those that differ in nothing but the head."""

TOTAL_EPOCHS = EPOCHS[MANY] * len(NETWORKS) + EPOCHS[FEW] * len(HEADS)


@dataclass(frozen=True)
class Scenes:
    """Scenes of one digit each.

    Attributes:
        images: (N, 32, 64, 3) uint8 RGB.
        classes: (N,) int64.
        boxes: (N, 4) int64, around the digits, xyxy in pixels, the far edges exclusive.
    """

    images: NDArray[np.uint8]
    classes: Ints
    boxes: Ints

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(N,) whether the whole digit stands in the half that was learned from."""
        return self.boxes[:, 0] >= RIGHT[0]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """(N,) whether the whole digit stands in the other half."""
        return self.boxes[:, 2] <= RIGHT[0]


@dataclass(frozen=True)
class Trained:
    """A trained network, and how well it does when there is little to learn from.

    Attributes:
        network: learned from `MANY` scenes, in evaluation mode.
        few: accuracies of another that learned from `FEW`: `train` on these, `test` on other scenes of the same half;
            empty where only the padding differs.
    """

    network: torch.nn.Module
    few: Mapping[str, float]


def make_scenes(glyphs: Floats, classes: Ints, count: int, *, area: Box = ANYWHERE, seed: int) -> Scenes:
    """Compose scenes of one digit each.

    Args:
        glyphs: (G, 8, 8), the amount of ink from 0 to 1.
        classes: (G,), of the glyphs.
        count: number of scenes.
        area: where digits may lie, xyxy in pixels.
        seed: the only source of chance.

    Example:
        >>> scenes = make_scenes(np.ones((1, 8, 8), np.float32), np.array([1]), 3, area=RIGHT, seed=0)
        >>> scenes.images.shape, scenes.seen.tolist()
        ((3, 32, 64, 3), [True, True, True])
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(glyphs), size=count)
    made = [
        compose([glyphs[i]], [classes[i]], SIZE, rng, digit_size=DIGIT_SIZE, clutter=rng.uniform(0, CLUTTER), area=area)
        for i in chosen
    ]
    images, boxes = np.stack([scene.image for scene in made]), np.concatenate([scene.boxes for scene in made])
    return Scenes(images, classes[chosen], boxes)


def train_all(seed: int, progress: Callable[[object], None] = lambda done: None) -> dict[str, Trained]:
    """Train all `NETWORKS`, by name, on the same scenes of the right half.

    Args:
        seed: the only source of chance.
        progress: called after each of the `TOTAL_EPOCHS`.

    Raises:
        UsageError: scikit-learn, which has the digits, is not installed.
    """
    glyphs, others = uci_digits("train"), uci_digits("test")
    many, few = (make_scenes(*glyphs, count, area=RIGHT, seed=seed) for count in (MANY, FEW))
    test = make_scenes(*others, 1000, area=RIGHT, seed=seed + 1)
    trained: dict[str, Trained] = {}
    for name, arguments in NETWORKS.items():
        network = train_network(arguments, many, epochs=EPOCHS[MANY], seed=seed, progress=progress)
        accuracies: dict[str, float] = {}
        if name in HEADS:
            learner = train_network(arguments, few, epochs=EPOCHS[FEW], seed=seed, progress=progress)
            accuracies = {part: correct(learner, each).mean().item() for part, each in (("train", few), ("test", test))}
        trained[name] = Trained(network, accuracies)
    return trained


def train_network(
    arguments: Mapping[str, Any],
    scenes: Scenes,
    *,
    epochs: int,
    seed: int,
    progress: Callable[[object], None] = lambda done: None,
) -> HeadsCompared:
    """Train a network from image labels alone (AdamW, one cycle of the learning rate).

    Args:
        arguments: of `HeadsCompared`.
        scenes: to learn from, `BATCH` or more.
        epochs: how often each is seen.
        seed: of weights, order and dropout.
        progress: called after each epoch.

    Returns:
        The network in evaluation mode, without gradients.

    Example:
        >>> scenes = make_scenes(np.ones((1, 8, 8), np.float32), np.array([1]), 32, seed=0)
        >>> train_network({"head": "gap-linear"}, scenes, epochs=1, seed=0)(to_inputs(scenes.images)).shape
        torch.Size([32, 10])
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        network = HeadsCompared(**arguments).to(memory_format=torch.channels_last)
        inputs, labels = to_inputs(scenes.images), torch.from_numpy(scenes.classes)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        steps = epochs * (len(labels) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2)
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(labels)), BATCH)[: len(labels) // BATCH]:
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(network(inputs[chosen]), labels[chosen]))
                optimizer.step()
                schedule.step()
            progress(network)
    return network.eval().requires_grad_(False)


def to_inputs(images: NDArray[np.uint8]) -> torch.Tensor:
    """Turn pictures, (N, H, W, 3) uint8, into the network's input: (N, 3, H, W) float32.

    Example:
        >>> to_inputs(np.full((1, 1, 1, 3), 255, np.uint8)).flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    values = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return values.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def correct(network: torch.nn.Module, scenes: Scenes) -> NDArray[np.bool_]:
    """Say of each scene, (N,), whether its class is the one predicted."""
    predicted = torch.cat([network(some).argmax(1) for some in torch.split(to_inputs(scenes.images), 250)])
    right: NDArray[np.bool_] = predicted.numpy() == scenes.classes
    return right
