"""Train one body under several heads on digits that lie only in the right half of small scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cam.invariance.demo.scenes import Floats, Ints, compose, uci_digits
from cam.maps.boxes import Box
from cam.networks.small_convnet import SmallConvNet

SIZE = (32, 64)
RIGHT_HALF: Box = (32, 0, 64, 32)
DIGIT_SIZE = (16, 20)
MAX_CLUTTER = 0.1
MEAN, STD = 0.5, 0.25
LARGE_SET, SMALL_SET = 4000, 1000  # training scenes; a network can memorize the small set
EPOCHS = {LARGE_SET: 12, SMALL_SET: 30}
BATCH = 32
LEARNING_RATE = 3e-3

NETWORKS: dict[str, dict[str, Any]] = {  # arguments of `SmallConvNet` by name of the model card
    "position-gap": {"head": "gap-linear", "padding_mode": "zeros"},
    "position-gap-circular": {"head": "gap-linear", "padding_mode": "circular"},
    "position-gap-reflect": {"head": "gap-linear", "padding_mode": "reflect"},
    "position-flatten": {"head": "flatten-linear", "padding_mode": "zeros"},
    "position-flatten-mlp": {"head": "flatten-mlp", "padding_mode": "zeros"},
}

HEADS = ("position-gap", "position-flatten", "position-flatten-mlp")  # these differ in the head only
TOTAL_EPOCHS = EPOCHS[LARGE_SET] * len(NETWORKS) + EPOCHS[SMALL_SET] * len(HEADS)


@dataclass(frozen=True)
class DigitScenes:
    """Scenes of one digit each: images (N, 32, 64, 3) uint8 RGB, classes (N,), boxes (N, 4), xyxy in pixels."""

    images: NDArray[np.uint8]
    classes: Ints
    boxes: Ints

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(N,): True where the whole digit lies in the half that the networks were trained on."""
        return self.boxes[:, 0] >= RIGHT_HALF[0]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """(N,): True where the whole digit lies in the other half."""
        return self.boxes[:, 2] <= RIGHT_HALF[0]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network trained on the large set, in evaluation mode."""

    network: torch.nn.Module
    # Of a copy trained on the small set: on these scenes (`train`) and on others of the same half (`test`); empty for
    # networks that differ in padding only.
    small_set_accuracy: Mapping[str, float]


def make_scenes(glyphs: Floats, classes: Ints, count: int, *, area: Box | None = None, seed: int) -> DigitScenes:
    """Compose `count` scenes of one digit each from glyphs (G, 8, 8) and their classes (G,)."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(glyphs), size=count)
    arguments: dict[str, Any] = {"size": SIZE, "rng": rng, "digit_size": DIGIT_SIZE, "area": area}
    scenes = [compose([glyphs[i]], [classes[i]], clutter=rng.uniform(0, MAX_CLUTTER), **arguments) for i in chosen]
    images, boxes = np.stack([scene.image for scene in scenes]), np.concatenate([scene.boxes for scene in scenes])
    return DigitScenes(images, classes[chosen], boxes)


def train_all(seed: int, progress: Callable[[object], None]) -> dict[str, TrainedNetwork]:
    """Train all `NETWORKS` on the same scenes of the right half; calls `progress` after each of `TOTAL_EPOCHS`."""
    glyphs = uci_digits("train")
    large, small = (make_scenes(*glyphs, count, area=RIGHT_HALF, seed=seed) for count in (LARGE_SET, SMALL_SET))
    test = make_scenes(*uci_digits("test"), 1000, area=RIGHT_HALF, seed=seed + 1)
    trained = {}
    for name, arguments in NETWORKS.items():
        make = partial(SmallConvNet, **arguments)
        network = train_network(make, large, epochs=EPOCHS[LARGE_SET], seed=seed, progress=progress)
        accuracy: dict[str, float] = {}
        if name in HEADS:
            copy = train_network(make, small, epochs=EPOCHS[SMALL_SET], seed=seed, progress=progress)
            accuracy = {"train": is_correct(copy, small).mean().item(), "test": is_correct(copy, test).mean().item()}
        trained[name] = TrainedNetwork(network, accuracy)
    return trained


def train_network(
    make: Callable[[], torch.nn.Module],
    scenes: DigitScenes,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = LEARNING_RATE,
    progress: Callable[[object], None] = lambda network: None,
) -> torch.nn.Module:
    """Train a network that `make` gives from image labels only (AdamW, one-cycle learning rate)."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        network = make().to(memory_format=torch.channels_last)
        inputs, labels = to_inputs(scenes.images), torch.from_numpy(scenes.classes)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        steps = epochs * (len(labels) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.2)
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(labels)), BATCH)[: len(labels) // BATCH]:
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(network(inputs[batch]), labels[batch]))
                optimizer.step()
                schedule.step()
            progress(network)
    return network.eval().requires_grad_(False)


def to_inputs(images: NDArray[np.uint8]) -> torch.Tensor:
    """Normalize images (N, H, W, 3) uint8 to inputs (N, 3, H, W) float32."""
    values = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return values.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def is_correct(network: torch.nn.Module, scenes: DigitScenes) -> NDArray[np.bool_]:
    """(N,): True where the predicted class is the true one."""
    predicted = torch.cat([network(inputs).argmax(1) for inputs in torch.split(to_inputs(scenes.images), 250)])
    return np.asarray(predicted.numpy() == scenes.classes)
