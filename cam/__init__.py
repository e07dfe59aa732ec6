"""Exact class activation maps: where did the model look, and why this class?

import cam
classifier = cam.load_classifier("resnet50")
explanation = cam.explain(classifier, "dog.jpg")
explanation.cam.mean() + explanation.bias  # is explanation.logit
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cam import version

if TYPE_CHECKING:
    from cam.classifiers import Classifier, load_classifier, wrap
    from cam.errors import CamError
    from cam.explanation import Explanation
    from cam.pipeline import explain, explain_all
    from cam.preprocessing import Preprocessing

__version__ = version.VERSION

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
    "Classifier": "cam.classifiers",
    "Explanation": "cam.explanation",
    "Preprocessing": "cam.preprocessing",
    "explain": "cam.pipeline",
    "explain_all": "cam.pipeline",
    "load_classifier": "cam.classifiers",
    "wrap": "cam.classifiers",
}


def __dir__() -> list[str]:
    """What completion offers, imported or not."""
    return __all__


def __getattr__(name: str) -> object:
    """Import on first use, so that `cam --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
