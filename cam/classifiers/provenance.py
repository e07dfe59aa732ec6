"""What a result was made with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cam.classifiers.checkpoints import hash_file
from cam.classifiers.classifier import BaseClassifier, Classifier
from cam.heads.general import GeneralHead
from cam.heads.outputs import SelectedOutput
from cam.tensors import device_and_dtype, hash_tensors
from cam.version import VERSION

_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "pillow", "onnxruntime")


def describe(model: BaseClassifier, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe versions, arguments, model, weights and device, and the head if it is exact, ready for JSON."""
    device, dtype = device_and_dtype(model.network)
    head: dict[str, Any] = {}
    if isinstance(model, Classifier):
        site, general = model.head.site, isinstance(model.head, GeneralHead)
        details = {name: getattr(model.head, name) for name in ("permutations", "share", "cost") if general}
        facts = {"kind": model.head.kind, "feature_layer": site.layer, "operation": site.operation}
        head = {
            "head": {**facts, "method": model.head.method, **details},
            "proof": asdict(model.proof),
            "grid": asdict(model.grid),
        }
        sha256 = model.tensors_sha256
    else:
        sha256 = hash_tensors(model.network.state_dict())
    file, network = model.weights, model.network
    return {
        "versions": versions(),
        "arguments": dict(arguments),
        "model": model.name,
        "weights": {
            "file": str(file) if file else None,
            "sha256": hash_file(file) if file else None,
            "tensors_sha256": sha256,
        },
        "output": network.output if isinstance(network, SelectedOutput) else None,
        "activation": model.activation,
        "notes": list(model.notes),
        **head,
        "preprocessing": model.preprocessing.to_json(),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
    }


def versions() -> dict[str, str]:
    """Versions of this tool, of Python and of the installed libraries that results depend on."""
    libraries = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):  # an optional one
            libraries[name] = version(name)
    return {"gapcam": VERSION, "python": platform.python_version(), **libraries}
