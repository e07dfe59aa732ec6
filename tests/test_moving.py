"""Where an object goes on a canvas, how it is cut out and what is filled in; what cannot be right is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import WHITE, seeing_white

from cam.errors import UsageError
from cam.explanations.options import OneClass, TopClasses
from cam.invariance.measure import measure_invariance
from cam.invariance.moving import Cutout, Scenes, background, cut_box, cut_mask, moved, positions


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 40))
def test_places_cover_all_of_the_canvas(height: int, width: int, steps: int, side: int) -> None:
    canvas = side + height, side + width
    places = positions(canvas, (side, side), steps)
    assert len(set(places)) == len(places) == min(steps, height + 1) * min(steps, width + 1)
    assert all(0 <= y <= height and 0 <= x <= width for y, x in places)
    if steps > 1:
        assert {(0, 0), (0, width), (height, 0), (height, width)} <= set(places)
    else:
        assert places == [(height // 2, width // 2)]


def test_a_mask_is_cut_out_and_laid_over() -> None:
    image, mask = np.full((6, 8, 3), 200, np.uint8), np.zeros((6, 8), np.uint8)
    mask[2:4, 3], mask[3, 3:6] = 255, 255  # an L: (2, 3), (3, 3), (3, 4), (3, 5)
    mask[2, 4] = 51  # a fifth
    thing = cut_mask(image, mask)
    assert thing.size == (2, 3)
    assert thing.center == pytest.approx((3 / 4.2, (1 + 2 + 0.2) / 4.2))
    scene = moved(np.full((4, 4, 3), 100, np.uint8), thing, (1, 1))
    assert scene[..., 0].tolist() == [[100] * 4, [100, 200, 120, 100], [100, 200, 200, 200], [100] * 4]


def test_a_mask_that_vanishes_at_the_scale() -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[0, 0] = mask[-1, -1] = 255
    with pytest.raises(UsageError, match="Nothing of the mask is left"):
        cut_mask(np.zeros((320, 320, 3), np.uint8), mask, 0.05)


def test_a_box_is_cut_at_its_pixels_and_keeps_the_scale_of_the_model() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(cut_box(image, (1, 2, 4, 4)).pixels, image[2:4, 1:4])
    classifier = seeing_white()
    result = measure_invariance(classifier, np.zeros((64, 128, 3), np.uint8), box=(0, 0, 40, 20), steps=2)
    assert (result.scenes.thing.size, result.scenes.canvas) == ((10, 20), (32, 40))
    whole = measure_invariance(classifier, np.zeros((64, 128, 3), np.uint8), steps=2)
    assert (whole.scenes.thing.size, whole.scenes.canvas) == ((32, 32), (64, 64))  # the center that it looks at


def test_fills() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = 240
    assert background("mean", (1, 1), image, (0.2,))[0, 0].tolist() == [51, 51, 51]
    assert background((1, 2, 3), (1, 1), image, (0.2,))[0, 0].tolist() == [1, 2, 3]
    blurred = background("blur", (40, 80), image, (0.2,))[20, :, 0].astype(int)
    assert (np.diff(blurred) >= 0).all()
    assert blurred[39] < 130 < blurred[60]
    thing = Cutout.whole(np.array([[[10] * 3, [20] * 3]], np.uint8))
    mirrored = moved(np.zeros((1, 6, 3), np.uint8), thing, (0, 1), reflect=True)
    assert mirrored[0, :, 0].tolist() == [10, 10, 20, 20, 10, 10]
    over = Scenes.over(np.zeros((2, 4, 3), np.uint8), thing, 2, "reflect")
    assert [scene[0, 0, 0] for scene in over] == [10, 20, 10, 20]


BAD = [
    ({"box": (0, 0, 33, 4)}, "The box 0,0,33,4 does not lie in the picture of 32x32 pixels (WxH)"),
    ({"box": (4, 4, 4, 9)}, "The box 4,4,4,9"),
    ({"box": (-1, 0, 4, 4)}, "0 <= x0 < x1 <= 32"),
    ({"canvas": (32, 31)}, "A canvas of 32x31 pixels (HxW) does not hold the object of 32x32"),
    ({"canvas": (9000, 9000)}, "A canvas of 9000x9000 pixels (HxW) is too large"),
    ({"mask": np.zeros((16, 32), np.uint8)}, "The mask has 16x32 pixels (HxW), and the picture 32x32"),
    ({"mask": np.zeros((32, 32), np.uint8)}, "The mask is empty"),
    ({"target": OneClass(2)}, "There is no class 2 among 2"),
    ({"target": TopClasses(2)}, "top2 are several classes"),
    ({"steps": 0}, "0 places along each axis"),
    ({"steps": 1}, "One place measures nothing, and with 1 step along each axis the object of 32x32 pixels (HxW)"),
    ({"canvas": (32, 32)}, "has no more on a canvas of 32x32. Give 2 steps or more, and a canvas larger than"),
    ({"canvas": (200, 200), "steps": 10**12}, "steps along each axis make 28561 places, more than 4096. Give 64 steps"),
    ({"batch_size": 0}, "A batch of 0 scenes"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_what_cannot_be_right_is_told(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure_invariance(seeing_white(), WHITE, **arguments)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
