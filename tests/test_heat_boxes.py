"""Boxes around heat and the peak of a map, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from small import photo, wrapped

import cam
from cam.maps.boxes import boxes_of, component_boxes
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole
from cam.maps.projection import peak

PIXELS = Grid((0, 0), (1, 1), "arithmetic")


def spots(height: int, width: int, *parts: tuple[slice, slice]) -> np.ndarray:
    cells = np.zeros((height, width), np.float32)
    for rows, columns in parts:
        cells[rows, columns] = 1
    return cells


def test_corners_connect_and_the_largest_comes_first():
    mask = spots(6, 8, (slice(0, 1), slice(0, 1)), (slice(2, 4), slice(3, 5)), (slice(4, 5), slice(5, 6))) > 0
    assert component_boxes(mask) == [(3, 2, 6, 5), (0, 0, 1, 1)]


def test_boxes_of_two_components_in_the_photograph():
    frame = Frame((12, 16), (6, 8), (0, 0), (6, 8))
    cells = spots(6, 8, (slice(1, 3), slice(2, 5)), (slice(5, 6), slice(7, 8)))
    assert boxes_of(cells, PIXELS, frame, 0.9) == [(4, 2, 10, 6), (14, 10, 16, 12)]


def test_a_crop_is_undone_and_nothing_unseen_is_boxed():
    frame = fit_crop((40, 80), 20, (10, 10))  # twice as small, the middle 10 x 10 of 20 x 40: photo 10..30, 30..50
    assert frame.seen == (30, 10, 50, 30)
    assert boxes_of(spots(10, 10, (slice(0, 2), slice(8, 10))), PIXELS, frame, 0.9) == [(46, 10, 50, 14)]


def test_a_box_includes_every_pixel_it_touches():
    frame = Frame((10, 10), (4, 4), (0, 0), (4, 4))  # 2.5 pixels of the photograph to one of the input
    assert boxes_of(spots(4, 4, (slice(1, 2), slice(1, 2))), PIXELS, frame, 0.9) == [(2, 2, 5, 5)]


def test_there_are_no_boxes_in_the_padding_of_a_small_image():
    frame = Frame((4, 4), (4, 4), (-2, -2), (8, 8))
    assert boxes_of(spots(8, 8, (slice(0, 1), slice(0, 1))), PIXELS, frame, 0.9) == []
    assert boxes_of(spots(8, 8, (slice(0, 4), slice(0, 4))), PIXELS, frame, 0.9) == [(0, 0, 2, 2)]


@pytest.mark.parametrize("value", [0, -1])
def test_without_positive_evidence_there_is_no_box(value):
    assert boxes_of(np.full((3, 3), value, np.float32), PIXELS, Frame((3, 3), (3, 3), (0, 0), (3, 3))) == []


def test_the_share_sets_the_threshold():
    cells, frame = np.array([[4.0, 1.0, 0.0]]), Frame((1, 3), (1, 3), (0, 0), (1, 3))
    assert boxes_of(cells, PIXELS, frame, 0.2) == [(0, 0, 2, 1)]
    assert boxes_of(cells, PIXELS, frame, 0.3) == [(0, 0, 1, 1)]


@pytest.mark.parametrize("size", [(2, 30_000), (30_000, 2)])
def test_a_long_thin_picture_needs_no_more_than_its_input(size):
    frame = fit_crop(size, 256, (224, 224))
    (box,) = boxes_of(np.ones((7, 7), np.float32), Grid((15, 15), (32, 32), "measured"), frame)
    assert box == frame.seen


def test_the_boxes_of_an_explanation_lie_on_its_heat():
    explanation = cam.explain(wrapped(), photo(48, 64), 1, fit="whole")
    heat = explanation.heat()
    inside = np.zeros(heat.shape, bool)
    for x0, y0, x1, y1 in explanation.boxes(0.5):
        inside[y0:y1, x0:x1] = True
    assert inside[heat >= 0.55 * heat.max()].all()


def test_of_equally_hot_cells_the_middle_one_is_the_peak():
    cells = spots(9, 9, (slice(2, 7), slice(3, 8)))
    assert peak(cells, PIXELS, fit_whole((9, 9), 9)) == (4, 5)
