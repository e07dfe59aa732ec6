"""Exact class activation maps: where did the model look, and why this class?

import cam
classifier = cam.load_classifier("resnet50")
explanation = cam.explain(classifier, "dog.jpg")
explanation.cam.mean() + explanation.bias  # is explanation.logit
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cam.errors import (
    CamError,
    DiskFullError,
    HeadError,
    ImageError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    StoppedError,
    UsageError,
    WeightsError,
)
from cam.version import VERSION

if TYPE_CHECKING:
    from cam.classifiers import Classifier, Preprocessing, inspect_model, load_classifier, wrap
    from cam.explanations import ExplainOptions, Explanation
    from cam.explanations.explain import explain, explain_all, explain_batch
    from cam.explanations.explore import Exploration, explore
    from cam.heads import find_head
    from cam.maps import class_activation_maps

__version__ = VERSION

__all__ = [
    "CamError",
    "Classifier",
    "DiskFullError",
    "ExplainOptions",
    "Explanation",
    "Exploration",
    "HeadError",
    "ImageError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "Preprocessing",
    "StoppedError",
    "UsageError",
    "WeightsError",
    "__version__",
    "class_activation_maps",
    "explain",
    "explain_all",
    "explain_batch",
    "explore",
    "find_head",
    "inspect_model",
    "load_classifier",
    "wrap",
]

_LAZY = {  # these import torch
    "cam.classifiers": ("Classifier", "Preprocessing", "inspect_model", "load_classifier", "wrap"),
    "cam.explanations": ("ExplainOptions", "Explanation"),
    "cam.explanations.explain": ("explain", "explain_all", "explain_batch"),
    "cam.explanations.explore": ("Exploration", "explore"),
    "cam.heads": ("find_head",),
    "cam.maps": ("class_activation_maps",),
}


def __dir__() -> list[str]:
    """List the public names for completion, imported or not."""
    return __all__


def __getattr__(name: str) -> object:
    """Import on first use, so that `cam --help` does not wait for torch."""
    if name == "training":
        return import_module("cam.training")
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'cam' has no attribute {name!r}")
