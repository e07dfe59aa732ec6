"""What the caller asks for by name: a network with its weights, looking at pictures as wanted, and a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import torch

from cam.builders import Built, build
from cam.errors import UsageError
from cam.preprocessing import Preprocessing


class Loading(TypedDict, total=False):
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
) -> Built:
    """Build the network a name stands for, ready to be examined.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it, safetensors or torch; its own weights by default.
        input_size: side of the square input, pixels, instead of the model's own.
        mean: of each channel, of values in [0, 1], instead of the model's own.
        std: likewise.
        random_weights: leave the weights as they are initialised.
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
