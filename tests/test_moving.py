"""Moving an object: how it is cut out, where it is pasted and what fills the canvas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import WHITE, seeing_white

from cam.errors import UsageError
from cam.explanations.options import OneClass, TopClasses
from cam.invariance.measure import measure_invariance
from cam.invariance.moving import Cutout, Placements, cut_object, paint_background, paste


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 12), st.integers(1, 40))
def test_positions_cover_the_canvas(height: int, width: int, steps: int, side: int) -> None:
    cutout = Cutout.opaque(np.zeros((side, side, 3), np.uint8))
    placements = Placements.spread(cutout, np.zeros((side + height, side + width, 3), np.uint8), steps)
    assert placements.shape == (min(steps, height + 1), min(steps, width + 1))
    for starts, room in ((placements.ys, height), (placements.xs, width)):
        assert (starts[0], starts[-1]) == (0, room)
        assert list(starts) == sorted(set(starts))


def test_a_mask_is_cut_out_and_blended() -> None:
    image, mask = np.full((6, 8, 3), 200, np.uint8), np.zeros((6, 8), np.uint8)
    mask[2:4, 3], mask[3, 3:6] = 255, 255  # an L: (2, 3), (3, 3), (3, 4), (3, 5)
    mask[2, 4] = 51  # a fifth
    cutout = cut_object(image, mask=mask)
    assert cutout.size == (2, 3)
    assert cutout.center == pytest.approx((3 / 4.2, (1 + 2 + 0.2) / 4.2))
    pasted = paste(np.full((4, 4, 3), 100, np.uint8), cutout, (1, 1))
    assert pasted[..., 0].tolist() == [[100] * 4, [100, 200, 120, 100], [100, 200, 200, 200], [100] * 4]


def test_a_mask_that_vanishes_when_resized_is_an_error() -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[0, 0] = mask[-1, -1] = 255
    with pytest.raises(UsageError, match="--mask is empty after resizing"):
        cut_object(np.zeros((320, 320, 3), np.uint8), mask=mask, scale=0.05)


def test_a_box_is_cut_exactly_and_keeps_the_scale_of_the_model() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(cut_object(image, (1, 2, 4, 4)).pixels, image[2:4, 1:4])
    classifier = seeing_white()
    boxed = measure_invariance(classifier, np.zeros((64, 128, 3), np.uint8), box=(0, 0, 40, 20), steps=2).placements
    assert (boxed.cutout.size, boxed.canvas) == ((10, 20), (32, 40))
    whole = measure_invariance(classifier, np.zeros((64, 128, 3), np.uint8), steps=2).placements
    assert (whole.cutout.size, whole.canvas) == ((32, 32), (64, 64))  # the center crop


def test_fills() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = 240
    assert paint_background("mean", (1, 1), image, (0.2,))[0, 0].tolist() == [51, 51, 51]
    assert paint_background((1, 2, 3), (1, 1), image, (0.2,))[0, 0].tolist() == [1, 2, 3]
    blurred = paint_background("blur", (40, 80), image, (0.2,))[20, :, 0].astype(int)
    assert (np.diff(blurred) >= 0).all()
    assert blurred[39] < 130 < blurred[60]
    cutout = Cutout.opaque(np.array([[[10] * 3, [20] * 3]], np.uint8))
    mirrored = paste(np.zeros((1, 6, 3), np.uint8), cutout, (0, 1), reflect=True)
    assert mirrored[0, :, 0].tolist() == [10, 10, 20, 20, 10, 10]
    placements = Placements.spread(cutout, np.zeros((2, 4, 3), np.uint8), 2, "reflect")
    assert [rendered[0, 0, 0] for rendered in placements.images()] == [10, 20, 10, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": (0, 0, 33, 4)}, "--box 0,0,33,4 does not lie in the image of 32x32 pixels (WxH)"),
        ({"box": (4, 4, 4, 9)}, "--box 4,4,4,9"),
        ({"box": (-1, 0, 4, 4)}, "0 <= x0 < x1 <= 32"),
        ({"canvas": (32, 31)}, "--canvas must be larger than the object of 32x32 pixels (HxW), got 32x31"),
        ({"canvas": (32, 32)}, "--canvas must be larger than the object of 32x32 pixels (HxW), got 32x32"),
        ({"canvas": (9000, 9000)}, "--canvas must have at most 16777216 pixels, got 9000x9000"),
        (
            {"mask": np.zeros((16, 32), np.uint8)},
            "--mask must have the size of the image, 32x32",
        ),
        ({"mask": np.zeros((32, 32), np.uint8)}, "--mask is empty"),
        ({"target": OneClass(2)}, "2"),
        ({"target": TopClasses(2)}, "--target must be one class, got top2"),
        ({"steps": 1}, "--steps must be 2 or more, got 1"),
        ({"canvas": (200, 200), "steps": 10**12}, "gives 28561 positions, more than 4096. Give --steps 64 or fewer"),
        ({"batch_size": 0}, "--batch-size must be 1 or more, got 0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure_invariance(seeing_white(), WHITE, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
