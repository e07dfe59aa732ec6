"""Groups in the maps of a class, worked by hand and on made maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gumbel_r

from cam.audit.separation import Split, chances, find_group, noise, split, stand_out


def test_the_best_division_is_that_of_all_divisions():
    values = np.random.default_rng(0).normal(size=(40, 3)) + 4 * (np.arange(40) % 4 == 0)[:, None]
    found = split(values)
    for column, threshold, explained in zip(values.T, found.threshold, found.explained, strict=True):
        shares = []
        for cut in np.sort(column)[2:-2]:  # no group is smaller than two images
            low, high = column[column < cut], column[column >= cut]
            shares.append(len(low) * len(high) / len(column) ** 2 * (high.mean() - low.mean()) ** 2 / column.var())
        assert explained == pytest.approx(max(shares), rel=1e-6)
        low, high = column[column < threshold], column[column >= threshold]
        assert threshold == pytest.approx((low.max() + high.min()) / 2)
        assert 1 - (low.var() * len(low) + high.var() * len(high)) / (column.var() * 40) == pytest.approx(explained)


def test_the_spread_is_between_the_fifths():
    found = split(np.arange(10.0)[:, None])
    assert found.spread.tolist() == [8.5 - 2]  # mean of 8 and 9, less the third smallest


@given(st.floats(0.1, 100), st.floats(-100, 100))
def test_the_division_follows_scale_and_shift(scale, shift):
    values = np.random.default_rng(1).gamma(2, size=(30, 4))
    found, moved = split(values), split(scale * values + shift)
    np.testing.assert_allclose(moved.explained, found.explained, rtol=1e-6)
    np.testing.assert_allclose(moved.spread, scale * found.spread, rtol=1e-6)
    np.testing.assert_allclose(moved.threshold, scale * found.threshold + shift, rtol=1e-6, atol=1e-6)


def test_equal_images_have_no_groups():
    found = split(np.ones((25, 4)))
    assert np.isfinite(found.contrast).all()
    assert np.ptp(found.contrast) == 0
    assert noise(np.ones((25, 4)), np.random.default_rng(0)).tolist() == [0] * 4
    assert stand_out(found.contrast[None], np.zeros((1, 4))).tolist() == [[0] * 4]


def test_what_classes_and_cells_have_in_common_does_not_stand_out():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(8, 1)) + rng.normal(size=(1, 50))
    scores = stand_out(common + 1e-3 * rng.normal(size=(8, 50)), np.zeros((8, 50)))
    assert np.abs(scores).max() < 8
    common[3, 7] += 1
    scores = stand_out(common + 1e-3 * rng.normal(size=(8, 50)), np.zeros((8, 50)))
    assert np.unravel_index(scores.argmax(), scores.shape) == (3, 7)
    assert scores[3, 7] > 100


def test_a_cell_that_differs_in_every_class_does_not_stand_out():
    contrasts = np.random.default_rng(0).normal(scale=0.01, size=(9, 50))
    contrasts[:, 7] = np.linspace(-1, 1, 9)
    scores = stand_out(contrasts, np.zeros((9, 50)))
    assert scores[8, 7] == pytest.approx(1 / (1.4826 * 0.5), rel=0.05)  # the median deviation of that cell is 0.5


def test_cells_with_hardly_any_evidence_do_not_stand_out():
    half = np.array([0.5, 0.5])
    contrast = Split(half, np.array([2.0, 0]), half).contrast
    assert contrast.tolist() == pytest.approx(np.log([0.5 * 2.1, 0.5 * 0.1]))  # a tenth of the mean spread is added


@pytest.mark.parametrize("classes", [2, 6])
def test_noise_keeps_a_cell_from_standing_out(classes):
    contrasts = np.zeros((classes, 9))
    contrasts[1, 4] = 1
    noises = np.zeros((classes, 9))
    noises[1, 4] = 0.5
    assert stand_out(contrasts, noises)[1, 4] == pytest.approx(1)  # one over twice the noise


def test_noise_is_what_other_images_would_change():
    rng = np.random.default_rng(0)
    draws = [rng.gamma(1, size=(100, 200)) for _ in range(40)]
    expected = np.std([split(values).contrast for values in draws], axis=0).mean()
    assert noise(draws[0], rng).mean() == pytest.approx(expected, rel=0.2)


def test_chance_is_that_of_a_gumbel_distribution():
    rng = np.random.default_rng(0)
    alarms = [chances(rng.gumbel(scale=0.25, size=30)).min() <= 0.05 for _ in range(400)]
    assert 0.02 < np.mean(alarms) < 0.2  # of 29 others the place is not known well
    wide = [chances(rng.gumbel(scale=2, size=1000)).min() <= 0.05 for _ in range(20)]  # many classes tell their scale
    assert np.mean(wide) < 0.25
    assert chances(np.array([*rng.gumbel(scale=0.25, size=30), 10.0]))[-1] < 1e-8


def test_chance_follows_the_scale_of_many_classes():
    distribution = gumbel_r(scale=2)
    scores = distribution.ppf((np.arange(5000) + 0.5) / 5000)
    found = chances(np.append(scores, 30.0))[-1]
    assert found == pytest.approx(5001 * distribution.sf(30), rel=0.05)


def test_a_score_is_in_standard_deviations_of_the_other_cells():
    contrasts = np.random.default_rng(0).normal(3, 0.2, size=(2, 2001))
    contrasts[1, 7] = 3 + 5 * 0.2
    assert stand_out(contrasts, np.zeros((2, 2001)))[1, 7] == pytest.approx(5, rel=0.05)


@given(st.floats(-1, 1, width=32), st.floats(0.0, 1, width=32))
def test_a_few_lower_images_are_divided_from_equal_ones(value, less):
    """The threshold is one of the values: a rounding would put all of them on one side."""
    maps = np.full((30, 2, 2), value, np.float32)
    maps[:2, 0, 0] -= np.float32(0.1 + less)
    group = find_group(maps, 0, float(split(maps.reshape(30, 4)).threshold[0]))
    assert group is not None
    assert group.members.tolist() == [False] * 2 + [True] * 28


def maps_with_group(count: int = 60, tagged: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 6, 6) of evidence anywhere, and in the first ones 8 more at two cells."""
    maps = np.random.default_rng(0).normal(size=(count, 6, 6)) ** 2 / 2
    members = np.arange(count) < tagged
    maps[members, 0, 4:] += 8
    return maps, members


def test_a_group_is_found_with_its_cells_and_what_they_add():
    maps, members = maps_with_group()
    found = split(maps.reshape(60, -1))
    group = find_group(maps, 5, float(found.threshold[5]))
    assert group is not None
    assert (group.members == members).all()
    assert group.cells == [(0, 4), (0, 5)]
    there = maps[:, 0, 4:].sum(1) / 36  # what these cells add to the mean
    assert group.logits == pytest.approx(there[members].mean())
    assert group.logits_of_others == pytest.approx(there[~members].mean())
    pooled = np.sqrt((15 * there[members].var() + 45 * there[~members].var()) / 60)
    assert group.separation == pytest.approx((there[members].mean() - there[~members].mean()) / pooled)
    assert sorted(group.typical) == list(range(15))


def test_the_whole_maps_correct_the_division_of_one_cell():
    maps, members = maps_with_group(600, 150)
    assert (maps[~members, 0, 5] > 0.5).sum() > 100
    group = find_group(maps, 5, 0.5)
    assert group is not None
    assert (group.members != members).sum() <= 1


def test_its_cells_have_half_of_the_largest_difference_and_touch():
    maps, members = maps_with_group(2000, 500)
    maps[members, 1, 5] += 8 * 0.6
    maps[members, 0, 3] += 8 * 0.4
    maps[members, 4, 0] += 8
    group = find_group(maps, 5, 5.0)
    assert group is not None
    assert group.cells == [(0, 4), (0, 5), (1, 5)]


def test_images_are_placed_by_what_divides_them_and_by_what_else_differs_most():
    maps, members = maps_with_group()
    other = np.random.default_rng(1).normal(size=60)
    maps[:, 3:5, :2] += 5 * other[:, None, None]
    group = find_group(maps, 5, 5.0)
    assert group is not None
    x, y = group.positions.T
    assert (x[members].min() > x[~members].max(), x.min(), x.max(), y.min(), y.max()) == (True, 0, 1, 0, 1)
    assert abs(np.corrcoef(y, other)[0, 1]) > 0.98


def test_without_its_cells_a_logit_is_lower_by_what_they_add():
    maps, _ = maps_with_group()
    group = find_group(maps, 5, 3.0)
    assert group is not None
    without = maps.copy()
    for row, column in group.cells:
        without[:, row, column] = 0
    assert (maps - without)[group.members].mean() == pytest.approx(group.logits)


def test_images_that_are_all_alike_have_no_group():
    assert find_group(np.ones((30, 2, 2)), 0, 1.0) is None


@pytest.mark.parametrize("outlier", [-5, 5])
def test_one_image_that_differs_is_divided_from_the_rest(outlier):
    maps = np.zeros((30, 2, 2))
    maps[0, 0, 0] = outlier
    found = split(maps.reshape(30, 4))
    group = find_group(maps, 0, float(found.threshold[0]))
    assert group is not None
    assert (group.members == (outlier > 0)).nonzero()[0].tolist() == [0]
