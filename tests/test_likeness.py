"""Near-duplicates are found by their features, and nothing else is."""

from __future__ import annotations

import numpy as np

from cam.audit.likeness import near_duplicates


def images(count: int = 200, channels: int = 64) -> np.ndarray:
    return np.random.default_rng(0).gamma(1, size=(count, channels))


def test_copies_are_found_and_different_images_are_not():
    features = images()
    copies = features[[3, 50]] * 1.05 + 0.01  # a little brighter
    again = features[[3]] + 0.005
    found = near_duplicates(np.concatenate([features, copies, again]), np.zeros(203, int))
    assert found == [[3, 200, 202], [50, 201]]


def test_only_images_of_one_class_are_compared():
    features = np.concatenate([images(20), images(20)])
    assert near_duplicates(features, np.repeat([0, 1], 20)) == []
    assert len(near_duplicates(features, np.zeros(40, int))) == 20


def test_images_linked_by_others_are_one_set():
    features = np.array([[1, 0], [2, 0], [3, 0], [4, 0], [20, 0], [30, 0], [40, 0], [50, 0.0]])
    assert near_duplicates(features, np.zeros(8, int)) == [[0, 1, 2, 3]]


def test_copies_are_found_where_most_images_are_copies():
    features = np.tile(images(1), (6, 1)).astype(np.float32)
    features[1] *= 1 + 1e-6  # computed in another batch
    assert near_duplicates(np.concatenate([features, images(2)[1:]]), np.zeros(7, int)) == [[0, 1, 2, 3, 4, 5]]


def test_nothing_to_compare():
    assert near_duplicates(np.empty((0, 4)), np.empty(0, int)) == []
    assert near_duplicates(images(3), np.arange(3)) == []
    assert near_duplicates(np.zeros((3, 4)), np.zeros(3, int)) == []  # dead features are alike, and say nothing


def test_many_images_are_compared_in_parts():
    features = images(1100)
    found = near_duplicates(np.concatenate([features, features[[0, 600, 1099]]]), np.zeros(1103, int))
    assert found == [[0, 1100], [600, 1101], [1099, 1102]]
