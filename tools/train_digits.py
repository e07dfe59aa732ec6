"""Train the embedded model: write models/digits.safetensors and models/digits.json (needs scikit-learn).

It is trained on image labels only, on scenes of one digit each: never on a box, never on a test glyph.

    python tools/train_digits.py
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save

from cam.files import write_whole
from cam.invariance.demo.scenes import Floats, Ints, Scene, compose, uci_digits
from cam.networks.cifar_resnet import CifarResNet

MODELS = Path(__file__).resolve().parent.parent / "models"
SEED = 0
STEPS = 1600
BATCH = 64
TEST_SEED = 1
SCENES = 3000
LEARNING_RATE = 4e-3
ARGUMENTS = {"depth": 14, "num_classes": 10, "width": 16}
MEAN, STD = 0.5, 0.25
SHORTER_SIDE = 72
CANVASES = ((72, 72), (72, 96), (96, 72))  # of the evaluation
ONE_DIGIT, TWO_DIGITS = (16, 36), (16, 28)  # height of the digits in pixels; two larger ones would not always fit


def to_input(scenes: list[Scene]) -> torch.Tensor:
    """Normalize scenes of one size to inputs (N, 3, H, W) float32."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    normalized = (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return normalized.contiguous(memory_format=torch.channels_last)


def vary(glyph: Floats, other: Floats, rng: np.random.Generator) -> Floats:
    """Augment a glyph: mix it with another of its class, make it thinner or thicker, and add noise."""
    mixed = glyph + rng.uniform(0, 0.4) * (other - glyph)
    noise = 0.08 * rng.standard_normal(glyph.shape, np.float32)
    return (mixed ** rng.uniform(0.6, 1.6) + noise).clip(0, 1)


def training_batch(
    glyphs: Floats, classes: Ints, rng: np.random.Generator, progress: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compose scenes of one digit each and their labels; the canvas size grows with progress from 0 to 1."""
    shorter = rng.uniform(40, 48 + 40 * progress)
    size = [round(shorter), round(shorter * rng.uniform(1, 1.5))]
    rng.shuffle(size)
    digit_size = (13, min(40, 0.7 * shorter))
    chosen = rng.integers(len(glyphs), size=BATCH)
    others = [rng.choice(np.flatnonzero(classes == classes[i])) for i in chosen]
    varied = [vary(glyphs[i], glyphs[j], rng) for i, j in zip(chosen, others, strict=True)]
    scenes = [
        compose([glyph], [label], (size[0], size[1]), rng, digit_size=digit_size, clutter=rng.uniform())
        for glyph, label in zip(varied, classes[chosen], strict=True)
    ]
    return to_input(scenes), torch.from_numpy(classes[chosen])


def train(steps: int, seed: int) -> CifarResNet:
    """Train the network for a number of steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    glyphs, classes = uci_digits("train")
    network = CifarResNet(**ARGUMENTS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    for step in range(1, steps + 1):
        images, labels = training_batch(glyphs, classes, rng, step / steps)
        logits = network(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            accuracy = (logits.argmax(1) == labels).float().mean()
            print(f"step {step} of {steps}: loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)
    return network.eval()


def peak_in_box(cam: torch.Tensor, scene: Scene, digit: int) -> bool:
    """True if the largest cell of a map (h, w), stretched over the scene, lies in the box of that digit."""
    row, column = divmod(int(cam.argmax()), cam.shape[1])
    y = (row + 0.5) * scene.image.shape[0] / cam.shape[0]
    x = (column + 0.5) * scene.image.shape[1] / cam.shape[1]
    x0, y0, x1, y1 = scene.boxes[digit]
    return bool(x0 <= x <= x1 and y0 <= y <= y1)


@torch.no_grad()
def predict(network: CifarResNet, scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict classes (N,) and class activation maps (N, C, h, w) of scenes of one size."""
    features = torch.cat([network.features(to_input(scenes[i : i + 100])) for i in range(0, len(scenes), 100)])
    cams = torch.einsum("ck,nkhw->nchw", network.linear.weight, features)
    return (cams.mean((2, 3)) + network.linear.bias).argmax(1), cams


def evaluate(network: CifarResNet, part: str, scenes: int, seed: int) -> dict[str, float]:
    """Evaluate a network on scenes of one digit, on as many of two digits, and on every glyph on a plain canvas.

    Returns shares from 0 to 1: `accuracy` and `peak_in_box` of one digit, `two_digits_peak_on_own` of two different
    digits, `quiet_accuracy` of the plain canvas.
    """
    rng = np.random.default_rng(seed)
    glyphs, classes = uci_digits(part)

    def scene_of(chosen: Ints, size: tuple[int, int], digit_size: tuple[int, int]) -> Scene:
        return compose(glyphs[chosen], classes[chosen], size, rng, digit_size=digit_size, clutter=rng.uniform())

    correct: list[bool] = []
    inside: list[bool] = []
    inside_of_two: list[bool] = []
    for size in CANVASES:
        count = -(-scenes // len(CANVASES))
        single = [scene_of(rng.integers(len(glyphs), size=1), size, ONE_DIGIT) for _ in range(count)]
        predicted, cams = predict(network, single)
        truth = torch.from_numpy(np.concatenate([scene.classes for scene in single]))
        correct += (predicted == truth).tolist()
        inside += [peak_in_box(cam[scene.classes[0]], scene, 0) for cam, scene in zip(cams, single, strict=True)]
        double = [scene_of(choose_two(classes, rng), size, TWO_DIGITS) for _ in range(count)]
        for cam, scene in zip(predict(network, double)[1], double, strict=True):
            inside_of_two += [peak_in_box(cam[scene.classes[digit]], scene, digit) for digit in (0, 1)]
    quiet = [
        compose([g], [c], CANVASES[0], rng, digit_size=(24, 24), clutter=0, area=(16, 16, 56, 56))
        for g, c in zip(glyphs, classes, strict=True)
    ]
    return {
        "accuracy": float(np.mean(correct)),
        "peak_in_box": float(np.mean(inside)),
        "two_digits_peak_on_own": float(np.mean(inside_of_two)),
        "quiet_accuracy": float((predict(network, quiet)[0].numpy() == classes).mean()),
    }


def choose_two(classes: Ints, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose two glyphs of different classes."""
    first = rng.integers(len(classes))
    second = rng.choice(np.flatnonzero(classes != classes[first]))
    return np.array([first, second])


def card(weights: bytes, minutes: float, figures: dict[str, float]) -> dict[str, object]:
    return {
        "name": "digits",
        "description": "Handwritten digits 0 to 9 anywhere in a scene: a residual network of 14 layers, GAP, linear",
        "factory": "cam.networks.cifar_resnet:CifarResNet",
        "arguments": ARGUMENTS,
        "preprocessing": {
            "resize": SHORTER_SIDE,
            "crop": [SHORTER_SIDE, SHORTER_SIDE],
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bilinear",
        },
        "fit": "whole",
        "labels": [str(digit) for digit in range(10)],
        "weights": "digits.safetensors",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "source": "trained here by tools/train_digits.py from image labels alone; architecture: He et al. 2015, "
        "section 4.2; glyphs: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository",
        "license": "weights: MIT; glyphs they were trained on: CC BY 4.0",
        "figures": {
            "command": "python tools/train_digits.py",
            "scenes": f"{SCENES} of one digit ({ONE_DIGIT[0]} to {ONE_DIGIT[1]} pixels high) and {SCENES} of two "
            f"different digits ({TWO_DIGITS[0]} to {TWO_DIGITS[1]} pixels), all from glyphs never trained on, "
            f"{SHORTER_SIDE} pixels on the shorter side, seed {TEST_SEED}",
            **{name: round(share, 4) for name, share in figures.items()},
            "minutes": round(minutes, 1),
            "threads": torch.get_num_threads(),
        },
    }


def main() -> None:
    started = time.monotonic()
    network = train(STEPS, SEED)
    weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    figures = evaluate(network, "test", SCENES, TEST_SEED)
    minutes = (time.monotonic() - started) / 60
    write_whole(MODELS / "digits.safetensors", weights)
    write_whole(MODELS / "digits.json", (json.dumps(card(weights, minutes, figures), indent=2) + "\n").encode())
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
