"""Say what a result was made with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from cam.classifiers import Classifier
from cam.twins import device_and_dtype
from cam.version import VERSION
from cam.weights import hash_file, hash_tensors

_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "pillow")


def describe(classifier: Classifier, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe versions, arguments, model, weights, head and device, ready for JSON.

    Args:
        classifier: the model.
        arguments: of the command.

    Example:
        >>> import cam
        >>> about = describe(cam.load_classifier("cifar-resnet20", random_weights=True), {})
        >>> about["head"]["kind"], len(about["weights"]["tensors_sha256"])
        ('gap-linear', 64)
    """
    device, dtype = device_and_dtype(classifier.network)
    site = classifier.head.site
    file = classifier.weights
    return {
        "versions": {"gapcam": VERSION, "python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
        "arguments": dict(arguments),
        "model": classifier.name,
        "weights": {
            "file": None if file is None else str(file),
            "sha256": None if file is None else hash_file(file),
            "tensors_sha256": hash_tensors(classifier.network.state_dict()),
        },
        "head": {"kind": classifier.head.kind, "feature_layer": site.layer, "operation": site.operation},
        "proof": asdict(classifier.proof),
        "grid": asdict(classifier.grid),
        "preprocessing": asdict(classifier.preprocessing),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
    }
