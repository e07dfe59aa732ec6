"""Look into a model's head without explaining a picture: what kind it is, where, and how well it is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cam.arithmetic import arithmetic_grid
from cam.builders import build
from cam.centres import measure_grid
from cam.classifiers import adjust
from cam.features import forward
from cam.geometry import Grid, Size
from cam.head import Head, Kind, find_head
from cam.proof import Proof, prove
from cam.twins import device_and_dtype, random_inputs


@dataclass(frozen=True)
class Inspection:
    """What is known of a model's head.

    Attributes:
        model: its name.
        kind: how the head is built.
        reason: why there is no exact map; "" when there is one.
        input_shape: (channels, H, W) the head was looked at with.
        feature_layer: name of the layer that gives the features, "" for the network itself; None where none does.
        operation: the call in that layer.
        cells: (h, w) of the map at that input.
        classes: number of class scores.
        measured: where the cells have their evidence from, measured.
        arithmetic: where convolution arithmetic puts them, if it can be derived.
        proof: completeness errors on random inputs.
    """

    model: str
    kind: Kind
    reason: str
    input_shape: tuple[int, int, int]
    feature_layer: str | None = None
    operation: str | None = None
    cells: Size | None = None
    classes: int | None = None
    measured: Grid | None = None
    arithmetic: Grid | None = None
    proof: Proof | None = None

    def to_json(self) -> dict[str, Any]:
        """Lay it out for `cam inspect --json`.

        Example:
            >>> Inspection("vgg16", "not-gap", "it flattens", (3, 224, 224)).to_json()["exact"]
            False
        """
        proof, measured, arithmetic = self.proof, self.measured, self.arithmetic
        return {
            "model": self.model,
            "kind": self.kind,
            "exact": self.proof is not None,
            "feature_layer": self.feature_layer,
            "operation": self.operation,
            "input": list(self.input_shape),
            "grid": self.cells and list(self.cells),
            "jump": measured and list(measured.jump),
            "start": measured and list(measured.start),
            "placement": measured and measured.method,
            "arithmetic": arithmetic and {"jump": list(arithmetic.jump), "start": list(arithmetic.start)},
            "classes": self.classes,
            "completeness_error": proof and proof.error,
            "completeness_error_float64": proof and proof.error64,
            "random_inputs": proof and proof.inputs,
            "reason": self.reason or None,
        }


def inspect_model(
    model: str,
    *,
    weights: Path | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> Inspection:
    """Find a model's head, prove it in its own precision and in float64, and measure its grid.

    Args:
        model: a card's name, a torchvision classification builder, or `package.module:callable`.
        weights: checkpoint to put into it; its own weights by default.
        input_size: side of the square input, pixels, instead of the model's own.
        mean: of each channel; one number for a network of grey pictures.
        std: likewise.
        random_weights: leave the weights as they are initialised.
        unsafe_pickle: let the checkpoint run code while it is read.

    Raises:
        ModelError: there is no such model, or it cannot be built or run.
        WeightsError: its weights cannot be had, read or fitted.

    Example:
        >>> inspection = inspect_model("cifar-resnet20", random_weights=True)
        >>> inspection.kind, inspection.cells, inspection.proof.error64 < 1e-6
        ('gap-linear', (8, 8), True)
    """
    built = build(model, weights=weights, random_weights=random_weights, unsafe_pickle=unsafe_pickle)
    shape = adjust(built.preprocessing, input_size, mean, std).input_shape
    network = built.network
    verdict = find_head(network, shape)
    site = verdict.site
    layer, operation = (site.layer, site.operation) if site else (None, None)
    if verdict.head is None:
        return Inspection(model, verdict.kind, verdict.reason, shape, layer, operation)
    head = verdict.head
    return Inspection(
        model,
        verdict.kind,
        "",
        shape,
        layer,
        operation,
        _cells(network, head, shape),
        head.classes,
        measure_grid(network, head, shape),
        arithmetic_grid(network, head.site, shape),
        prove(network, head, shape, in_float64=True),
    )


def _cells(network: nn.Module, head: Head, shape: tuple[int, int, int]) -> Size:
    _, features = forward(network, head.site, random_inputs(1, shape).to(*device_and_dtype(network)))
    height, width = features.shape[2:]
    return height, width
