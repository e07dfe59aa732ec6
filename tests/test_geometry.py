"""Where the cells of a map lie in the photograph, and boxes around its heat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import photo, wrapped
from torch import nn

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.heads.find import find_head
from cam.heads.receptive_field import arithmetic_grid, measure_receptive_field
from cam.images.io import read_image
from cam.maps.boxes import boxes_of, component_boxes
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched
from cam.maps.projection import cell_positions, peak, project

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


def test_a_map_is_projected_by_hand() -> None:
    """Cells centered at 1 and 3 of an input of 5 pixels, shown twice as large."""
    frame = Frame((10, 10), (5, 5), (0, 0), (5, 5))
    heat = project(np.array([[0.0, 8.0], [0.0, 8.0]]), Grid((1, 1), (2, 2), "arithmetic"), frame)
    assert heat[0].tolist() == [0, 0, 0, 1, 3, 5, 7, 8, 8, 8]
    assert (heat == heat[0]).all()
    assert peak(np.array([[0.0, 1.0], [0.0, 8.0]]), Grid((1, 1), (2, 2), "arithmetic"), frame) == (7, 7)


def test_a_peak_outside_the_photograph_is_held_at_its_edge() -> None:
    frame = Frame((10, 10), (10, 10), (0, 0), (10, 10))
    assert peak(np.array([[5.0, 0.0]]), Grid((-4, -4), (8, 8), "measured"), frame) == (0, 0)


def averaging(padding: tuple[int, int, int, int], kernel: int = 5, stride: int = 4) -> nn.Module:
    """Windows that average, behind a padding (left, right, top, bottom): their centers are known."""
    convolution = nn.Conv2d(3, 3, kernel, stride, bias=False)
    nn.init.constant_(convolution.weight, 1 / (3 * kernel**2))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    return nn.Sequential(nn.ZeroPad2d(padding), convolution, head)


@pytest.mark.parametrize(
    ("padding", "offset"),
    [((0, 0, 0, 0), (2, 2)), ((2, 2, 2, 2), (0, 0)), ((3, 0, 1, 0), (1, -1)), ((0, 3, 0, 3), (2, 2))],
)
def test_measured_centers_are_exact_where_they_are_known(
    padding: tuple[int, int, int, int], offset: tuple[float, float], device: torch.device
) -> None:
    torch.manual_seed(0)
    network = averaging(padding).to(device)
    head = find_head(network, (3, 48, 64)).exact()
    grid = measure_receptive_field(network, head, (3, 48, 64))
    assert grid.method == "measured"
    assert grid.stride == (4, 4)
    assert grid.offset == pytest.approx(offset, abs=1e-4)
    arithmetic = arithmetic_grid(network, head.site, (3, 48, 64))
    assert arithmetic is not None
    assert (arithmetic.offset, arithmetic.stride) == (offset, (4, 4))


@pytest.mark.parametrize(("size", "stride"), [(112, 7), (100, 7), (50, 12), (96, 3), (70, 5)])
def test_strides_are_exact_if_the_input_is_no_multiple_of_them(size: int, stride: int, device: torch.device) -> None:
    torch.manual_seed(0)
    network = averaging((1, 1, 1, 1), kernel=stride, stride=stride).to(device)
    grid = measure_receptive_field(network, find_head(network, (3, size, size)).exact(), (3, size, size))
    assert grid.stride == (stride, stride)
    assert grid.offset == pytest.approx(((stride - 1) / 2 - 1,) * 2, abs=1e-4)


def test_cells_at_the_border_lie_where_the_part_of_their_window_inside_the_input_does(device: torch.device) -> None:
    """Columns -3 to 1 and rows -1 to 3 of the first cell's window; 3 pixels of the last one's are padding too."""
    torch.manual_seed(0)
    network = averaging((3, 3, 1, 1)).to(device)
    grid = measure_receptive_field(network, find_head(network, (3, 48, 48)).exact(), (3, 48, 48))
    assert grid.extent == pytest.approx((2**0.5, 2**0.5), abs=1e-4)  # of five equal weights
    ys, xs = cell_positions((12, 13), grid, Frame((48, 48), (48, 48), (0, 0), (48, 48)))
    assert (ys[0], xs[0]) == pytest.approx((1.5, 0.5), abs=0.15)
    assert (ys[5], xs[6]) == pytest.approx((21, 23), abs=0.01)
    assert (ys[11], xs[12]) == pytest.approx((45, 46.5), abs=0.5)


@given(st.floats(-60, 160), st.floats(0.5, 300), st.integers(1, 120))
def test_a_center_is_the_mean_of_what_a_cell_sees_inside_the_input(middle: float, extent: float, length: int) -> None:
    grid = Grid((middle, middle), (1, 1), "measured", (extent, extent))
    y, x = (float(grid.centers(axis, 1, length)[0]) for axis in (0, 1))
    points = np.linspace(-0.5, length - 0.5, 100_001)
    outside = max(-0.5 - middle, middle - length + 0.5, 0) / extent
    assert y == x
    assert -0.5 - 1e-6 <= y <= length - 0.5 + 1e-6
    if outside <= 5:
        density = np.exp(-(((points - middle) / extent) ** 2) / 2 + outside**2 / 2)
        assert y == pytest.approx(np.trapezoid(density * points) / np.trapezoid(density), abs=1e-2)


@given(st.floats(-20, 20), st.floats(2, 40), st.floats(0, 80), st.integers(2, 40))
def test_rows_peak_and_heat_agree_at_the_border(offset: float, stride: float, extent: float, cells: int) -> None:
    length = max(8, int(offset + stride * (cells - 1)))
    grid = Grid((offset, offset), (stride, stride), "measured", (extent, extent))
    centers = grid.centers(0, cells, length)
    assert (np.diff(centers) >= 0).all()
    frame = Frame((length, length), (length, length), (0, 0), (length, length))
    cam = np.arange(float(cells))[:, None] * np.ones(cells)
    heat = project(cam, grid, frame)[:, 0]
    rows = np.arange(length)
    np.testing.assert_allclose(heat, np.interp(rows, centers, np.arange(cells)), atol=1e-3 * cells)
    hottest = np.zeros((cells, cells))
    hottest[cells // 2, 0] = 1
    assert peak(hottest, grid, frame)[0] == np.clip(np.floor(centers[cells // 2] + 0.5), 0, length - 1)


def test_measuring_in_inference_mode_gives_the_same(device: torch.device) -> None:
    torch.manual_seed(0)
    network = averaging((1, 1, 1, 1)).to(device)
    head = find_head(network, (3, 32, 32)).exact()
    with torch.inference_mode():
        measured = measure_receptive_field(network, head, (3, 32, 32))
    assert measured == measure_receptive_field(network, head, (3, 32, 32))
    assert measured.method == "measured"


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda: averaging((40, 0, 40, 0)), 32),  # cells farther outside than half the input
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(16), averaging((0, 0, 0, 0))), 48),  # resizes its input
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 2)), 32),  # one size
    ],
)
def test_maps_are_stretched_where_nothing_can_be_measured(
    build: Callable[[], nn.Module], size: int, device: torch.device
) -> None:
    torch.manual_seed(0)
    network = build().to(device)
    head = find_head(network, (3, size, size)).exact()
    assert measure_receptive_field(network, head, (3, size, size)).method == "stretched"


def test_the_same_weights_with_another_stride_are_measured_again(device: torch.device) -> None:
    torch.manual_seed(0)
    grids = []
    for stride in (4, 2):
        network = averaging((0, 0, 0, 0), stride=stride)
        network.load_state_dict({name: torch.full_like(value, 0.1) for name, value in network.state_dict().items()})
        grids.append(cam.wrap(network.to(device), input_size=48).grid)
    assert [grid.stride for grid in grids] == [(4, 4), (2, 2)]


PIXELS = Grid((0, 0), (1, 1), "arithmetic")


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
