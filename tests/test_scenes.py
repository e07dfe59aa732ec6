"""Scenes of digits: the boxes tell the truth, the seed decides all, and digits stay where they may lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam.errors import UsageError
from cam.invariance.demo.scenes import compose, uci_digits

RING = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]], np.float32)
SIZES = st.tuples(st.integers(64, 120), st.integers(64, 120))


def inked(image: np.ndarray) -> np.ndarray:
    """Where a plain canvas differs from its own most common color."""
    colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    return (image != colors[counts.argmax()]).any(-1)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), SIZES, st.integers(1, 3))
def test_boxes_hold_all_ink_and_no_box_is_loose(seed, size, digits):
    rng = np.random.default_rng(seed)
    scene = compose([RING] * digits, range(digits), size, rng, digit_size=(10, 18), clutter=0)
    ink = inked(scene.image)
    for x0, y0, x1, y1 in scene.boxes:
        rows, columns = np.flatnonzero(ink[y0:y1, x0:x1].any(1)), np.flatnonzero(ink[y0:y1, x0:x1].any(0))
        # The faintest ink, at the very edge, may be lost in rounding to 8 bits.
        assert rows[0] <= 1
        assert columns[0] <= 1
        assert rows[-1] >= y1 - y0 - 2
        assert columns[-1] >= x1 - x0 - 2
        ink[y0:y1, x0:x1] = False
    assert not ink.any()
    assert scene.classes.tolist() == list(range(digits))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), SIZES)
def test_digits_lie_on_the_canvas_and_apart(seed, size):
    scene = compose([RING] * 3, [0, 1, 2], size, np.random.default_rng(seed), digit_size=(10, 18))
    assert (scene.boxes[:, :2] >= 0).all()
    assert (scene.boxes[:, 2:] <= (size[1], size[0])).all()
    covered = np.zeros(size, int)
    for x0, y0, x1, y1 in scene.boxes:
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1


def test_digits_reach_every_border_of_the_canvas():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([compose([RING], [0], (48, 64), rng, digit_size=(12, 12)).boxes for _ in range(300)])
    assert boxes.min(0)[:2].tolist() == [0, 0]
    assert boxes.max(0)[2:].tolist() == [64, 48]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_digits_stay_in_the_area_they_are_given(seed):
    area = (50.5, 10, 100, 60)
    scene = compose([RING, RING], [3, 4], (80, 100), np.random.default_rng(seed), digit_size=(8, 12), area=area)
    assert (scene.boxes[:, :2] >= (51, 10)).all()
    assert (scene.boxes[:, 2:] <= (100, 60)).all()


def test_an_area_that_reaches_beyond_the_canvas_ends_with_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = compose([RING], [0], (40, 50), rng, digit_size=(10, 10), area=(-30, 25, 90, 99)).boxes[0]
        assert x0 >= 0
        assert y0 >= 25
        assert x1 <= 50
        assert y1 <= 40


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (compose([RING], [0], (64, 80), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)


def test_a_digit_has_the_height_asked_for_and_stands_out():
    bar = np.ones((8, 3), np.float32)
    for seed in range(30):
        scene = compose([bar], [1], (96, 96), np.random.default_rng(seed), digit_size=(40, 40), clutter=0)
        x0, y0, x1, y1 = scene.boxes[0]
        assert 38 <= y1 - y0 <= 52
        brightness = scene.image.mean(-1)
        middle, corner = brightness[(y0 + y1) // 2, (x0 + x1) // 2], np.median(brightness)
        assert abs(middle - corner) > 0.2 * 255


def test_clutter_goes_from_a_single_color_to_many():
    def colors(clutter: float) -> int:
        rng = np.random.default_rng(1)
        return len(np.unique(compose([], [], (64, 64), rng, clutter=clutter).image.reshape(-1, 3), axis=0))

    assert colors(0) == 1
    assert colors(1) > 1000


def test_an_empty_scene_has_no_boxes():
    scene = compose([], [], (40, 64), np.random.default_rng(0))
    assert scene.image.shape == (40, 64, 3)
    assert scene.boxes.shape == (0, 4)


def test_digits_that_do_not_fit_are_refused_with_the_numbers():
    with pytest.raises(UsageError, match=r"1 digits of \(40, 40\) pixels do not fit in \(0, 0, 30, 20\) .*\. Choose"):
        compose([RING], [0], (20, 30), np.random.default_rng(0), digit_size=(40, 40))


def test_the_parts_of_the_digits_share_no_glyph_and_are_all_of_them():
    parts = [uci_digits(part) for part in ("train", "validation", "test")]
    assert [len(classes) for _, classes in parts] == [1197, 200, 400]
    assert all(np.bincount(classes).min() >= 12 for _, classes in parts)
    together = np.concatenate([glyphs.reshape(-1, 64) for glyphs, _ in parts])
    assert len(np.unique(together, axis=0)) == 1797
    assert (together.min(), together.max()) == (0, 1)


def test_an_unknown_part_of_the_digits_is_refused_by_name():
    with pytest.raises(UsageError, match="part must be one of train, validation, test, got 'tset'"):
        uci_digits("tset")


def test_the_ink_lies_within_the_boxes_and_fills_them():
    rng = np.random.default_rng(2)
    scene = compose([np.ones((8, 8)), np.ones((8, 8))], [1, 2], (72, 96), rng, digit_size=(20, 30))
    inside = np.zeros((72, 96), bool)
    for x0, y0, x1, y1 in scene.boxes:
        inside[y0:y1, x0:x1] = True
        assert scene.ink[y0:y1, x0:x1].mean() > 0.5  # a slanted square
    assert not (scene.ink & ~inside).any()
