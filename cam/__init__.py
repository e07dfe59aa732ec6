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
    from cam.classifiers.classifier import Classifier
    from cam.classifiers.inspection import inspect_model
    from cam.classifiers.load import load_classifier, wrap
    from cam.classifiers.preprocessing import Preprocessing
    from cam.explanations.explain import explain, explain_all
    from cam.explanations.explanation import Explanation
    from cam.explanations.options import ExplainOptions
    from cam.heads.find import find_head
    from cam.maps.activation import class_activation_maps

__version__ = VERSION

__all__ = [
    "CamError",
    "Classifier",
    "DiskFullError",
    "ExplainOptions",
    "Explanation",
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
    "find_head",
    "inspect_model",
    "load_classifier",
    "wrap",
]

_MODULES = {  # these import torch
    "Classifier": "cam.classifiers.classifier",
    "ExplainOptions": "cam.explanations.options",
    "Explanation": "cam.explanations.explanation",
    "Preprocessing": "cam.classifiers.preprocessing",
    "class_activation_maps": "cam.maps.activation",
    "explain": "cam.explanations.explain",
    "explain_all": "cam.explanations.explain",
    "find_head": "cam.heads.find",
    "inspect_model": "cam.classifiers.inspection",
    "load_classifier": "cam.classifiers.load",
    "wrap": "cam.classifiers.load",
}


def __dir__() -> list[str]:
    """List the public names for completion, imported or not."""
    return __all__


def __getattr__(name: str) -> object:
    """Import on first use, so that `cam --help` does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cam' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
