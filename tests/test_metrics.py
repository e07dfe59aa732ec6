"""Every metric against cases worked by hand, and against implementations by others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score
from torchvision import ops

from cam.evaluation.metrics import (
    box_iou,
    box_mask,
    max_box_acc,
    max_box_acc_v2,
    peak_inside,
    pixel_average_precision,
    score_histograms,
    share_inside,
    threshold_ious,
)

NAN = np.nan
SQUARE = np.array([[2, 2, 6, 6]])  # 16 of the 64 pixels of the pictures below
INSIDE = box_mask(SQUARE, (8, 8))


def lit(*boxes: tuple[int, int, int, int], value: float = 1.0) -> np.ndarray:
    """Heat of 8 x 8 pixels: that value in the boxes, 0 elsewhere."""
    return np.where(box_mask(np.array(boxes), (8, 8)), value, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("heat", "share", "hit"),
    [
        (lit((2, 2, 6, 6)), 1, 1),  # perfect
        (lit((4, 2, 8, 6)), 0.5, 0.5),  # shifted by half its width: half of the hottest pixels lie inside
        (lit((0, 0, 8, 8)), 0.25, 0.25),  # no differences: the share of the area
        (lit(), 0, 0.25),  # nothing: no evidence, and every pixel the hottest
        (lit((2, 2, 3, 3), value=2) + lit((6, 2, 8, 5)), 0.25, 1),  # two components: 2 inside, 6 outside
        (lit((2, 2, 3, 3)) - lit((6, 6, 8, 8), value=9), 1, 1),  # evidence against counts nowhere
        (lit((2, 2, 6, 6)) - 1, 0, 1),  # all evidence against: its least is inside
        (np.full((8, 8), NAN), 0, 0),  # nothing seen
    ],
)
def test_energy_and_peak(heat, share, hit):
    assert share_inside(heat, INSIDE) == share
    assert peak_inside(heat, INSIDE) == hit


def test_what_was_not_seen_has_no_energy_and_no_peak():
    heat = np.array([[NAN, 1, 3]], np.float32)
    assert share_inside(heat, np.array([[True, True, False]])) == 0.25
    assert peak_inside(heat, np.array([[True, True, False]])) == 0
    assert peak_inside(np.array([[NAN, -5.0]]), np.array([[False, True]])) == 1


def test_a_pixel_is_inside_a_box_if_its_center_is():
    # Centers at 0.5, 1.5, ...: from 1.5 on they are inside, at 3.5 no longer.
    assert box_mask(np.array([[1.5, 0, 3.5, 1]]), (1, 5)).tolist() == [[False, True, True, False, False]]
    assert box_mask(np.array([[-9, -9, 1, 1], [3, 0, 99, 99]]), (1, 5)).tolist() == [[True, False, False, True, True]]


boxes = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
many = st.lists(boxes, min_size=1, max_size=5).map(np.array)


@given(many, many)
def test_iou_is_that_of_torchvision(some, others):
    expected = ops.box_iou(torch.from_numpy(some).double(), torch.from_numpy(others).double())
    np.testing.assert_allclose(box_iou(some, others), expected, atol=1e-12)


def test_iou_by_hand():
    others = np.array([[2, 2, 6, 6], [4, 2, 8, 6], [3, 3, 5, 5], [6, 6, 8, 8]])
    # The same; half of it, 8 of 24; 4 of 16 within it; touching at a corner.
    assert box_iou(SQUARE, others)[0] == pytest.approx([1, 1 / 3, 1 / 4, 0])


def test_boxes_of_perfect_heat():
    ious = threshold_ious(lit((2, 2, 6, 6)), SQUARE)
    assert ious[0].tolist() == [0.25, 0.25]  # the whole picture
    assert (ious[1:] == 1).all()


def test_heat_without_differences_has_no_box_but_the_picture():
    for heat in (lit(), lit((0, 0, 8, 8)), np.full((8, 8), NAN)):
        ious = threshold_ious(heat, SQUARE)
        assert ious[0].tolist() == [0.25, 0.25]
        assert (ious[1:] == 0).all()


def test_boxes_of_shifted_heat():
    assert threshold_ious(lit((4, 2, 8, 6)), SQUARE)[1:] == pytest.approx(1 / 3)  # 8 of 24 pixels
    assert (threshold_ious(lit((6, 2, 8, 6)), SQUARE)[1:] == 0).all()


def test_boxes_of_two_components():
    # The larger one, of half the heat, is wrong (0, 0, 8, 2); the smaller one is a quarter of the true box.
    heat = lit((0, 0, 8, 2), value=0.5) + lit((3, 3, 5, 5))
    ious = threshold_ious(heat, SQUARE)
    assert (ious[1:51] == [0, 0.25]).all()
    assert (ious[51:] == [0.25, 0.25]).all()  # only the smaller is left


def test_components_that_touch_at_a_corner_are_one():
    ious = threshold_ious(lit((2, 2, 4, 4), (4, 4, 6, 6)), SQUARE)
    assert (ious[1:] == 1).all()
    assert (threshold_ious(lit((2, 2, 4, 4), (5, 5, 6, 6)), SQUARE)[1:] == 0.25).all()


def test_any_of_several_true_boxes_may_be_met():
    heat = lit((0, 0, 8, 2))
    truth = np.array([[2, 2, 6, 6], [0, 0, 8, 4]])
    assert (threshold_ious(heat, truth)[1:] == 0.5).all()


def test_thresholds_lie_between_the_coldest_and_the_hottest_pixel_seen():
    heat = np.array([[NAN, -2, 0, 2]])  # 0 and 0, 0.5, 1
    ious = threshold_ious(heat, np.array([[2, 0, 4, 1]]))[:, 0]
    assert ious[0] == 0.5  # all four pixels
    assert (ious[1:51] == 1).all()
    assert (ious[51:] == 0.5).all()


@settings(max_examples=30)
@given(arrays.arrays(np.float64, (9, 11), elements=st.integers(0, 40).map(lambda v: v / 4)))
def test_boxes_are_those_of_opencv(heat):
    truth = np.array([[1, 2, 6, 7], [5, 5, 11, 9]])
    ious = threshold_ious(heat, truth)
    for step in range(101) if np.ptp(heat) else ():
        mask = (heat - heat.min()) / np.ptp(heat) * 100 >= step
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        x, y, width, height, area = stats[1:].T
        matches = ops.box_iou(torch.tensor(np.stack([x, y, x + width, y + height], 1)), torch.from_numpy(truth)).amax(1)
        assert ious[step, 1] == pytest.approx(float(matches.max()))
        assert any(ious[step, 0] == pytest.approx(float(match)) for match in matches[area == area.max()])


def test_max_box_acc_by_hand():
    # Four pictures, three thresholds: half or more in 2, 3 and 1 of them. Each at its own best would be all four.
    ious = np.array([[0.9, 0.1, 0.1], [0.6, 0.5, 0.2], [0.2, 0.7, 0.1], [0.3, 0.8, 0.6]])
    assert max_box_acc(ious) == 0.75


def test_max_box_acc_v2_by_hand():
    # 0.3 or more: 1, 2, 3 of 4; 0.5: 1, 2, 0; 0.7: 1, 0, 0. The best are 3/4, 2/4 and 1/4.
    ious = np.array([[0.7, 0.2, 0.3], [0.1, 0.6, 0.4], [0.1, 0.5, 0.3], [0.2, 0.1, 0.2]])
    assert max_box_acc_v2(ious) == pytest.approx(0.5)
    assert max_box_acc(ious) == 0.5


def average_precision(*pictures: tuple[np.ndarray, np.ndarray]) -> float:
    return pixel_average_precision(np.stack([score_histograms(*picture) for picture in pictures]))


@pytest.mark.parametrize(
    ("heat", "expected"),
    [
        (lit((2, 2, 6, 6)), 1),  # perfect
        (lit(), 0.25),  # no differences: the share of the area
        (lit((4, 2, 8, 6)), 0.5 * 8 / 16 + 0.5 * 16 / 64),  # shifted: 8 of 16 right, then the whole picture
        (-lit((2, 2, 6, 6)), 16 / 64),  # the object the coldest of all
        (lit((3, 3, 5, 5)), 0.25 * 1 + 0.75 * 0.25),  # a quarter of it, then the whole picture
    ],
)
def test_pixel_average_precision_by_hand(heat, expected):
    assert average_precision((heat, INSIDE)) == pytest.approx(expected)


def test_pixel_average_precision_takes_all_pictures_together():
    # Right in the first picture, with 1 pixel of 2; wrong in the second, with 1 of 2. Of the two hottest pixels one
    # is right; of all four, two.
    heat = np.array([[1.0, 0.0]])
    right, wrong = np.array([[True, False]]), np.array([[False, True]])
    assert average_precision((heat, right), (7 * heat - 3, wrong)) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)


def test_what_was_not_seen_is_found_last():
    heat = np.array([[NAN, NAN, 3.0, 1.0, 2.0]])
    assert average_precision((heat, np.array([[True, False, True, False, False]]))) == pytest.approx(
        (1 / 1 + 2 / 5) / 2
    )


def test_nothing_inside_is_nothing_found():
    assert average_precision((lit((2, 2, 6, 6)), np.zeros((8, 8), bool))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_pixel_average_precision_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    pictures, scores = [], []
    for height in (20, 31):
        levels = rng.integers(0, 1001, (height, 25))
        levels[0, :2] = 0, 1000
        pictures.append((levels * 0.125 - 3, (levels + rng.normal(0, 400, levels.shape)) > 600))
        scores.append(levels)
    truth = np.concatenate([mask.ravel() for _, mask in pictures])
    expected = average_precision_score(truth, np.concatenate([each.ravel() for each in scores]))
    assert average_precision(*pictures) == pytest.approx(expected, abs=1e-12)


def test_rounding_scores_down_costs_little():
    rng = np.random.default_rng(0)
    heat = rng.random((60, 80))
    mask = heat + rng.normal(0, 0.3, heat.shape) > 0.7
    assert average_precision((heat, mask)) == pytest.approx(
        average_precision_score(mask.ravel(), heat.ravel()), abs=1e-3
    )
