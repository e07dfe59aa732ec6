"""Look into a model's head without explaining a picture: what kind it is, where, and how well it is proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

from cam.arithmetic import arithmetic_grid
from cam.classifiers import Classifier, classify
from cam.geometry import Grid, Size
from cam.head import Verdict, find_head
from cam.loading import Loading, load_network
from cam.twins import random_inputs


@dataclass(frozen=True)
class Inspection:
    """What is known of a model's head.

    Attributes:
        model: its name.
        input_shape: (channels, H, W) the head was looked at with.
        verdict: what the head is, and where the features are.
        classifier: with the proof and the measured grid; None where there is no exact map.
        cells: (h, w) of the map at that input; None likewise.
        arithmetic: where convolution arithmetic puts the cells, if it can be derived.
    """

    model: str
    input_shape: tuple[int, int, int]
    verdict: Verdict
    classifier: Classifier | None = None
    cells: Size | None = None
    arithmetic: Grid | None = None

    def to_json(self) -> dict[str, Any]:
        """Lay it out for `cam inspect --json`.

        Example:
            >>> Inspection("vgg16", (3, 224, 224), Verdict("not-gap", "it flattens")).to_json()["exact"]
            False
        """
        site, head, arithmetic = self.verdict.site, self.verdict.head, self.arithmetic
        measured = self.classifier and self.classifier.grid
        proof = self.classifier and self.classifier.proof
        return {
            "model": self.model,
            "kind": self.verdict.kind,
            "exact": head is not None,
            "feature_layer": site and site.layer,
            "operation": site and site.operation,
            "input": list(self.input_shape),
            "grid": self.cells and list(self.cells),
            "jump": measured and list(measured.jump),
            "start": measured and list(measured.start),
            "reach": measured and list(measured.reach),
            "placement": measured and measured.method,
            "arithmetic": arithmetic and {"jump": list(arithmetic.jump), "start": list(arithmetic.start)},
            "classes": head and head.classes,
            "completeness_error": proof and proof.error,
            "completeness_error_float64": proof and proof.error64,
            "random_inputs": proof and proof.inputs,
            "reason": self.verdict.reason or None,
        }


def inspect_model(model: str, **loading: Unpack[Loading]) -> Inspection:
    """Find a model's head, prove it in its own precision and in float64, and measure its grid.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        **loading: `weights`, `input_size`, `mean`, `std`, `random_weights` and `unsafe_pickle`, as for `load_network`.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be had, read or fitted.

    Example:
        >>> inspection = inspect_model("cifar-resnet20", random_weights=True)
        >>> inspection.verdict.kind, inspection.cells, inspection.classifier.proof.error64 < 1e-6
        ('gap-linear', (8, 8), True)
    """
    built = load_network(model, **loading)
    network, shape = built.network, built.preprocessing.input_shape
    verdict = find_head(network, shape)
    if verdict.head is None:
        return Inspection(model, shape, verdict)
    classifier = classify(model, built, verdict.head, in_float64=True)
    _, features, _ = classifier.evaluate(random_inputs(1, shape))
    cells = features.shape[2], features.shape[3]
    return Inspection(model, shape, verdict, classifier, cells, arithmetic_grid(network, verdict.head.site, shape))
