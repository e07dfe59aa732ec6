"""Shares of a logit for any head: values worked out by their definitions."""

from __future__ import annotations

from collections import Counter
from itertools import chain, combinations
from math import comb

import numpy as np
import pytest
import torch

from cam.maps.complete import integrated_gradients, shapley_values
from cam.maps.references import reference_map


def shapley_by_all_subsets(value, count):
    """Shapley values of a game by its definition, over all subsets of the others, in float64."""
    values = torch.zeros(count, dtype=torch.float64)
    for player in range(count):
        others = [other for other in range(count) if other != player]
        for size in range(count):
            weight = 1 / (count * comb(count - 1, size))
            for subset in combinations(others, size):
                values[player] += weight * (value([*subset, player]) - value(subset))
    return values


def test_shapley_values_are_those_of_all_subsets():
    torch.manual_seed(0)
    features, pairs = torch.randn(9, dtype=torch.float64), torch.randn(9, 9, dtype=torch.float64)

    def run(rows):  # each pair of positions interacts: then one order and its reverse give the exact value
        return torch.einsum("ni,ij,nj->n", rows, pairs, rows)[:, None]

    def value(subset):
        row = torch.zeros(9, dtype=torch.float64)
        row[list(subset)] = features[list(subset)]
        return float(run(row[None]))

    shares = shapley_values(run, torch.zeros_like(features), features, torch.arange(9), [0], 2)
    torch.testing.assert_close(shares.values[0], shapley_by_all_subsets(value, 9))


def test_shapley_values_of_a_maximum_come_near_with_more_permutations():
    torch.manual_seed(0)
    features = torch.rand(9, dtype=torch.float64)

    def value(subset):
        return float(features[list(subset)].max()) if subset else 0.0

    def sample(permutations, seed):
        return shapley_values(
            lambda rows: rows.amax(1, keepdim=True),
            torch.zeros_like(features),
            features,
            torch.arange(9),
            [0],
            permutations,
            seed,
        ).values[0]

    expected = shapley_by_all_subsets(value, 9)
    errors = [float(np.mean([(sample(n, s) - expected).norm() for s in range(8)])) for n in (2, 32, 512)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.1 * float(expected.norm())


def test_groups_stay_together_and_what_is_in_none_is_always_there():
    features = torch.tensor([1.0, 2.0, 3.0, 10.0])
    shares = shapley_values(
        lambda rows: rows.sum(1, keepdim=True),
        torch.tensor([0.0, 0.0, 0.0, 10.0]),
        features,
        torch.tensor([0, 1, 0, -1]),
        [0],
        2,
    )
    assert shares.values.tolist() == [[4.0, 2.0]]
    assert shares.base.tolist() == [10.0]


def test_a_homogeneous_head_needs_one_node():
    torch.manual_seed(0)
    first, second = torch.randn(5, 8), torch.randn(3, 5)

    def run(rows, images):
        return (rows @ first.T).relu() @ second.T

    features = torch.randn(2, 8)
    classes = torch.tensor([[0, 1, 2], [2, 0, 0]])
    shares = integrated_gradients(run, torch.zeros(2, 8), features, classes, nodes=1)
    expected = run(features, None).gather(1, classes)
    torch.testing.assert_close(torch.stack([of_image.values.sum(1) for of_image in shares]), expected)


def shares_of_class_0(run, features):
    """Integrate from zero to the features of one image."""
    (shares,) = integrated_gradients(run, torch.zeros(1, len(features)), features[None], torch.tensor([[0]]))
    return shares


@pytest.mark.parametrize("rows", [3, 8, 24, 64])
def test_images_share_runs_and_only_those_that_need_more_nodes_get_them(rows):
    """8 nodes are enough for the squares of the first two images, and not for the high power of the last."""
    runs = []

    def run(features, images):
        runs.append(images.tolist())
        steep = torch.where(images == 2, features.sum(1).pow(40), features.square().sum(1))
        return torch.stack([steep, features[:, 0] * (1 + images)], 1)

    features = torch.tensor([[1.0, 3.0], [2.0, 1.0], [0.5, 0.51]])
    classes = torch.tensor([[0, 1], [1, 0], [0, 1]])
    shares = integrated_gradients(run, torch.zeros(3, 2), features, classes, rows=rows)
    most = shares[2].runs
    assert [of_image.runs for of_image in shares[:2]] == [8, 8]
    assert most > 8
    torch.testing.assert_close(shares[0].values, torch.tensor([[1.0, 9.0], [1.0, 0.0]]))
    torch.testing.assert_close(shares[1].values, torch.tensor([[4.0, 0.0], [4.0, 1.0]]))
    assert float(shares[2].values[0].sum()) == pytest.approx(1.01**40, rel=0.005)
    assert max(map(len, runs)) <= rows
    assert Counter(chain(*runs)) == {0: 2 + 8, 1: 2 + 8, 2: 2 + 2 * most - 8}  # both ends, and 8 + 16 + ... nodes
    if rows >= 24:
        assert Counter(runs[1]) == {0: 8, 1: 8, 2: 8}


def test_a_root_at_the_start_of_the_path_is_integrated():
    features = torch.tensor([0.3, 2.0, 1.0])
    shares = shares_of_class_0(lambda rows, images: rows.sum(1, keepdim=True).sqrt(), features)
    assert float(shares.values.sum()) == pytest.approx(float(features.sum().sqrt()), rel=0.005)
    torch.testing.assert_close(shares.values[0] / shares.values.sum(), features / features.sum())


def test_features_at_zero_have_no_share_where_the_slope_is_infinite():
    features = torch.tensor([0.0, 4.0])
    shares = shares_of_class_0(lambda rows, images: rows.sqrt().sum(1, keepdim=True), features)
    assert shares.values[0, 0] == 0
    assert float(shares.values[0, 1]) == pytest.approx(2, rel=0.005)


def test_xgradcam_of_a_channel_that_sums_to_zero_is_finite():
    assert reference_map("xgradcam", torch.tensor([[[1.0, -1.0]]]), torch.ones(1, 1, 2)).isfinite().all()
