"""Cost of the maps relative to the forward pass, in one process on one thread.

All variants take turns in each round. A round gives the ratio of processor time to that of the bare network in
inference mode; the table has medians and quartiles over the rounds. The other tools make maps of the same five classes.

    python benchmarks/forward.py --models squeezenet1_0 --batches 1 8 32 --rounds 15
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from time import process_time

import programs
import torch
from compare import BUILD, weights_of
from tables import publish, spread, table
from torch import Tensor, nn

import cam
from cam.classifiers.classifier import Classifier
from cam.engines.checked import make_engine
from cam.heads.copies import random_inputs
from cam.heads.general import GeneralHead
from cam.maps.activation import class_activation_maps

BARE = "bare network"
_CLASSES = 5
_MIN_IMAGES = 8  # in one measurement


def bare(run: Callable[[Tensor], object], inputs: Tensor) -> None:
    """Run the network alone."""
    with torch.inference_mode():
        run(inputs)


def five_maps(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Maps (N, 5, h, w) of the top five classes of each image."""
    logits, features, _ = classifier.forward(inputs)
    head = classifier.exact_head("The benchmark")
    return class_activation_maps(features, head.weight[logits.topk(_CLASSES).indices])


def all_maps(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Maps (N, C, h, w) of all classes; a network that averages class maps has them already."""
    _, features, _ = classifier.forward(inputs)
    head = classifier.exact_head("The benchmark")
    return features if head.kind == "conv-gap" else class_activation_maps(features, head.weight)


def torchcam_maps(network: nn.Module) -> Callable[[Tensor], object]:
    """`CAM` of torchcam, once a class."""
    from torchcam.methods import CAM

    extractor = CAM(network, *programs.layers(network))

    def run(inputs: Tensor) -> object:
        with torch.inference_mode():
            logits = network(inputs)
            return [extractor(column.tolist(), logits) for column in logits.topk(_CLASSES).indices.T]

    return run


def gradcam_maps(network: nn.Module) -> Callable[[Tensor], object]:
    """`GradCAM` of pytorch-grad-cam, once a class."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explain = GradCAM(network.requires_grad_(True), [network.get_submodule(programs.layers(network)[0])])

    def run(inputs: Tensor) -> object:
        with torch.inference_mode():
            classes = network(inputs).topk(_CLASSES).indices
        return [explain(inputs, [ClassifierOutputTarget(int(index)) for index in column]) for column in classes.T]

    return run


def complete_maps(classifier: Classifier, inputs: Tensor, nodes: int | None = None) -> list[Tensor]:
    """Maps (1, h, w) of the predicted class of each image, for any head."""
    logits, features, head = classifier.forward(inputs)
    if not isinstance(head, GeneralHead):
        raise TypeError(f"the head of {classifier.name} is exact")
    classes = [[class_idx] for class_idx in logits.argmax(1).tolist()]
    found = replace(head, nodes=nodes).class_maps(features, classes, (inputs.shape[2], inputs.shape[3]))
    return [maps.maps for maps in found]


def variants(classifier: Classifier) -> dict[str, Callable[[Tensor], object]]:
    """All measured variants, by name."""
    if isinstance(classifier.head, GeneralHead):
        return {
            BARE: partial(bare, classifier.network),
            "complete map, 8 nodes": partial(complete_maps, classifier, nodes=8),
            "complete map, 32 nodes": partial(complete_maps, classifier, nodes=32),
        }
    engine = make_engine("eager", classifier.network, classifier.head, classifier.preprocessing.input_shape)
    faster = replace(classifier, engine=engine)
    return {
        BARE: partial(bare, classifier.network),
        "network, maps of 5 classes": partial(five_maps, classifier),
        "network, maps of all classes": partial(all_maps, classifier),
        "eager engine": partial(bare, engine),
        "eager engine, maps of 5 classes": partial(five_maps, faster),
        "eager engine, maps of all classes": partial(all_maps, faster),
        "torchcam CAM, 5 classes": torchcam_maps(copy.deepcopy(classifier.network)),
        "grad-cam GradCAM, 5 classes": gradcam_maps(copy.deepcopy(classifier.network)),
    }


def measure(run: Callable[[Tensor], object], inputs: Tensor) -> float:
    """Processor seconds per image."""
    started, repeats = process_time(), -(-_MIN_IMAGES // len(inputs))
    for _ in range(repeats):
        run(inputs)
    return (process_time() - started) / (repeats * len(inputs))


def rows(model: str, batch: int, rounds: int, only: list[str]) -> Iterator[list[str]]:
    """Measure one network at one batch size: a row per variant."""
    classifier = cam.load_classifier(model, weights=weights_of(model), device="cpu")
    chosen = {name: run for name, run in variants(classifier).items() if name == BARE or name in only or not only}
    inputs = random_inputs(max(2, batch), classifier.preprocessing.input_shape)[:batch]
    for run in chosen.values():
        run(inputs)
    costs = [{name: measure(run, inputs) for name, run in chosen.items()} for _ in range(rounds)]
    for name in chosen:
        ratios = spread([seconds[name] / seconds[BARE] for seconds in costs], digits=3)
        yield [model, str(batch), name, ratios, f"{1000 * min(seconds[name] for seconds in costs):.1f}"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["squeezenet1_0", "resnet18", "resnet50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=9, help="[default: %(default)s]")
    parser.add_argument("--only", nargs="+", default=[], help="names of rows, in addition to the bare network")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    body = [
        row
        for model in arguments.models
        for batch in arguments.batches
        for row in rows(model, batch, arguments.rounds, arguments.only)
    ]
    titles = ["network", "batch", "program", "CPU / bare network", "least ms a picture"]
    publish(table(titles, body), arguments.table)


if __name__ == "__main__":
    main()
