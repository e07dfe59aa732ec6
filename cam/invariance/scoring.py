"""Class scores of any network, and their maps where there are exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.classifiers import Classifier, classify, name_classes
from cam.errors import CamError, HeadError, ModelError
from cam.features import evaluating
from cam.geometry import Size
from cam.head import find_head
from cam.loading import Loading, load_network, pick_device
from cam.outputs import find_logits
from cam.passes import Pass, run_network, sound
from cam.preprocessing import Preprocessing
from cam.twins import device_and_dtype


@dataclass(frozen=True)
class Headless:
    """A network whose scores are no average over places: they can be measured, and not spread over a picture.

    Attributes:
        name: what it was loaded as.
        network: unwrapped, on its device.
        preprocessing: from photograph to input.
        labels: of the classes, in order; two where there is one logit.
        reason: why there is no exact map.
        binary: whether one logit decides between two classes.
        weights: file the weights came from; None where they did not come from a file.
    """

    name: str
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    reason: str
    binary: bool = False
    weights: Path | None = None

    def for_inputs_of(self, size: Size) -> Headless:
        """Look at pictures of (H, W) pixels as they are, neither resized nor cropped.

        Example:
            >>> vgg = Headless("vgg", nn.Flatten(), Preprocessing(), ("a", "b"), "it flattens")
            >>> vgg.for_inputs_of((32, 48)).preprocessing.crop
            (32, 48)
        """
        return replace(self, preprocessing=self.preprocessing.for_inputs_of(size))

    def evaluate(self, inputs: Tensor) -> Tensor:
        """Run the network once.

        Args:
            inputs: (N, channels, H, W) float32, normalised, on any device.

        Returns:
            Logits (N, C) float32 on the CPU; one logit z is spelt out as two, -z against and z for the class.

        Raises:
            ModelError: the network does not run on inputs of this size.

        Example:
            >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
            >>> Headless("flat", network, Preprocessing(), (), "").evaluate(torch.zeros(2, 3, 2, 2)).shape
            torch.Size([2, 3])
        """
        try:
            with evaluating(self.network):
                logits = find_logits(self.network(inputs.to(*device_and_dtype(self.network)))).float().cpu()
        except CamError:
            raise
        except Exception as error:  # whatever a stranger's network may raise
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {error}",
                "Give a canvas of the size it was made for, or take smaller batches",
            ) from error
        return torch.cat((-logits, logits), 1) if self.binary else logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C) into probabilities: softmax, or the logistic function where there is one logit.

        Example:
            >>> Headless("vgg", nn.Flatten(), Preprocessing(), ("a", "b"), "").probabilities(torch.zeros(1, 2)).tolist()
            [[0.5, 0.5]]
        """
        return logits.sigmoid() if self.binary else logits.softmax(1)


Model: TypeAlias = Classifier | Headless


@dataclass(frozen=True)
class Look:
    """What a network makes of one picture.

    Attributes:
        logits: (C,) float32.
        probabilities: (C,) float32.
        cam: (h, w) float32, logit units, of the class asked for; None without an exact map.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    cam: NDArray[np.float32] | None = None


def load_any(
    model: str, *, labels: Sequence[str] | None = None, device: str = "auto", **loading: Unpack[Loading]
) -> Model:
    """Load a network as `load_classifier` does, also where it has no exact map.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        labels: of the classes, in order, instead of the model's own.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        **loading: `weights`, `input_size`, `mean`, `std`, `random_weights` and `unsafe_pickle`, as for `load_network`.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be had, read or fitted.
        UsageError: an argument that cannot be right.

    Example:
        >>> load_any("cifar-resnet20", random_weights=True, device="cpu").head.kind
        'gap-linear'
    """
    where = pick_device(device)
    built = load_network(model, **loading)
    try:
        head = find_head(built.network, built.preprocessing.input_shape).exact()
        classifier = classify(model, built, head, labels)
    except HeadError as error:
        network = built.network.to(where)
        headless = Headless(model, network, built.preprocessing, (), error.found, weights=built.weights)
        return _named(headless, labels, built.labels)
    return replace(classifier, network=classifier.network.to(where), head=classifier.head.to(where))


def look(model: Model, images: Sequence[NDArray[np.uint8]], class_idx: int | None = None) -> list[Look]:
    """Run a network once over pictures that become inputs of one size.

    Args:
        model: from `load_any`.
        images: (H, W, 3) uint8 RGB.
        class_idx: the class whose maps are wanted; None for none.

    Raises:
        ModelError: the network does not run on them, its scores are not finite, or the maps do not add up to them.

    Example:
        >>> model = load_any("cifar-resnet20", random_weights=True, device="cpu")
        >>> (found,) = look(model, [np.zeros((32, 32, 3), np.uint8)], 3)
        >>> found.logits.shape, found.cam.shape
        ((10,), (8, 8))
    """
    if isinstance(model, Classifier):
        passes = [sound(each) for each in run_network(model, images, model.preprocessing)]
        cams = [None if class_idx is None else _cam(each, class_idx) for each in passes]
        return [
            Look(each.logits.numpy(), each.probabilities.numpy(), cam) for each, cam in zip(passes, cams, strict=True)
        ]
    logits = model.evaluate(torch.stack([model.preprocessing.prepare(image)[0] for image in images]))
    if not logits.isfinite().all():
        raise ModelError(f"The class scores that {model.name!r} gives are not finite", "Check its weights")
    probabilities = model.probabilities(logits)
    return [Look(row, share) for row, share in zip(logits.numpy(), probabilities.numpy(), strict=True)]


def _cam(seen: Pass, class_idx: int) -> NDArray[np.float32]:
    cams = seen.cams([class_idx]).float().cpu()
    seen.prove(cams, [class_idx])
    return cams[0].numpy()


def _named(model: Headless, labels: Sequence[str] | None, own: Sequence[str] | None) -> Headless:
    """Count the classes, and name them."""
    classes = model.evaluate(torch.zeros(1, *model.preprocessing.input_shape)).shape[1]
    return replace(model, binary=classes == 1, labels=name_classes(labels, own, classes))
