"""An inspection shows the head, the grid and the proof of the classifier that is loaded."""

from __future__ import annotations

import json

import pytest

from cam.classifiers.inspection import inspect_model
from cam.classifiers.load import load_classifier

FIGURES = [  # null where there is no map
    *("grid", "stride", "offset", "placement", "method", "forward_passes_a_map", "share_of_positions", "classes"),
    *("labels", "completeness_error", "completeness_error_float64", "random_inputs"),
]
KEYS = ["model", "kind", "exact", "feature_layer", "operation", "input", *FIGURES, "reason"]


def test_an_exact_head_is_the_one_that_is_loaded():
    inspection = inspect_model("digits")
    classifier = load_classifier("digits", device="cpu")
    assert inspection.head_report.head.weight.equal(classifier.head.weight)
    assert inspection.classifier.grid == classifier.grid
    assert inspection.classifier.proof.error == classifier.proof.error
    values = json.loads(json.dumps(inspection.to_json()))
    assert list(values) == KEYS
    assert values["completeness_error_float64"] < 1e-6
    expected = {"exact": True, "kind": "gap-linear", "classes": 10, "placement": "measured", "reason": None}
    assert {**expected, "offset": list(classifier.grid.offset)}.items() <= values.items()


def test_a_head_that_is_not_exact_has_a_reason_and_its_method():
    values = inspect_model("position-flatten-mlp").to_json()
    assert list(values) == KEYS
    expected = {"kind": "not-gap", "exact": False, "input": [3, 32, 64], "grid": [4, 8], "method": "integrated"}
    assert {**expected, "feature_layer": "features.4.2", "operation": "relu"}.items() <= values.items()
    assert "flatten" in values["reason"]
    assert 0 < values["forward_passes_a_map"] < 1.5
    assert values["completeness_error"] < 0.01


def test_what_is_refused_has_a_reason_and_no_figures():
    values = inspect_model("position-flatten", method="exact").to_json()
    assert list(values) == KEYS
    assert "flatten" in values["reason"]
    assert all(values[name] is None for name in FIGURES)


@pytest.mark.parametrize(("size", "cells"), [(32, (8, 8)), (48, (12, 12))])
def test_the_cells_are_those_of_the_given_input_size(size, cells):
    inspection = inspect_model("cifar-resnet20", random_weights=True, input_size=size)
    assert inspection.input_shape == (3, size, size)
    assert inspection.cells == cells
    assert inspection.head_report.grid.stride == (4, 4)
