"""Compare maps of networks whose head is no average over positions, as in docs/evaluation.md (extras bench and train).

    python benchmarks/other_heads.py
    python benchmarks/other_heads.py --rules

Small networks are trained on scenes of one digit each, from image labels alone. Every map of the true class is compared
with the digit's box, and by the faithfulness and grid benchmarks of `cam evaluate`.
"""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tables import table
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.vision_transformer import VisionTransformer

import cam
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.evaluation.benchmark import Evaluation, Row, Sample, run_benchmark
from cam.evaluation.faithfulness import evaluate_faithfulness
from cam.evaluation.grid import evaluate_grid
from cam.evaluation.methods import MapRequest, Method, baselines, map_methods
from cam.evaluation.metrics import box_mask, peak_inside, share_inside
from cam.evaluation.placement import centroid
from cam.heads import cut
from cam.heads.general import Method as MapMethod
from cam.heads.head import Site
from cam.images.find import Picture
from cam.invariance.demo.scenes import compose, uci_digits
from cam.invariance.demo.training import MEAN, RIGHT_HALF, STD, DigitScenes, train_network
from cam.networks.small_convnet import SmallConvNet

SIDE, CHANNELS, CLASSES = 48, 64, 10
DIGIT_SIZE, MAX_CLUTTER = (16, 24), 0.1
METHODS: tuple[MapMethod, ...] = ("integrated", "shapley", "gradcam", "hirescam", "layercam", "xgradcam")
SHARES = (0.5, 0.75, 0.9)
RULE_METHODS: tuple[MapMethod, ...] = ("integrated", "gradcam", "layercam")
TABLES = (("share in box", "distance"), ("insertion_blur", "deletion_blur"), ("share 2x2", "hit 2x2"))


class GeM(nn.Module):
    """The generalized mean of each channel (Radenović et al. 2018, eq. 3), of power 3."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, K, h, w) to (N, K)."""
        return x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


class AverageAndMax(nn.Module):
    """The average and the maximum of each channel, as in fastai's heads."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, K, h, w) to (N, 2K)."""
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)


class AttentionPool(nn.Module):
    """A learned query attends to the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, CHANNELS))
        self.attention = nn.MultiheadAttention(CHANNELS, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, K, h, w) to (N, K)."""
        tokens = x.flatten(2).mT
        pooled: Tensor = self.attention(self.query.expand(len(x), -1, -1), tokens, tokens, need_weights=False)[0]
        return pooled[:, 0]


def _mlp(channels: int = CHANNELS) -> list[nn.Module]:
    hidden = [nn.BatchNorm1d(channels), nn.Dropout(0.25), nn.Linear(channels, CHANNELS), nn.ReLU()]
    return [*hidden, nn.BatchNorm1d(CHANNELS), nn.Dropout(0.5), nn.Linear(CHANNELS, CLASSES)]


HEADS: dict[str, Callable[[], list[nn.Module]]] = {  # what follows the body of `SmallConvNet`
    "mlp": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *_mlp()],
    "gem": lambda: [GeM(), nn.Linear(CHANNELS, CLASSES)],
    "concat": lambda: [AverageAndMax(), *_mlp(2 * CHANNELS)],
    "attention": lambda: [AttentionPool(), nn.Linear(CHANNELS, CLASSES)],
}


# Blocks of class-token ViTs, and what comes before: the trained body, some of its convolutions, or none.
VITS: dict[str, tuple[int, Callable[[Any], nn.Module]]] = {
    "vit": (4, lambda body: body),
    "vit-shallow": (4, lambda body: nn.Sequential(body[:3], nn.Conv2d(32, CHANNELS, 2, 2))),
    "vit-4": (4, lambda body: nn.Conv2d(3, CHANNELS, 8, 8)),
    "vit-6": (6, lambda body: nn.Conv2d(3, CHANNELS, 8, 8)),
    "vit-6-conv": (6, lambda body: nn.Sequential(body[:2], nn.Conv2d(32, CHANNELS, 4, 4))),
}
TRAINING: dict[str, dict[str, int]] = {  # arguments of `train`, where a head on the trained body needs more
    "gem": {"epochs": 10},
    "vit-shallow": {"epochs": 12},
    "vit-4": {"count": 10000, "epochs": 30, "seed": 1},
    "vit-6": {"count": 10000, "epochs": 30, "seed": 2},
    "vit-6-conv": {"count": 6000, "epochs": 12, "seed": 3},
}
TRAINED = (*HEADS, "vit")
SHIPPED = ("position-flatten", "position-flatten-mlp")


def make_network(name: str, body: nn.Module | None = None) -> nn.Module:
    """Build one of `TRAINED` on a frozen body with features (N, 64, 6, 6), or on a new one."""
    body = deepcopy(body).requires_grad_(False) if body else SmallConvNet(size=(SIDE, SIDE)).features
    if name in VITS:
        blocks, front = VITS[name]
        network: Any = VisionTransformer(SIDE, 8, blocks, 4, CHANNELS, 128, num_classes=CLASSES)
        network.conv_proj = front(body)
        return network  # type: ignore[no-any-return]
    return nn.Sequential(OrderedDict(features=body, head=nn.Sequential(*HEADS[name]())))


def make_scenes(part: str, count: int, seed: int, **options: Any) -> DigitScenes:
    """Compose scenes of one digit each, from glyphs of a part of the UCI digits."""
    glyphs, classes = uci_digits(part)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(glyphs), size=count)
    options = {"size": (SIDE, SIDE), "digit_size": DIGIT_SIZE, **options}
    scenes = [
        compose([glyphs[i]], [classes[i]], rng=rng, clutter=rng.uniform(0, MAX_CLUTTER), **options) for i in chosen
    ]
    boxes = np.concatenate([scene.boxes for scene in scenes])
    return DigitScenes(np.stack([scene.image for scene in scenes]), classes[chosen], boxes)


def train(name: str, body: nn.Module | None = None, count: int = 3000, epochs: int = 10, seed: int = 0) -> Classifier:
    """Train one of `TRAINED` on a trained body, or from scratch: 3e-3 is too fast for a trained one."""
    make = partial(make_network, name, body)
    rate = 1e-3 if body else 3e-3
    scenes = make_scenes("train", count, seed)
    return wrap(train_network(make, scenes, epochs=epochs, seed=seed, learning_rate=rate), name)


def wrap(network: nn.Module, name: str, layer: str | None = None) -> Classifier:
    """Make a classifier of one of `TRAINED`."""
    own = Preprocessing(SIDE, (SIDE, SIDE), (MEAN,) * 3, (STD,) * 3)
    return cam.wrap(network, preprocessing=own, labels=list(map(str, range(CLASSES))), name=name, layer=layer)


def trained(names: Sequence[str], folder: Path) -> Iterator[Classifier]:
    """Load some of `TRAINED`, trained now if not in the folder: the body from scratch under GeM, then each head."""
    body = None
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(("gem", *names)):
        file, network = folder / f"{name}.pt", make_network(name, body)
        if not file.exists():
            classifier = train(name, body, **TRAINING.get(name, {"epochs": 5}))
            torch.save(classifier.network.state_dict(), file)
        network.load_state_dict(torch.load(file, weights_only=True))
        if name == "gem":
            body = network.get_submodule("features")
        if name in names:
            yield wrap(network.eval().requires_grad_(False), name)


def localize(classifier: Classifier, scenes: DigitScenes, methods: Sequence[Method]) -> Evaluation:
    """Measure how well the heat of each scene's class lies on its digit.

    Whether the peak is in the box, the share of positive heat there, and the pixels from its center to the centroid of
    the heat above half its maximum. Scenes whose class gets less than half of the probability are left out.
    """

    def measure(number: int) -> list[Sample]:
        image, class_idx, box = scenes.images[number], int(scenes.classes[number]), scenes.boxes[number]
        inputs, _ = classifier.preprocessing.prepare(image)
        if float(classifier.probabilities(classifier.forward(inputs[None])[0])[0, class_idx]) < 0.5:
            return []
        inside, center = box_mask(box[None], image.shape[:2]), (box[[1, 0]] + box[[3, 2]] - 1) / 2
        sample = {}
        for method in methods:
            heat = method.heats(MapRequest(f"{number}", image, (class_idx,)))[class_idx]
            distance = float(np.linalg.norm(np.subtract(centroid(heat), center)))
            sample[method.name] = {
                "peak in box": peak_inside(heat, inside),
                "share in box": share_inside(heat, inside),
                "distance": distance,
            }
        return [sample]

    items = ((f"{number}", number) for number in range(len(scenes.images)))
    return run_benchmark("localization", classifier.name, items, measure, {}, seed=0)


def peers(classifier: Classifier) -> list[Method]:
    """Make methods of other tools: pytorch-grad-cam; of a ViT also LeGrad of torch-cam, and attention rollout."""
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.methods import LeGrad

    network: Any = classifier.network
    vit = isinstance(network, VisionTransformer)
    layer = network.encoder.layers[-1].ln_1 if vit else network.features[-1]  # as pytorch-grad-cam's README says
    extractors: dict[str, Callable[[Tensor, int], Any]] = {}

    def heats(extract: Callable[[Tensor, int], Any], request: MapRequest) -> dict[int, Any]:
        inputs = classifier.preprocessing.prepare(request.image)[0][None].requires_grad_()
        with torch.enable_grad():
            maps = [torch.as_tensor(extract(inputs, class_idx)).float() for class_idx in request.class_idxs]
        resized = [interpolate(each[None, None], request.image.shape[:2], mode="bilinear")[0, 0] for each in maps]
        return {class_idx: each.numpy() for class_idx, each in zip(request.class_idxs, resized, strict=True)}

    def by_gradient(kind: Any, inputs: Tensor, class_idx: int) -> Any:
        with kind(network, [layer], _as_grid if vit else None) as extractor:
            return extractor(inputs, [ClassifierOutputTarget(class_idx)])[0]

    def legrad(inputs: Tensor, class_idx: int) -> Any:
        with LeGrad(network, list(network.encoder.layers)) as extractor:
            return extractor(class_idx, network(inputs))[0][0]

    extractors |= {"GradCAM": partial(by_gradient, GradCAM), "GradCAM++": partial(by_gradient, GradCAMPlusPlus)}
    if vit:
        extractors |= {"LeGrad": legrad, "rollout": lambda inputs, class_idx: _rollout(network, inputs)}
    return [Method(name, partial(heats, extract)) for name, extract in extractors.items()]


def _as_grid(tokens: Tensor) -> Tensor:
    patches = tokens[:, 1:]
    return patches.mT.reshape(len(tokens), -1, SIDE // 8, SIDE // 8)


def _rollout(network: Any, inputs: Tensor) -> Tensor:
    """Multiply the attention of all blocks, with the residual as half of each (Abnar and Zuidema 2020, section 4)."""
    weights: list[Tensor] = []

    def keep(attention: Any, args: Any, output: object) -> None:
        weights.append(attention.forward(*args, need_weights=True)[1][0])

    handles = [block.self_attention.register_forward_hook(keep) for block in network.encoder.layers]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    product = torch.eye(len(weights[0]))
    for weight in weights:
        product = (weight + torch.eye(len(weight))) / 2 @ product
    return product[0, 1:].view(SIDE // 8, SIDE // 8)


def measure(classifier: Classifier, scenes: DigitScenes, with_peers: bool) -> list[Row]:
    """Measure the maps of one network by all benchmarks."""
    images = {f"{number}": image for number, image in enumerate(scenes.images)}
    pictures = [Picture(Path(name), PurePosixPath(name)) for name in images]

    def methods(of: Classifier) -> list[Method]:
        return [*map_methods(of, METHODS), *(peers(of) if with_peers else []), *baselines(0)]

    def load(picture: Picture) -> Any:
        return images[picture.path.name]

    found = localize(classifier, scenes, methods(classifier))
    classes = dict(zip(pictures, scenes.classes.tolist(), strict=True))
    faithful = evaluate_faithfulness(classifier, pictures[:50], methods(classifier), steps=24, load=load)
    grid = evaluate_grid(classifier, classes, methods, sizes=[2], load=load)
    print(
        f"{_describe(classifier)}, {found.pictures} of {len(images)} scenes recognized, grid: {grid.settings['input']}"
    )
    return [*found.rows, *faithful.rows, *grid.rows]


def _describe(classifier: Classifier) -> str:
    head: Any = classifier.head
    cut = f"cut at {head.site.layer}, which has {head.share:.0%} of the scores"
    return f"{classifier.name}: {head.kind}, {head.method} chosen, {cut}"


def print_tables(rows_of: Mapping[str, Sequence[Row]]) -> None:
    """Print a table of each two metrics, with a column for each network."""
    for metrics in TABLES:
        chosen = {name: [row for row in rows if row.metric in metrics] for name, rows in rows_of.items()}
        lines = []
        for method in dict.fromkeys(row.method for rows in chosen.values() for row in rows):
            values = [[f"{row.value:.2f}" for row in rows if row.method == method] for rows in chosen.values()]
            lines.append([method, *(" / ".join(pair) or "-" for pair in values)])
        if lines:
            print(f"\n{' / '.join(metrics)}\n\n{table(['maps', *chosen], lines)}", flush=True)
    halves = {row.metric: (row.high - row.low) / 2 for rows in rows_of.values() for row in sorted(rows, key=_width)}
    print(f"\nHalf of the widest interval: {', '.join(f'{metric} {half:.2f}' for metric, half in halves.items())}")


def _width(row: Row) -> float:
    return row.high - row.low


def by_rules(network: nn.Module, name: str) -> Iterator[tuple[str, Classifier]]:
    """Cut a ViT at the latest block at which the patches move a share of the scores, or before the first one."""
    for share in SHARES:
        with (
            TemporaryDirectory() as cache,  # which knows nothing of shares
            patch.dict(os.environ, XDG_CACHE_HOME=cache),
            patch.object(cut, "_MIN_SHARE", share),
        ):
            classifier = wrap(network, name)
        yield f"{share:.0%} or more", classifier
    yield "before the blocks", wrap(network, name, "encoder.dropout")


def compare_rules(vit: Classifier, scenes: DigitScenes) -> Iterator[list[str]]:
    """Measure maps at the cut of each rule: a row of a table for each cut."""
    images = {f"{number}": image for number, image in enumerate(scenes.images)}
    pictures = [Picture(Path(name), PurePosixPath(name)) for name in images][:100]
    rules: dict[Site, list[str]] = {}
    cuts: dict[Site, Classifier] = {}
    for rule, classifier in by_rules(vit.network, vit.name):
        site = classifier.head.site
        rules.setdefault(site, []).append(rule)
        cuts.setdefault(site, classifier)
    for site, classifier in cuts.items():
        methods = map_methods(classifier, RULE_METHODS)
        found = localize(classifier, scenes, methods)
        faithful = evaluate_faithfulness(classifier, pictures, methods, steps=24, load=lambda p: images[p.path.name])
        values = {(row.method, row.metric): row for row in (*found.rows, *faithful.rows)}
        metrics = "share in box", "distance", "insertion_blur"
        cells = [" / ".join(f"{values[method, metric].value:.2f}" for metric in metrics) for method in RULE_METHODS]
        half = " / ".join(f"{max(_width(values[m, metric]) for m in RULE_METHODS) / 2:.2f}" for metric in metrics)
        head: Any = classifier.head
        place = f"`{site.layer.rpartition('.')[2]}` {site.operation} {site.occurrence + 1}"
        moved = [f"{head.share:.0%}", f"{head.cost_of_map:.2g}"]
        yield [f"`{vit.name}`", "; ".join(rules[site]), place, *moved, *cells, half, str(found.pictures)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare maps of networks whose head is no average over positions.")
    parser.add_argument("--only", nargs="+", help="networks (all)")
    parser.add_argument("--folder", type=Path, default=Path("build/other-heads"), help="trained weights (%(default)s)")
    parser.add_argument("--scenes", type=int, default=200, help="number of scenes (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="without other tools")
    parser.add_argument("--rules", action="store_true", help="compare where to cut ViTs instead")
    arguments = parser.parse_args()
    scenes = make_scenes("test", arguments.scenes, 1)
    if arguments.rules:
        vits = trained([name for name in VITS if name in (arguments.only or VITS)], arguments.folder)
        titles = ["network", "rule", "cut", "patches move", "passes", *RULE_METHODS, "half of the interval", "scenes"]
        print(table(titles, [row for vit in vits for row in compare_rules(vit, scenes)]))
        return
    only = arguments.only or (*TRAINED, *SHIPPED)
    networks = trained([name for name in TRAINED if name in only], arguments.folder)
    rows_of = {network.name: measure(network, scenes, not arguments.no_peers) for network in networks}
    for name in SHIPPED:  # trained on digits in the right half
        if name in only:
            network = cam.load_classifier(name, device="cpu")
            options = {"size": network.preprocessing.crop, "digit_size": (16, 20), "area": RIGHT_HALF}
            rows_of[name] = measure(
                network, make_scenes("test", arguments.scenes, 1, **options), not arguments.no_peers
            )
    print_tables(rows_of)


if __name__ == "__main__":
    main()
