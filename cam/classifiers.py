"""A classifier with everything that belongs to it: network, head, preprocessing, labels and grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cam.builders import build
from cam.cache import recall, remember
from cam.centres import measure_grid
from cam.errors import CamError, ModelError, UsageError
from cam.features import forward, unwrap
from cam.geometry import Grid, Size, stretched
from cam.head import Head, find_head
from cam.labels import check_labels
from cam.preprocessing import Preprocessing
from cam.proof import Proof, prove
from cam.twins import device_and_dtype
from cam.weights import hash_tensors


@dataclass(frozen=True)
class Classifier:
    """A network whose head is known and proved, ready to explain pictures.

    Attributes:
        name: what it was loaded as.
        network: unwrapped, on its device.
        head: weight and bias, on the network's device.
        preprocessing: from photograph to input.
        labels: of the classes, in order. A network with one logit has two: against and for.
        grid: where the cells of a map lie in an input.
        proof: how well the maps of random inputs added up.
        weights: file the weights came from; None where they did not come from a file.
    """

    name: str
    network: nn.Module = field(repr=False)
    head: Head = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    grid: Grid
    proof: Proof
    weights: Path | None = None

    @property
    def binary(self) -> bool:
        """Whether one logit decides between two classes."""
        return self.head.classes == 1

    def evaluate(self, inputs: Tensor) -> tuple[Tensor, Tensor, Head]:
        """Run the network once.

        Args:
            inputs: (N, channels, H, W) float32, normalised, on any device.

        Returns:
            Logits (N, C) float32 and features (N, K, h, w), on the network's device, and the head to read them
            with. One logit z is spelt out as two, -z against and z for the class.

        Raises:
            ModelError: the network does not run on inputs of this size.

        Example:
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
            >>> logits, features, head = wrap(network, input_size=16).evaluate(torch.zeros(2, 3, 16, 16))
            >>> logits.shape, features.shape
            (torch.Size([2, 2]), torch.Size([2, 4, 14, 14]))
        """
        try:
            logits, features = forward(self.network, self.head.site, inputs.to(*device_and_dtype(self.network)))
        except CamError:
            raise
        except Exception as error:  # whatever a stranger's network may raise
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {error}",
                "Look at the size it was made for with --fit crop, or take smaller batches",
            ) from error
        logits, head = logits.float(), self.head
        if self.binary:
            logits = torch.cat((-logits, logits), 1)
            weight, bias = torch.cat((-head.weight, head.weight)), torch.cat((-head.bias, head.bias))
            head = replace(head, weight=weight, bias=bias)
        return logits, features, head

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities: softmax, or the logistic function where there is one logit.

        Example:
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
            >>> wrap(network, input_size=16).probabilities(torch.zeros(1, 2)).tolist()
            [[0.5, 0.5]]
        """
        return logits.sigmoid() if self.binary else logits.softmax(1)

    def grid_for(self, cells: Size, input_size: Size) -> Grid:
        """Give the grid for a map of (h, w) cells over an input of (H, W) pixels."""
        return stretched(cells, input_size) if self.grid.method == "stretched" else self.grid


def load_classifier(
    model: str = "resnet50",
    *,
    weights: str | Path | None = None,
    labels: Sequence[str] | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str = "auto",
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> Classifier:
    """Load a classifier with the preprocessing and the labels that belong to it, and prove its head.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it, safetensors or torch; its own weights by default.
        labels: of the classes, in order, instead of the model's own.
        input_size: side of the square input, pixels, instead of the model's own.
        mean: of each channel, of values in [0, 1], instead of the model's own.
        std: likewise.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        random_weights: leave the weights as they are initialised.
        unsafe_pickle: let the checkpoint run code while it is read.

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
    file = Path(weights) if weights is not None else None
    built = build(model, weights=file, random_weights=random_weights, unsafe_pickle=unsafe_pickle)
    preprocessing = adjust(built.preprocessing, input_size, mean, std)
    network = built.network.eval().requires_grad_(False)
    classifier = wrap(network, labels=labels, preprocessing=preprocessing, name=model)
    if labels is None and built.labels is not None and len(built.labels) == len(classifier.labels):
        classifier = replace(classifier, labels=built.labels)
    return replace(classifier, network=network.to(where), head=classifier.head.to(where), weights=built.weights)


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
    network = unwrap(network)
    preprocessing = adjust(preprocessing or Preprocessing(), input_size)
    shape = preprocessing.input_shape
    head = find_head(network, shape).exact()
    proof = prove(network, head, shape)
    names = _names(labels, head.classes)
    device, _ = device_and_dtype(network)
    grid = _grid(network, head, shape)
    return Classifier(name or type(network).__name__, network, head.to(device), preprocessing, names, grid, proof)


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


def pick_device(name: str) -> torch.device:
    """Find the device a name stands for.

    Raises:
        UsageError: there is no such device here.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}", "Give auto, cpu, cuda, cuda:N or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(f"The device {name!r} was asked for, and this machine has none", "Take --device auto or cpu")
    return device


def _names(labels: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    if classes == 1 and labels is not None and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    if labels is not None:
        check_labels(labels, max(2, classes))
        return tuple(labels)
    return ("negative", "positive") if classes == 1 else tuple(f"class {index}" for index in range(classes))


def _grid(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Grid:
    key = hash_tensors(network.state_dict()), repr(network), head.site, shape  # the layers' strides are in no weight
    grid = recall(*key)
    if grid is None:
        grid = measure_grid(network, head, shape)
        if grid.method == "measured":  # else it may be for want of memory, which passes
            remember(grid, *key)
    return grid
