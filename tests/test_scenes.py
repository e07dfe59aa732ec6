"""Scenes of digits: boxes, areas, seeds and the parts of the data set."""

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
    """True where a plain canvas differs from its most common color."""
    colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    return (image != colors[counts.argmax()]).any(-1)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), SIZES, st.integers(1, 3))
def test_boxes_are_tight_around_the_ink(seed, size, digits):
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
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, (50.5, 10, 100, 60), (-30, 25, 190, 99)]))
def test_digits_stay_in_their_area_without_overlap(seed, area):
    rng = np.random.default_rng(seed)
    scene = compose([RING, RING], [3, 4], (80, 100), rng, digit_size=(8, 12), area=area)
    left, top, right, bottom = area or (0, 0, 100, 80)
    assert (scene.boxes[:, :2] >= (max(left, 0), max(top, 0))).all()
    assert (scene.boxes[:, 2:] <= (min(right, 100), min(bottom, 80))).all()
    covered = np.zeros((80, 100), int)
    for x0, y0, x1, y1 in scene.boxes:
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1


def test_digits_reach_every_border_of_the_canvas():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([compose([RING], [0], (48, 64), rng, digit_size=(12, 12)).boxes for _ in range(300)])
    assert boxes.min(0)[:2].tolist() == [0, 0]
    assert boxes.max(0)[2:].tolist() == [64, 48]


def test_the_seed_decides_the_scene():
    first, again, other = (compose([RING], [0], (64, 80), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)


def test_a_digit_has_its_height_and_contrasts_with_the_background():
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
    assert compose([], [], (40, 64), np.random.default_rng(0)).boxes.shape == (0, 4)


def test_the_parts_of_the_digits_are_disjoint_and_complete():
    parts = [uci_digits(part) for part in ("train", "validation", "test")]
    assert [len(classes) for _, classes in parts] == [1197, 200, 400]
    assert all(np.bincount(classes).min() >= 12 for _, classes in parts)
    together = np.concatenate([glyphs.reshape(-1, 64) for glyphs, _ in parts])
    assert len(np.unique(together, axis=0)) == 1797
    assert (together.min(), together.max()) == (0, 1)


def test_errors_give_the_argument_and_its_value():
    with pytest.raises(UsageError, match=r"1 digits do not fit in \(0, 0, 30, 20\) .*\. Choose"):
        compose([RING], [0], (20, 30), np.random.default_rng(0), digit_size=(40, 40))


def test_the_ink_lies_within_the_boxes_and_fills_them():
    rng = np.random.default_rng(2)
    scene = compose([np.ones((8, 8)), np.ones((8, 8))], [1, 2], (72, 96), rng, digit_size=(20, 30))
    inside = np.zeros((72, 96), bool)
    for x0, y0, x1, y1 in scene.boxes:
        inside[y0:y1, x0:x1] = True
        assert scene.ink[y0:y1, x0:x1].mean() > 0.5  # a slanted square
    assert not (scene.ink & ~inside).any()
