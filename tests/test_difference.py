"""The difference of two maps, by hand: on one grid exact, on others on the photograph."""

from __future__ import annotations

import numpy as np
import pytest

from cam.audit.difference import half_of_change, moved_share, on_same_grid, subtract
from cam.audit.read import ScoredMap

WHOLE = 0.0, 0.0, 1.0, 1.0


def scored(cam: list[list[float]], base: float = 0.0, seen=WHOLE, shift: float = 0.0) -> ScoredMap:
    """A map whose cells lie evenly over what was seen, moved by a share of a cell; its score adds up."""
    values = np.array(cam, np.float32)
    left, top, right, bottom = seen
    (h, w), score = values.shape, float(values.mean()) + base
    rows, columns = (np.arange(h) + 0.5 + shift) / h, (np.arange(w) + 0.5 + shift) / w
    return ScoredMap(values, top + (bottom - top) * rows, left + (right - left) * columns, seen, score, base)


def test_evidence_that_stays_or_grows_in_place_has_not_moved():
    a = scored([[4, 0], [-9, 4]])
    assert moved_share(a, a) == 0
    assert moved_share(a, scored([[40, -1], [0, 40]])) == 0


def test_the_moved_share_is_that_of_the_positive_parts():
    a, b = scored([[3, 1], [-5, 0]]), scored([[1, 1], [0, 2]])  # shares 3/4, 1/4, 0, 0 and 1/4, 1/4, 0, 2/4
    assert moved_share(a, b) == pytest.approx(0.5)
    assert moved_share(b, a) == pytest.approx(0.5)
    assert moved_share(scored([[1, 0]]), scored([[0, 1]])) == 1


def test_without_positive_evidence_nothing_can_be_said():
    assert moved_share(scored([[1, 2]]), scored([[-1, 0]])) is None
    assert moved_share(scored([[1]], seen=(0, 0, 0.4, 1)), scored([[1]], seen=(0.5, 0, 1, 1))) is None


def test_the_difference_on_one_grid_adds_up_to_the_change_of_the_score():
    a, b = scored([[1, 2], [3, 6]], base=0.5), scored([[4, 2], [-1, 6]], base=-1)
    difference = subtract(a, b)
    np.testing.assert_array_equal(difference.map.cam, [[3, 0], [-4, 0]])
    assert (difference.scores, difference.score, difference.base) == ((3.5, 1.75), -1.75, -1.5)
    assert (difference.same_grid, difference.error) == (True, 0)
    assert subtract(a, ScoredMap(b.cam, b.rows, b.columns, b.seen, b.score + 0.25, b.base)).error == 0.25


def test_cells_of_one_grid_lie_within_half_a_cell():
    a = scored([[1, 2, 3], [4, 5, 6]])
    assert on_same_grid(a, scored([[1, 2, 3], [4, 5, 6]], shift=0.4))
    assert not on_same_grid(a, scored([[1, 2, 3], [4, 5, 6]], shift=0.6))
    assert not on_same_grid(a, scored([[1, 2], [4, 5]]))
    shifted = subtract(a, scored([[1, 2, 3], [4, 5, 6]], shift=0.4)).map
    assert shifted.columns[0] == pytest.approx((0.5 + 0.2) / 3)  # half way


def test_other_grids_are_subtracted_where_they_lie_on_the_photograph():
    coarse, fine = scored([[2, 2]]), scored([[5, 5, 5, 5], [5, 5, 5, 5]])
    difference = subtract(coarse, fine)
    np.testing.assert_allclose(difference.map.cam, np.full((4, 8), 3))
    assert (difference.same_grid, difference.error, difference.score) == (False, None, 3)
    assert moved_share(coarse, fine) == pytest.approx(0)


def test_evidence_at_one_place_of_two_grids_stays_and_at_another_moves():
    left, right = scored([[8, 0, 0, 0]]), scored([[0, 0, 0, 0, 0, 0, 0, 8]])
    same_left = scored([[8, 8, 0, 0, 0, 0, 0, 0]])
    assert moved_share(left, same_left) < 0.25
    assert moved_share(left, right) == 1


def test_only_what_both_networks_saw_is_compared():
    whole, center = scored([[9, 1, 1, 9]]), scored([[1, 1]], seen=(0.25, 0, 0.75, 1))
    difference = subtract(whole, center)
    assert difference.seen == (0.25, 0, 0.75, 1)
    inner = np.abs(difference.map.columns - 0.5) < 0.125
    np.testing.assert_allclose(difference.map.cam[:, inner], 0, atol=1e-6)


def test_half_of_the_change_is_boxed_in_pixels_and_in_its_direction():
    a, b = scored([[0, 0, 0, 0]]), scored([[0, -8, 1, 0]])
    assert half_of_change(subtract(a, b), (10, 40)) == [((10, 0, 20, 10), 1.0)]
    assert half_of_change(subtract(b, a), (10, 40)) == [((10, 0, 20, 10), 1.0)]
    part = (0.5, 0.0, 1.0, 1.0)
    up = subtract(scored([[0, 0]], seen=part), scored([[0, 6]], seen=part))
    assert half_of_change(up, (10, 40)) == [((30, 0, 40, 10), 1.0)]
