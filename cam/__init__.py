"""Exact class activation maps: where did the model look, and why this class?

import cam
classifier = cam.load_classifier("resnet50")
explanation = cam.explain(classifier, "dog.jpg")
explanation.cam.mean() + explanation.bias  # is explanation.logit
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cam.version import VERSION

if TYPE_CHECKING:
    from cam.classifiers.classifier import Classifier
    from cam.classifiers.load import load_classifier, wrap
    from cam.classifiers.preprocessing import Preprocessing
    from cam.errors import CamError
    from cam.explanations.explain import explain, explain_all
    from cam.explanations.explanation import Explanation

__version__ = VERSION

__all__ = [
    "CamError",
    "Classifier",
    "Explanation",
    "Preprocessing",
    "__version__",
    "explain",
    "explain_all",
    "load_classifier",
    "wrap",
]

_HOMES = {
    "CamError": "cam.errors",
    "Classifier": "cam.classifiers.classifier",
    "Explanation": "cam.explanations.explanation",
    "Preprocessing": "cam.classifiers.preprocessing",
    "explain": "cam.explanations.explain",
    "explain_all": "cam.explanations.explain",
    "load_classifier": "cam.classifiers.load",
    "wrap": "cam.classifiers.load",
}


def __dir__() -> list[str]:
    """What completion offers, imported or not."""
    return __all__


def __getattr__(name: str) -> object:
    """Import on first use, so that `cam --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
