"""What `cam inspect` tells is what the classifier is explained with, and more of its proof."""

from __future__ import annotations

import json

import pytest

from cam.classifiers.inspection import inspect_model
from cam.classifiers.load import load_classifier
from cam.maps.geometry import stretched

KEYS = [
    *("model", "kind", "exact", "feature_layer", "operation", "input", "grid", "stride", "offset", "extent"),
    *(
        "placement",
        "arithmetic",
        "classes",
        "completeness_error",
        "completeness_error_float64",
        "random_inputs",
        "reason",
    ),
]


def test_an_exact_head_is_told_as_it_was_loaded():
    inspection = inspect_model("digits")
    classifier = load_classifier("digits", device="cpu")
    assert inspection.head_report.head is not None
    assert inspection.head_report.head.weight.equal(classifier.head.weight)
    assert inspection.classifier is not None
    assert inspection.classifier.grid == classifier.grid
    assert inspection.classifier.proof.error == classifier.proof.error
    found = json.loads(json.dumps(inspection.to_json()))
    assert list(found) == KEYS
    assert found["exact"] is True
    assert found["kind"] == "gap-linear"
    assert found["classes"] == 10
    assert found["offset"] == list(classifier.grid.offset)
    assert found["placement"] == "measured"
    assert found["completeness_error_float64"] < 1e-6
    assert found["reason"] is None


def test_a_head_that_is_not_exact_has_a_reason_and_no_figures():
    found = inspect_model("alexnet", random_weights=True, input_size=96).to_json()
    assert list(found) == KEYS
    known = {"model": "alexnet", "kind": "not-gap", "exact": False, "input": [3, 96, 96]}
    assert known.items() <= found.items()
    assert (found["feature_layer"], found["operation"]) == ("avgpool", "adaptive_avg_pool2d")
    assert "flatten" in found["reason"]
    figures = set(KEYS) - set(known) - {"feature_layer", "operation", "reason"}
    assert all(found[name] is None for name in figures)


@pytest.mark.parametrize(("size", "cells"), [(32, (8, 8)), (48, (12, 12))])
def test_the_cells_are_those_of_the_input_asked_for(size, cells):
    inspection = inspect_model("cifar-resnet20", random_weights=True, input_size=size)
    assert inspection.input_shape == (3, size, size)
    assert inspection.cells == cells
    assert inspection.arithmetic is not None
    assert (inspection.arithmetic.offset, inspection.arithmetic.stride) == ((0, 0), (4, 4))
    assert stretched(cells, (size, size)).offset == (1.5, 1.5)
