"""Targets: parsing them, and the classes that they select on an image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cam.errors import UsageError
from cam.explanations.options import OneClass, TopClasses, parse_target, resolve

LABELS = ["cat", "dog", "7", "crane", "1", "crane"]
LOGITS = torch.tensor([0.5, -2.0, 3.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("top1", TopClasses(1)),
        ("TOP5", TopClasses(5)),
        (" top12 ", TopClasses(12)),
        ("0", OneClass(0)),
        ("5", OneClass(5)),
        ("1", OneClass(1)),  # an index in range wins over the label '1' of class 4
        ("7", OneClass(2)),  # out of range, but a label
        ("Dog", OneClass(1)),
    ],
)
def test_targets_are_parsed(text, target):
    assert parse_target(text, LABELS) == target


@pytest.mark.parametrize(("text", "target"), [("top3", TopClasses(3)), ("999", OneClass(999))])
def test_numbers_are_parsed_without_labels(text, target):
    assert parse_target(text, None) == target


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        ("top0", LABELS, "--target must be top1 or more, got 'top0'. Use top1"),
        ("6", LABELS, "--target must be from 0 to 5, or a label, got 6."),
        ("-1", LABELS, "--target must be from 0 to 5, or a label, got -1."),
        ("cat", None, "so 'cat' cannot be looked up. Add --labels, or use the class index."),
        ("crane", LABELS, "--target 'crane' is the label of 2 classes: 3 'crane', 5 'crane'. Give the class index."),
        ("dogs", LABELS, "--target 'dogs' is not among the labels; the nearest is 1 'dog'."),
        ("top", LABELS, "--target 'top' is not among"),
        ("9" * 5000, LABELS, "--target '9999"),
        ("top" + "9" * 5000, LABELS, "--target 'top9999"),
    ],
)
def test_wrong_targets_are_errors(text, labels, sentence):
    with pytest.raises(UsageError) as caught:
        parse_target(text, labels)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        ([], []),
        ([TopClasses(1)], [2]),  # of the two largest the lower index
        ([TopClasses(3)], [2, 4, 3]),
        ([TopClasses(99)], [2, 4, 3, 0, 1]),
        ([OneClass(1), TopClasses(2)], [1, 2, 4]),
        ([TopClasses(1), OneClass(2)], [2]),
        ([OneClass(4), TopClasses(2), OneClass(0)], [4, 2, 0]),
        ([OneClass(0), OneClass(0)], [0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_targets_select_classes(targets, classes, dtype, device):
    assert resolve(targets, LOGITS.to(device, dtype)) == classes


@given(
    scores=st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=9),
    count=st.integers(1, 12),
    class_idx=st.integers(0, 8),
)
def test_top_classes_are_the_largest_in_order(scores, count, class_idx):
    class_idx %= len(scores)
    top = resolve([TopClasses(count)], torch.tensor(scores))
    assert top == sorted(range(len(scores)), key=lambda i: -scores[i])[:count]
    both = resolve([TopClasses(count), OneClass(class_idx)], torch.tensor(scores))
    assert both == top + [class_idx] * (class_idx not in top)


def test_of_a_thousand_equal_logits_the_first_classes_are_the_top(device):
    assert resolve([TopClasses(3)], torch.zeros(1000, device=device)) == [0, 1, 2]
