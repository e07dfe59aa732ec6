"""Where the cells of a map lie in the photograph, and boxes around its heat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import photo, wrapped

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.images.io import read_image
from cam.maps.boxes import boxes_of, component_boxes
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched
from cam.maps.projection import View, average_views, peak, project

SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(SIZES, st.sampled_from([(256, (224, 224)), (342, (299, 299)), (32, (32, 32)), (64, (96, 80))]))
def test_the_middle_of_a_crop_is_the_middle_of_the_photograph(
    photo: tuple[int, int], sizes: tuple[int, tuple[int, int]]
) -> None:
    frame = fit_crop(photo, *sizes)
    middle = frame.to_photo(((frame.input[0] - 1) / 2, (frame.input[1] - 1) / 2))
    pixel = max(photo[0] / frame.resized[0], photo[1] / frame.resized[1])  # one pixel of the input, in the photograph
    assert middle == pytest.approx(((photo[0] - 1) / 2, (photo[1] - 1) / 2), abs=0.51 * pixel + 1e-6)


@given(SIZES)
def test_a_whole_image_is_seen_to_its_last_pixel_and_stays_bounded(photo: tuple[int, int]) -> None:
    frame = fit_whole(photo, 64)
    assert frame.seen == (0, 0, photo[1], photo[0])
    assert max(frame.input) <= 8 * 64
    assert min(frame.input) == 64 or max(photo) > 8 * min(photo)


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize("photo", [(300, 500), (500, 300), (401, 401), (97, 61)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_marker_comes_out_where_it_went_in(
    tmp_path: Path, fit: str, photo: tuple[int, int], orientation: int
) -> None:
    """Through the file, its EXIF rotation, resizing and cropping, and back, to half a pixel of the input."""
    height, width = photo
    at = round(0.3 * height), round(0.62 * width)
    upright = np.zeros((height, width, 3), np.uint8)
    upright[at[0] - 2 : at[0] + 3, at[1] - 2 : at[1] + 3] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that the orientation undoes
    stored = Image.fromarray(upright)
    stored = stored if orientation == 1 else stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)

    image = read_image(tmp_path / "photo.png")
    assert image.shape == upright.shape
    preprocessing = Preprocessing(64, (56, 56), (0.0,), (1.0,))
    tensor, frame = preprocessing.prepare(image, fit)  # type: ignore[arg-type]
    energy = tensor[0].double().numpy()
    total = energy.sum()
    y = (energy.sum(1) * np.arange(energy.shape[0])).sum() / total
    x = (energy.sum(0) * np.arange(energy.shape[1])).sum() / total
    scale = photo[0] / frame.resized[0], photo[1] / frame.resized[1]
    assert np.abs(np.subtract(frame.to_photo((y, x)), at) / scale).max() < 0.5


def test_heat_is_nan_outside_the_crop_and_nowhere_else() -> None:
    frame = fit_crop((100, 200), 50, (40, 40))
    heat = project(np.ones((3, 3)), stretched((3, 3), (40, 40)), frame)
    assert frame.seen == (60, 10, 140, 90)
    assert (heat[10:90, 60:140] == 1).all()
    assert np.isnan(heat).sum() == 100 * 200 - 80 * 80


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (Frame((10, 10), (3, 3), (1, 1), (1, 1)), (3, 3, 7, 7)),  # from 2.83 to 6.17, pixel centers
        (Frame((10, 10), (4, 4), (0, 1), (2, 2)), (2, 0, 8, 5)),  # from 2 to 7, both included, and from -0.5 to 4.5
        (Frame((10, 10), (10, 10), (-3, 8), (5, 5)), (8, 0, 10, 2)),
    ],
)
def test_the_last_pixel_whose_center_was_seen_is_seen(frame: Frame, seen: tuple[int, int, int, int]) -> None:
    assert frame.seen == seen


def test_a_map_is_projected_by_hand() -> None:
    """Cells centered at 1 and 3 of an input of 5 pixels, shown twice as large."""
    frame = Frame((10, 10), (5, 5), (0, 0), (5, 5))
    heat = project(np.array([[0.0, 8.0], [0.0, 8.0]]), Grid((1, 1), (2, 2), "measured"), frame)
    assert heat[0].tolist() == [0, 0, 0, 1, 3, 5, 7, 8, 8, 8]
    assert (heat == heat[0]).all()
    assert peak(np.array([[0.0, 1.0], [0.0, 8.0]]), Grid((1, 1), (2, 2), "measured"), frame) == (7, 7)


def test_a_peak_outside_the_photograph_is_held_at_its_edge() -> None:
    frame = Frame((10, 10), (10, 10), (0, 0), (10, 10))
    assert peak(np.array([[5.0, 0.0]]), Grid((-4, -4), (8, 8), "measured"), frame) == (0, 0)


@given(st.floats(-20, 20), st.floats(2, 40), st.integers(2, 40))
def test_rows_peak_and_heat_agree_at_the_border(offset: float, stride: float, cells: int) -> None:
    length = max(8, int(offset + stride * (cells - 1)))
    grid = Grid((offset, offset), (stride, stride), "measured")
    centers = grid.centers(0, cells)
    frame = Frame((length, length), (length, length), (0, 0), (length, length))
    cam = np.arange(float(cells))[:, None] * np.ones(cells)
    heat = project(cam, grid, frame)[:, 0]
    rows = np.arange(length)
    np.testing.assert_allclose(heat, np.interp(rows, centers, np.arange(cells)), atol=1e-3 * cells)
    hottest = np.zeros((cells, cells))
    hottest[cells // 2, 0] = 1
    assert peak(hottest, grid, frame)[0] == np.clip(np.floor(centers[cells // 2] + 0.5), 0, length - 1)


PIXELS = Grid((0, 0), (1, 1), "measured")


def spots(height: int, width: int, *parts: tuple[slice, slice]) -> np.ndarray:
    cells = np.zeros((height, width), np.float32)
    for rows, columns in parts:
        cells[rows, columns] = 1
    return cells


def test_corners_connect_and_the_largest_comes_first():
    mask = spots(6, 8, (slice(0, 1), slice(0, 1)), (slice(2, 4), slice(3, 5)), (slice(4, 5), slice(5, 6))) > 0
    assert component_boxes(mask) == [(3, 2, 6, 5), (0, 0, 1, 1)]


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_an_empty_mask_has_no_boxes(shape):
    assert component_boxes(np.zeros(shape, bool)) == []


CROP = fit_crop((40, 80), 20, (10, 10))  # twice as small, the middle 10 x 10 of 20 x 40: photo 10..30, 30..50
COARSE = Frame((10, 10), (4, 4), (0, 0), (4, 4))  # 2.5 pixels of the photograph to one of the input
PADDED = Frame((4, 4), (4, 4), (-2, -2), (8, 8))


@pytest.mark.parametrize(
    ("frame", "spot", "box"),
    [
        (Frame((12, 16), (6, 8), (0, 0), (6, 8)), (slice(1, 3), slice(2, 5)), (4, 2, 10, 6)),
        (CROP, (slice(0, 2), slice(8, 10)), (46, 10, 50, 14)),  # nothing unseen is boxed
        (COARSE, (slice(1, 2), slice(1, 2)), (2, 2, 5, 5)),  # every pixel that is touched
        (Frame((3, 3), (5, 5), (0, 0), (5, 5)), (slice(1, 4), slice(1, 4)), (0, 0, 3, 3)),  # from 0.6 to 2.4
        (PADDED, (slice(0, 4), slice(0, 4)), (0, 0, 2, 2)),
        (PADDED, (slice(0, 1), slice(0, 1)), None),  # in the padding
    ],
)
def test_a_box_lies_around_the_heat_in_the_photograph(
    frame: Frame, spot: tuple[slice, slice], box: tuple[int, int, int, int] | None
) -> None:
    assert boxes_of(spots(*frame.input, spot), PIXELS, frame, 0.9) == ([box] if box else [])


@pytest.mark.parametrize("value", [0, -1])
def test_without_positive_evidence_there_is_no_box(value):
    assert boxes_of(np.full((3, 3), value, np.float32), PIXELS, Frame((3, 3), (3, 3), (0, 0), (3, 3))) == []


def test_the_share_sets_the_threshold():
    cells, frame = np.array([[4.0, 1.0, 0.0]]), Frame((1, 3), (1, 3), (0, 0), (1, 3))
    assert boxes_of(cells, PIXELS, frame, 0.2) == [(0, 0, 2, 1)]
    assert boxes_of(cells, PIXELS, frame, 0.3) == [(0, 0, 1, 1)]
    with_negative = np.array([[4.0, 1.0, 0.0, -4.0]])
    assert boxes_of(with_negative, PIXELS, Frame((1, 4), (1, 4), (0, 0), (1, 4)), 0.2) == [(0, 0, 2, 1)]


def test_boxes_smaller_than_a_cell_are_left_out_except_for_the_first():
    cells, frame = np.array([[4.0, 0.0, 4.0]]), Frame((1, 12), (1, 12), (0, 0), (1, 12))
    grid = Grid((0, 1.5), (1, 4), "measured")  # heat falls by 1 a pixel, from pixels 1.5 and 9.5 towards the middle
    assert boxes_of(cells, grid, frame, 0.9) == [(0, 0, 2, 1)]
    assert boxes_of(cells, grid, frame, 0.6) == [(0, 0, 4, 1), (8, 0, 12, 1)]


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


def test_views_are_averaged_on_the_grid_of_the_first() -> None:
    frame = Frame((2, 4), (2, 4), (0, 0), (2, 4))
    fine = View(np.array([[[1, 3]]], np.float32), stretched((1, 2), (2, 4)), frame)
    coarse = View(np.array([[[4]]], np.float32), stretched((1, 1), (2, 4)), frame)
    for additive in (True, False):
        assert average_views([fine, coarse], np.array([additive])).tolist() == [[[2.5, 3.5]]]
        assert average_views([coarse, fine], np.array([additive])).tolist() == [[[3.0]]]
