"""Inspect a model's head without explaining an image: its kind, its site, and how well it is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_network, make_classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.transforms import Transform
from cam.errors import HeadError
from cam.heads.copies import random_inputs
from cam.heads.find import HeadReport, find_head
from cam.heads.general import GeneralHead, Method
from cam.heads.prove import prove_head
from cam.maps.geometry import Size


@dataclass(frozen=True)
class Inspection:
    """What is known of a model's head."""

    model: str  # its name
    input_shape: tuple[int, int, int]  # (channels, H, W) the head was found with
    head_report: HeadReport  # what the head is, and where the features are
    classifier: Classifier | None = None  # with the proof and the measured grid; None if there is no map
    cells: Size | None = None  # (h, w) of the map at that input; None if there is no map

    def to_json(self) -> dict[str, Any]:
        """Contents of `cam inspect --json`."""
        site, grid = self.head_report.site, self.head_report.grid
        head, proof = (self.classifier.head, self.classifier.proof) if self.classifier else (None, None)
        general = head if isinstance(head, GeneralHead) else None
        return {
            "model": self.model,
            "kind": self.head_report.kind,
            "exact": self.head_report.head is not None,
            "feature_layer": site and site.layer,
            "operation": site and site.operation,
            "input": list(self.input_shape),
            "grid": self.cells and list(self.cells),
            **{name: grid and list(getattr(grid, name)) for name in ("stride", "offset")},
            "placement": grid and grid.method,
            "method": head and head.method,
            "forward_passes_a_map": general and general.cost_of_map,
            "share_of_positions": general and general.share,
            "classes": head and head.classes,
            "labels": self.classifier and list(self.classifier.labels),
            "completeness_error": proof and proof.error,
            "completeness_error_float64": proof and proof.error64,
            "random_inputs": proof and proof.inputs,
            "reason": self.head_report.reason or None,
        }


def inspect_model(
    model: str,
    *,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Transform | None = None,
    input_size: int | None = None,
    resize: int | Size | None = None,
    crop: int | Size | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_in: int | None = None,
    output: str | int | None = None,
    method: Method | None = None,
    layer: str | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> Inspection:
    """Find a model's head, prove it in its own precision and in float64, and measure its grid.

    The arguments are those of `load_classifier`.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be downloaded, read or loaded.

    Example:
        >>> inspection = inspect_model("cifar-resnet20", random_weights=True)
        >>> inspection.head_report.kind, inspection.cells, inspection.classifier.proof.error64 < 1e-6
        ('gap-linear', (8, 8), True)
    """
    loaded = load_network(
        model,
        weights=weights,
        random_weights=random_weights,
        unsafe_pickle=unsafe_pickle,
        output=output,
        preprocessing=preprocessing,
        input_size=input_size,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        mean=mean,
        std=std,
        channels_in=channels_in,
    )
    network, shape = loaded.network, loaded.preprocessing.input_shape
    try:
        classifier = make_classifier(model, loaded, method=method, layer=layer)
    except HeadError:
        report = find_head(network, shape)
        if report.head is not None or layer is not None:  # its maps do not add up, or not from there
            raise
        return Inspection(model, shape, report)
    head, inputs = classifier.head, random_inputs(1, shape)
    cells = classifier.cells(classifier.forward(inputs)[1], inputs)
    if isinstance(head, GeneralHead):
        report = HeadReport(head.kind, head.reason, head.site, None, classifier.grid)
        return Inspection(model, shape, report, classifier, cells)
    classifier = replace(classifier, proof=prove_head(network, head, shape, in_float64=True))
    report = HeadReport(head.kind, "", head.site, head, classifier.grid)
    return Inspection(model, shape, report, classifier, cells)
