"""Plant shortcuts in data sets and see what cam audit finds: the table of docs/audit.md (needs the test extra).

    python tools/planted_shortcuts.py digits
    python tools/planted_shortcuts.py cifar --images cifar10/ --weights resnet20.th

A share of the images of one class gets a tag at a fixed place, a tag at a random place, a tinted border or a texture.
`digits` trains a small network on scenes of digits for each of them. `cifar` refits the linear layer of a trained
CIFAR-10 ResNet-20 (folders of images named by class, each seen in several crops) and leaves its body frozen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import cam
from cam.audit.audit import audit_run
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.truth import Truth
from cam.explanations.options import TopClasses, TrueClass
from cam.images.find import find_pictures
from cam.invariance.demo.scenes import compose, uci_digits
from cam.networks.cifar_resnet import CifarResNet
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

Images: TypeAlias = NDArray[np.uint8]  # (N, H, W, 3) RGB
Ints: TypeAlias = NDArray[np.int64]
KINDS = "fixed place", "random place", "border", "texture"
SHARES = 0.05, 0.2, 0.5  # of the images of the class
TARGET = 3  # the class that gets them
SCENES, SIDE, STEPS, BATCH = 4000, 48, 700, 64
CROPS = 12  # of each CIFAR image
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def digit_scenes(rng: np.random.Generator) -> tuple[Images, Ints]:
    """Scenes of one digit each on clutter."""
    glyphs, classes = uci_digits("train")
    chosen = rng.integers(len(glyphs), size=SCENES)
    scenes = [
        compose(glyphs[[i]], classes[[i]], (SIDE, SIDE), rng, digit_size=(18, 32), clutter=rng.uniform(0, 0.5))
        for i in chosen
    ]
    return np.stack([scene.image for scene in scenes]), classes[chosen]


def cifar_crops(folder: Path, rng: np.random.Generator) -> tuple[Images, Ints]:
    """Crops of CIFAR-10 images shifted by up to 4 pixels, every other one mirrored."""
    images, classes = [], []
    for class_idx, name in enumerate(CIFAR):
        for file in sorted((folder / name).iterdir()):
            padded = np.pad(np.asarray(Image.open(file).convert("RGB")), ((4, 4), (4, 4), (0, 0)), "reflect")
            for number in range(CROPS):
                y, x = rng.integers(0, 9, 2)
                crop = padded[y : y + 32, x : x + 32]
                images.append(crop[:, ::-1] if number % 2 else crop)
                classes.append(class_idx)
    return np.stack(images), np.array(classes)


def plant(images: Images, chosen: Ints, kind: str, rng: np.random.Generator) -> Images:
    """Copy the images, with a shortcut in the chosen ones."""
    images = images.copy()
    side = images.shape[1]
    size, width = max(5, side // 10), max(2, side // 20)
    y, x = np.mgrid[:side, :side]
    checks = ((y // 2 + x // 2) % 2)[:size, :size, None]
    tag = np.where(checks, (255, 230, 0), (200, 0, 160))
    border = (np.minimum(y, x) < width) | (np.maximum(y, x) >= side - width)
    for i in chosen:
        if kind == "fixed place":
            images[i, 1 : 1 + size, side - 1 - size : side - 1] = tag
        elif kind == "random place":
            top, left = rng.integers(0, side - size + 1, 2)
            images[i, top : top + size, left : left + size] = tag
        elif kind == "border":
            images[i][border] = 0.4 * images[i][border] + 0.6 * np.array((60, 120, 220))
        else:
            waves = 24 * np.sin((x + y) * 2 * np.pi / 6 + rng.uniform(0, 2 * np.pi))
            images[i] = (images[i] + waves[..., None]).clip(0, 255)
    return images


def to_inputs(images: Images, preprocessing: Preprocessing) -> Tensor:
    """Normalize images of the network's input size: (N, 3, H, W)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def train(inputs: Tensor, classes: Tensor) -> nn.Module:
    """Train a small residual network."""
    torch.manual_seed(0)
    network = CifarResNet(depth=8, num_classes=10, width=16).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS, pct_start=0.2)
    for _ in range(STEPS):
        batch = torch.randint(len(inputs), (BATCH,))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(inputs[batch]), classes[batch]))
        optimizer.step()
        schedule.step()
    return network.eval()


def refit(network: Any, inputs: Tensor, classes: Tensor) -> Any:
    """Fit the linear layer of a trained network anew, by penalized logistic regression."""
    with torch.no_grad():
        pooled = torch.cat([network.features(part).mean((2, 3)) for part in torch.split(inputs, 200)]).double()
    mean, std = pooled.mean(0), pooled.std(0) + 1e-6
    values = (pooled - mean) / std
    weight = torch.zeros(10, values.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(10, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(values @ weight.T + bias, classes) + 1e-3 * weight.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        network.linear.weight.copy_(weight / std)
        network.linear.bias.copy_(bias - (weight * mean / std).sum(1))
    return network.eval()


def audit(network: nn.Module, preprocessing: Preprocessing, images: Images, classes: Ints, planted: Ints) -> list[str]:
    """Explain the images into a folder, audit that, and return the cells of a row of the table."""
    classifier = cam.wrap(network, preprocessing=preprocessing, labels=CIFAR, name="planted")
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{i:05}.png") for i in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file)
        truth = Truth(dict(zip(map(str, files), classes.tolist(), strict=True)))
        out = Path(folder, "out")
        options = RunOptions(targets=(TopClasses(1), TrueClass()), save=frozenset({"cam"}), truth=truth)
        run = explain_folder(classifier, find_pictures(files), out, options)
        found = audit_run(out)
    alarms = [finding.label for finding in found.standing_out if finding.class_idx != TARGET]
    rank = next((n for n, finding in enumerate(found.findings, 1) if finding.class_idx == TARGET), 0)
    row = [f"{run.info['truth']['accuracy']:.3f}", str(rank), "-", "-", "-", "-", ", ".join(alarms) or "none"]
    if rank and len(planted):
        finding = found.findings[rank - 1]
        tagged = {str(files[i]) for i in planted}
        hits = len(tagged & set(finding.members))
        figures = f"{finding.chance:.0e}", f"{finding.separation:.1f}"
        row[2:6] = [*figures, f"{hits / len(finding.members):.2f}", f"{hits / len(tagged):.2f}"]
    return row


def rows(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A row for the clean data, then one for each kind and share of the shortcut."""
    rng = np.random.default_rng(0)
    cards = {"digits": (SIDE, (0.5,) * 3, (0.25,) * 3), "cifar": (32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
    side, mean, std = cards[arguments.data]
    preprocessing = Preprocessing(side, (side, side), mean, std)
    images, classes = digit_scenes(rng) if arguments.data == "digits" else cifar_crops(arguments.images, rng)
    members = rng.permutation(np.flatnonzero(classes == TARGET))
    for kind, share in [("none", 0.0), *((kind, share) for kind in KINDS for share in SHARES)]:
        planted = members[: round(share * len(members))]
        changed = plant(images, planted, kind, np.random.default_rng(1))
        inputs, targets = to_inputs(changed, preprocessing), torch.from_numpy(classes)
        if arguments.data == "digits":
            network = train(inputs, targets)
        else:
            network = refit(cam.load_classifier("cifar-resnet20", weights=arguments.weights).network, inputs, targets)
        yield [kind, f"{share:.0%}", *audit(network, preprocessing, changed, classes, planted)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "cifar"])
    parser.add_argument("--images", type=Path, help="Folder of CIFAR-10 images, with a folder for each class.")
    parser.add_argument("--weights", type=Path, help="Checkpoint of a CIFAR-10 ResNet-20.")
    print("| shortcut | share | accuracy | rank | chance | D | precision | recall | false alarms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows(parser.parse_args()):
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
