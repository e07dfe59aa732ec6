"""Every metric against cases worked by hand and other implementations."""

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
    OVERLAPS,
    box_mask,
    max_box_acc,
    peak_inside,
    pixel_average_precision,
    score_histograms,
    share_inside,
    threshold_ious,
)

NAN = np.nan
SQUARE = np.array([[2, 2, 6, 6]])  # 16 of the 64 pixels of the images below
INSIDE = box_mask(SQUARE, (8, 8))


def lit(*boxes: tuple[int, int, int, int], value: float = 1.0) -> np.ndarray:
    """Heat of 8 x 8 pixels: that value in the boxes, 0 elsewhere."""
    return np.where(box_mask(np.array(boxes), (8, 8)), value, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("heat", "share", "hit"),
    [
        (lit((2, 2, 6, 6)), 1, 1),  # perfect
        (lit((4, 2, 8, 6)), 0.5, 0.5),  # shifted by half its width: half of the hottest pixels lie inside
        (lit((0, 0, 8, 8)), 0.25, 0.25),  # constant: the share of the area
        (lit(), 0, 0.25),  # no evidence, and every pixel the highest
        (lit((2, 2, 3, 3), value=2) + lit((6, 2, 8, 5)), 0.25, 1),  # two components: 2 inside, 6 outside
        (lit((2, 2, 3, 3)) - lit((6, 6, 8, 8), value=9), 1, 1),  # negative evidence does not count
        (lit((2, 2, 6, 6)) - 1, 0, 1),  # all negative: the highest is inside
        (np.full((8, 8), NAN), 0, 0),  # nothing seen
        (np.where(lit((2, 2, 4, 6)) > 0, NAN, lit((4, 2, 6, 6)) + lit((6, 2, 8, 6), value=3)), 0.25, 0),  # half seen
    ],
)
def test_energy_and_peak(heat, share, hit):
    assert share_inside(heat, INSIDE) == share
    assert peak_inside(heat, INSIDE) == hit


def test_a_pixel_is_inside_a_box_if_its_center_is():
    # Centers at 0.5, 1.5, ...: from 1.5 on they are inside, at 3.5 no longer.
    assert box_mask(np.array([[1.5, 0, 3.5, 1]]), (1, 5)).tolist() == [[False, True, True, False, False]]
    assert box_mask(np.array([[-9, -9, 1, 1], [3, 0, 99, 99]]), (1, 5)).tolist() == [[True, False, False, True, True]]


@pytest.mark.parametrize(
    ("heat", "boxes", "iou"),
    [
        (lit((2, 2, 6, 6)), SQUARE, 1),  # perfect
        (lit((4, 2, 8, 6)), SQUARE, 1 / 3),  # shifted: 8 of 24 pixels
        (lit((6, 2, 8, 6)), SQUARE, 0),
        (lit(), SQUARE, 0),  # constant heat has no box but the image
        (lit((0, 0, 8, 8)), SQUARE, 0),
        (np.full((8, 8), NAN), SQUARE, 0),
        (lit((2, 2, 4, 4), (4, 4, 6, 6)), SQUARE, 1),  # components that touch at a corner are one
        (lit((2, 2, 4, 4), (5, 5, 6, 6)), SQUARE, 0.25),
        (lit((0, 0, 8, 2)), np.array([[2, 2, 6, 6], [0, 0, 8, 4]]), 0.5),  # any true box counts
    ],
)
def test_boxes_by_hand(heat, boxes, iou):
    ious = threshold_ious(heat, boxes)
    assert ious[0] == pytest.approx((32 if len(boxes) > 1 else 16) / 64)  # the whole image
    assert ious[1:] == pytest.approx(iou)


def test_boxes_of_two_components():
    # The larger one, of half the heat, is wrong (0, 0, 8, 2); the smaller one is a quarter of the true box.
    ious = threshold_ious(lit((0, 0, 8, 2), value=0.5) + lit((3, 3, 5, 5)), SQUARE)
    assert (ious[1:51] == [0, 0.25]).all()
    assert (ious[51:] == [0.25, 0.25]).all()  # only the smaller one remains


def test_thresholds_lie_between_the_lowest_and_the_highest_pixel_seen():
    heat = np.array([[NAN, -2, 0, 2]])  # 0 and 0, 0.5, 1
    ious = threshold_ious(heat, np.array([[2, 0, 4, 1]]))[:, 0]
    assert ious[0] == 0.5  # all four pixels
    assert (ious[1:51] == 1).all()
    assert (ious[51:] == 0.5).all()


@settings(max_examples=30)
@given(arrays.arrays(np.float64, (9, 11), elements=st.integers(0, 40).map(lambda v: v / 4)))
def test_boxes_match_opencv(heat):
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
    # Four images, three thresholds: half or more in 2, 3 and 1 of them. Each at its own best would be all four.
    ious = np.array([[0.9, 0.1, 0.1], [0.6, 0.5, 0.2], [0.2, 0.7, 0.1], [0.3, 0.8, 0.6]])
    assert max_box_acc(ious) == 0.75
    # 0.3 or more: 1, 2, 3 of 4; 0.5: 1, 2, 0; 0.7: 1, 0, 0. The best are 3/4, 2/4 and 1/4.
    ious = np.array([[0.7, 0.2, 0.3], [0.1, 0.6, 0.4], [0.1, 0.5, 0.3], [0.2, 0.1, 0.2]])
    assert max_box_acc(ious, OVERLAPS) == pytest.approx(0.5)
    assert max_box_acc(ious) == 0.5


def average_precision(*pictures: tuple[np.ndarray, np.ndarray]) -> float:
    return pixel_average_precision(np.stack([score_histograms(*picture) for picture in pictures]))


@pytest.mark.parametrize(
    ("heat", "expected"),
    [
        (lit((2, 2, 6, 6)), 1),  # perfect
        (lit(), 0.25),  # constant: the share of the area
        (lit((4, 2, 8, 6)), 0.5 * 8 / 16 + 0.5 * 16 / 64),  # shifted: 8 of 16 right, then the whole picture
        (-lit((2, 2, 6, 6)), 16 / 64),  # the object has the lowest heat
        (lit((3, 3, 5, 5)), 0.25 * 1 + 0.75 * 0.25),  # a quarter of it, then the whole picture
    ],
)
def test_pixel_average_precision_by_hand(heat, expected):
    assert average_precision((heat, INSIDE)) == pytest.approx(expected)


def test_pixel_average_precision_ranks_the_pixels_of_all_images_together():
    # Right in the first image, with 1 pixel of 2; wrong in the second, with 1 of 2. Of the two highest pixels one
    # is right; of all four, two.
    heat = np.array([[1.0, 0.0]])
    right, wrong = np.array([[True, False]]), np.array([[False, True]])
    assert average_precision((heat, right), (7 * heat - 3, wrong)) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)


def test_unseen_pixels_rank_last_and_an_empty_mask_has_precision_0():
    heat = np.array([[NAN, NAN, 3.0, 1.0, 2.0]])
    expected = (1 / 1 + 2 / 5) / 2
    assert average_precision((heat, np.array([[True, False, True, False, False]]))) == pytest.approx(expected)
    assert average_precision((heat, np.zeros((1, 5), bool))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_pixel_average_precision_matches_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    pictures, scores = [], []
    for height in (20, 31):
        levels = rng.integers(0, 1001, (height, 25))
        levels[0, :2] = 0, 1000
        pictures.append((levels * 0.125 - 3, (levels + rng.normal(0, 400, levels.shape)) > 600))
        scores.append(levels)
    truth = np.concatenate([mask.ravel() for _, mask in pictures])
    expected = average_precision_score(truth, np.concatenate([levels.ravel() for levels in scores]))
    assert average_precision(*pictures) == pytest.approx(expected, abs=1e-12)
