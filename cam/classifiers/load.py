"""What the caller asks for by name: a network with its weights, looking at pictures as wanted, and a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from torch import nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.labels import name_classes
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork
from cam.classifiers.sources.registry import build
from cam.heads.examine import examine
from cam.heads.head import Head
from cam.heads.outputs import unwrap
from cam.tensors import pick_device


class LoadOptions(TypedDict, total=False):
    """How to load a network, as keyword arguments of `load_network`."""

    weights: str | Path | None
    input_size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    random_weights: bool
    unsafe_pickle: bool


def load_network(
    model: str,
    *,
    weights: str | Path | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> LoadedNetwork:
    """Build the network a name stands for, ready to be examined.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it, safetensors or torch; its own weights by default.
        input_size: side of the square input, pixels, instead of the model's own.
        mean: of each channel, of values in [0, 1], instead of the model's own.
        std: likewise.
        random_weights: leave the weights as they are initialized.
        unsafe_pickle: let the checkpoint run code while it is read.

    Returns:
        The network on the CPU, in evaluation mode and without gradients, with its preprocessing and labels.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: its weights cannot be had, read or fitted.
        UsageError: an argument that cannot be right.

    Example:
        >>> load_network("cifar-resnet20", input_size=64, random_weights=True).preprocessing.input_shape
        (3, 64, 64)
    """
    file = Path(weights) if weights is not None else None
    built = build(model, weights=file, random_weights=random_weights, unsafe_pickle=unsafe_pickle)
    preprocessing = adjust(built.preprocessing, input_size, mean, std)
    return replace(built, network=built.network.eval().requires_grad_(False), preprocessing=preprocessing)


def adjust(
    preprocessing: Preprocessing,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Preprocessing:
    """Change what the caller gave, and leave the rest of the preprocessing.

    Example:
        >>> adjust(Preprocessing(), input_size=32).crop
        (32, 32)
    """
    if input_size is not None:
        preprocessing = replace(preprocessing, resize=input_size, crop=(input_size, input_size))
    return replace(
        preprocessing,
        mean=preprocessing.mean if mean is None else tuple(mean),
        std=preprocessing.std if std is None else tuple(std),
    )


def load_classifier(
    model: str = "resnet50",
    *,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    **loading: Unpack[LoadOptions],
) -> Classifier:
    """Load a classifier with the preprocessing and the labels that belong to it, and prove its head.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        labels: of the classes, in order, instead of the model's own.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        **loading: `weights`, `input_size`, `mean`, `std`, `random_weights` and `unsafe_pickle`, as for `load_network`.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: its weights cannot be had, read or fitted.
        HeadError: it does not end in global average pooling and a linear layer.
        UsageError: an argument that cannot be right.

    Example:
        >>> classifier = load_classifier("cifar-resnet20", random_weights=True)
        >>> classifier.head.weight.shape
        torch.Size([10, 64])
    """
    where = pick_device(device)
    built = load_network(model, **loading)
    classifier = make_classifier(model, built, labels=labels)
    return replace(classifier, network=classifier.network.to(where), head=classifier.head.to(where))


def wrap(
    network: nn.Module,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    input_size: int | None = None,
    name: str = "",
) -> Classifier:
    """Make a classifier of a network of your own; the network stays as and where it is.

    Args:
        network: takes (N, 3, H, W) and ends in global average pooling and a linear layer.
        labels: of the classes, in order; "class 0" and so on by default.
        preprocessing: from photograph to input; ImageNet's mean and standard deviation by default.
        input_size: side of its square input, pixels, 224 by default.
        name: what to call it.

    Raises:
        HeadError: the class scores are not an average over places.
        ModelError: the network does not run on such an input.
        UsageError: as many labels as classes are needed.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> wrap(network, labels=["cat", "dog"], input_size=32).head.kind
        'gap-linear'
    """
    built = LoadedNetwork(unwrap(network), adjust(preprocessing or Preprocessing(), input_size))
    return make_classifier(name or type(built.network).__name__, built, labels=labels)


def make_classifier(
    name: str,
    built: LoadedNetwork,
    head: Head | None = None,
    labels: Sequence[str] | None = None,
    *,
    in_float64: bool = False,
) -> Classifier:
    """Make a classifier of a network: find its head, prove it and place its cells.

    Args:
        name: what to call it.
        built: the network and what belongs to it.
        head: of that network, where it has just been found.
        labels: of the classes, in order, instead of the network's own.
        in_float64: whether to prove a copy of the network in float64 too.

    Raises:
        HeadError: the class scores are not an average over places.
        ModelError: the network does not run on inputs of its size.
        UsageError: as many labels as classes are needed.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> make_classifier("mine", LoadedNetwork(network, Preprocessing(32, (32, 32)))).head.weight.shape
        torch.Size([2, 4])
    """
    network, looks = built.network, built.preprocessing
    found = examine(network, looks.input_shape, head, in_float64=in_float64)
    names = name_classes(labels, built.labels, found.head.classes)
    return Classifier(
        name, network, found.head, looks, names, found.grid, found.proof, found.tensors_sha256, built.weights
    )
