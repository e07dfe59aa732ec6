"""Say what a result was made with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from cam.classifiers.checkpoints import hash_file
from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.tensors import device_and_dtype, hash_tensors
from cam.version import VERSION

_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "pillow", "onnxruntime")


class Loaded(Protocol):
    """A network and what belongs to it, whatever its head."""

    @property
    def name(self) -> str:
        """What it was loaded as."""

    @property
    def network(self) -> nn.Module:
        """Unwrapped, on its device."""

    @property
    def preprocessing(self) -> Preprocessing:
        """From photograph to input."""

    @property
    def weights(self) -> Path | None:
        """File the weights came from; None where they did not come from a file."""


def describe(model: Loaded, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe versions, arguments, model, weights and device, and of a `Classifier` its head, ready for JSON.

    Args:
        model: with or without an exact head.
        arguments: of the command.

    Example:
        >>> import cam
        >>> about = describe(cam.load_classifier("cifar-resnet20", random_weights=True), {})
        >>> about["head"]["kind"], len(about["weights"]["tensors_sha256"])
        ('gap-linear', 64)
    """
    device, dtype = device_and_dtype(model.network)
    file = model.weights
    return {
        "versions": versions(),
        "arguments": dict(arguments),
        "model": model.name,
        "weights": {
            "file": None if file is None else str(file),
            "sha256": None if file is None else hash_file(file),
            "tensors_sha256": model.tensors_sha256
            if isinstance(model, Classifier)
            else hash_tensors(model.network.state_dict()),
        },
        **(_head(model) if isinstance(model, Classifier) else {}),
        "preprocessing": asdict(model.preprocessing),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
    }


def versions() -> dict[str, str]:
    """Give the versions of this tool, of Python and of the libraries that results depend on.

    Example:
        >>> list(versions())[:3]
        ['gapcam', 'python', 'torch']
    """
    return {
        "gapcam": VERSION,
        "python": platform.python_version(),
        **{name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _version(library: str) -> str | None:
    """None where it is not installed, as what is an extra."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _head(classifier: Classifier) -> dict[str, Any]:
    site = classifier.head.site
    return {
        "head": {"kind": classifier.head.kind, "feature_layer": site.layer, "operation": site.operation},
        "proof": asdict(classifier.proof),
        "grid": asdict(classifier.grid),
    }
