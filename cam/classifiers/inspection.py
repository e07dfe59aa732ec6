"""Look into a model's head without explaining a picture: what kind it is, where, and how well it is proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import LoadOptions, load_network, make_classifier
from cam.heads.copies import random_inputs
from cam.heads.find import HeadReport, find_head
from cam.heads.receptive_field import arithmetic_grid
from cam.maps.geometry import Grid, Size


@dataclass(frozen=True)
class Inspection:
    """What is known of a model's head.

    Attributes:
        model: its name.
        input_shape: (channels, H, W) the head was looked at with.
        head_report: what the head is, and where the features are.
        classifier: with the proof and the measured grid; None where there is no exact map.
        cells: (h, w) of the map at that input; None likewise.
        arithmetic: where convolution arithmetic puts the cells, if it can be derived.
    """

    model: str
    input_shape: tuple[int, int, int]
    head_report: HeadReport
    classifier: Classifier | None = None
    cells: Size | None = None
    arithmetic: Grid | None = None

    def to_json(self) -> dict[str, Any]:
        """Lay it out for `cam inspect --json`.

        Example:
            >>> Inspection("vgg16", (3, 224, 224), HeadReport("not-gap", "it flattens")).to_json()["exact"]
            False
        """
        site, head, arithmetic = self.head_report.site, self.head_report.head, self.arithmetic
        measured = self.classifier and self.classifier.grid
        proof = self.classifier and self.classifier.proof
        return {
            "model": self.model,
            "kind": self.head_report.kind,
            "exact": head is not None,
            "feature_layer": site and site.layer,
            "operation": site and site.operation,
            "input": list(self.input_shape),
            "grid": self.cells and list(self.cells),
            "stride": measured and list(measured.stride),
            "offset": measured and list(measured.offset),
            "extent": measured and list(measured.extent),
            "placement": measured and measured.method,
            "arithmetic": arithmetic and {"stride": list(arithmetic.stride), "offset": list(arithmetic.offset)},
            "classes": head and head.classes,
            "completeness_error": proof and proof.error,
            "completeness_error_float64": proof and proof.error64,
            "random_inputs": proof and proof.inputs,
            "reason": self.head_report.reason or None,
        }


def inspect_model(model: str, **loading: Unpack[LoadOptions]) -> Inspection:
    """Find a model's head, prove it in its own precision and in float64, and measure its grid.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        **loading: `weights`, `input_size`, `mean`, `std`, `random_weights` and `unsafe_pickle`, as for `load_network`.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be had, read or fitted.

    Example:
        >>> inspection = inspect_model("cifar-resnet20", random_weights=True)
        >>> inspection.head_report.kind, inspection.cells, inspection.classifier.proof.error64 < 1e-6
        ('gap-linear', (8, 8), True)
    """
    built = load_network(model, **loading)
    network, shape = built.network, built.preprocessing.input_shape
    head_report = find_head(network, shape)
    if head_report.head is None:
        return Inspection(model, shape, head_report)
    classifier = make_classifier(model, built, head_report.head, in_float64=True)
    _, features, _ = classifier.forward(random_inputs(1, shape))
    cells = features.shape[2], features.shape[3]
    return Inspection(
        model, shape, head_report, classifier, cells, arithmetic_grid(network, head_report.head.site, shape)
    )
