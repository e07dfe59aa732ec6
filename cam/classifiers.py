"""A classifier with everything that belongs to it: network, head, preprocessing, labels and grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from cam.builders import Built
from cam.errors import CamError, ModelError
from cam.examination import examine
from cam.features import Engine, forward
from cam.geometry import Grid, Size, stretched
from cam.head import Head
from cam.labels import check_labels
from cam.loading import Loading, adjust, load_network, pick_device
from cam.outputs import unwrap
from cam.preprocessing import Preprocessing
from cam.proof import Proof
from cam.twins import device_and_dtype


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
        tensors_sha256: of the network's tensors when its head was proved, as `hash_tensors` gives it.
        weights: file the weights came from; None where they did not come from a file.
        engine: runs the network faster; None runs it as it is, one thread at a time.
    """

    name: str
    network: nn.Module = field(repr=False)
    head: Head = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    grid: Grid
    proof: Proof
    tensors_sha256: str = field(repr=False)
    weights: Path | None = None
    engine: Engine | None = field(default=None, repr=False)

    @property
    def binary(self) -> bool:
        """Whether one logit decides between two classes."""
        return self.head.classes == 1

    def evaluate(self, inputs: Tensor) -> tuple[Tensor, Tensor, Head]:
        """Run the network once, from any number of threads.

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
            logits, features = (self.engine or self._as_it_is)(inputs)
        except CamError:
            raise
        except Exception as error:  # whatever a stranger's network may raise
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {str(error).rstrip('.')}",
                "Look at the size it was made for (--fit crop, no --resolution, no --tta), or take smaller batches",
            ) from error
        if {len(logits), len(features)} != {len(inputs)}:
            found = f"{self.name!r} gives {len(logits)} results and {len(features)} features for {len(inputs)} inputs"
            raise ModelError(found, "Take one picture at a time (--batch-size 1), or mend the network")
        logits, head = logits.float(), self.head
        if self.binary:
            logits = torch.cat((-logits, logits), 1)
            weight, bias = torch.cat((-head.weight, head.weight)), torch.cat((-head.bias, head.bias))
            head = replace(head, weight=weight, bias=bias)
        return logits, features, head

    def _as_it_is(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return forward(self.network, self.head.site, inputs.to(*device_and_dtype(self.network)).contiguous())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities: softmax, or the logistic function where there is one logit.

        Example:
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
            >>> wrap(network, input_size=16).probabilities(torch.zeros(1, 2)).tolist()
            [[0.5, 0.5]]
        """
        return logits.sigmoid() if self.binary else logits.softmax(1)

    def for_inputs_of(self, size: Size) -> Classifier:
        """Look at pictures of (H, W) pixels as they are, neither resized nor cropped.

        Example:
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
            >>> wrap(network, input_size=16).for_inputs_of((32, 48)).preprocessing.frame((32, 48)).input
            (32, 48)
        """
        return replace(self, preprocessing=self.preprocessing.for_inputs_of(size))

    def grid_for(self, cells: Size, input_size: Size) -> Grid:
        """Give the grid for a map of (h, w) cells over an input of (H, W) pixels."""
        return stretched(cells, input_size) if self.grid.method == "stretched" else self.grid


def load_classifier(
    model: str = "resnet50",
    *,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    **loading: Unpack[Loading],
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
    classifier = classify(model, built, labels=labels)
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
    built = Built(unwrap(network), adjust(preprocessing or Preprocessing(), input_size))
    return classify(name or type(built.network).__name__, built, labels=labels)


def classify(
    name: str,
    built: Built,
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
        >>> classify("mine", Built(network, Preprocessing(32, (32, 32)))).head.weight.shape
        torch.Size([2, 4])
    """
    network, looks = built.network, built.preprocessing
    found = examine(network, looks.input_shape, head, in_float64=in_float64)
    names = name_classes(labels, built.labels, found.head.classes)
    return Classifier(
        name, network, found.head, looks, names, found.grid, found.proof, found.tensors_sha256, built.weights
    )


def name_classes(labels: Sequence[str] | None, own: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Name the classes of a network: as the caller does, else as the model does if that fits, else by number.

    Args:
        labels: the caller's, in order; of one logit the class it speaks for, or the one against and the one for it.
        own: the model's.
        classes: number of logits.

    Raises:
        UsageError: the caller gave more or fewer labels than there are classes.

    Example:
        >>> name_classes(["dog"], None, 1), name_classes(None, ["cat", "dog"], 3)
        (('not dog', 'dog'), ('class 0', 'class 1', 'class 2'))
    """
    if labels is None and own is not None and len(own) == max(2, classes):
        labels = own
    if classes == 1 and labels is not None and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    if labels is not None:
        check_labels(labels, max(2, classes))
        return tuple(labels)
    return ("negative", "positive") if classes == 1 else tuple(f"class {index}" for index in range(classes))
