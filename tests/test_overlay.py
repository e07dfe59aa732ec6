"""Colors, overlays, and drawing in strips compared with plain float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cam.drawing import overlay as module
from cam.drawing.colormaps import _OPENCV, has_negative, lookup, to_color_indices
from cam.drawing.overlay import draw
from cam.errors import UsageError
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched

ROOT = Path(__file__).parents[1]
GRAY = 0.12, 0.88  # black and white of the photograph under the heat


def lightness_and_hue(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB, by the formulas of CIE 15 for sRGB and D65, not by the library that made the table."""
    linear = np.where(colors > 10.31475, ((colors / 255 + 0.055) / 1.055) ** 2.4, colors / 255 / 12.92)
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    x, y, z = (linear @ np.array(matrix).T / [0.950456, 1, 1.088754]).T
    f = [np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z)]
    return 116 * f[1] - 16, np.degrees(np.arctan2(200 * (f[1] - f[2]), 500 * (f[0] - f[1]))) % 360


# Color maps


@pytest.mark.parametrize("name", ["signed", "viridis"])
def test_zero_is_transparent_and_opacity_grows_with_the_evidence(name: str) -> None:
    table = lookup(name)
    assert (table.shape, table.dtype) == ((256, 4), np.uint8)
    share = np.arange(128) / 127
    assert table[128:, 3].tolist() == np.rint(255 * share**0.75).tolist()
    against = table[128:0:-1, 3]
    assert against.tolist() == (table[128:, 3].tolist() if name == "signed" else [0] * 128)
    assert has_negative(name) == (name == "signed")
    assert table[0].tolist() == table[1].tolist()


def test_evidence_for_is_warm_and_against_is_cold_each_of_nearly_one_hue() -> None:
    lightness, hue = lightness_and_hue(lookup("signed")[:, :3].astype(float))
    assert ((hue[129:] > 41) & (hue[129:] < 52)).all()  # orange to red
    assert ((hue[1:128] > 261) & (hue[1:128] < 291)).all()  # blue
    assert ((lightness[1:] > 44) & (lightness[1:] < 62)).all()  # neither black nor white


@pytest.mark.parametrize("name", ["inferno", "INFERNO", "COLORMAP_INFERNO", "colormap_inferno"])
def test_color_maps_of_opencv_run_from_zero_to_vmax(name: str) -> None:
    inferno = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO).reshape(256, 3)
    table = lookup(name)[:, :3]
    assert table[128].tolist() == inferno[0, ::-1].tolist()
    assert table[128 + 51].tolist() == inferno[round(51 * 255 / 127), ::-1].tolist()
    assert table[255].tolist() == inferno[255, ::-1].tolist()


def test_unknown_color_maps_are_errors_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match=r"got 'virids'\. Use --colormap viridis"):
        lookup("virids")
    with pytest.raises(UsageError, match=r"got 'rainbough'\. Use --colormap rainbow"):
        lookup("rainbough")
    with pytest.raises(UsageError, match=r"Use --colormap signed or viridis or turbo"):
        lookup("12345")


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        lookup("signed")[0] = 0


# Indices of values


def test_values_beyond_the_ends_stay_beyond() -> None:
    values = np.array([[-np.inf, -1e30, -4, 0, np.nan, 4, 1e30, np.inf]], np.float32)
    indices = to_color_indices(values, 4)[0]
    assert (indices[:2] < 0).all()
    assert indices[2:6].tolist() == [1, 128, 128, 255]
    assert (indices[6:] > 255).all()
    assert np.isfinite(indices).all()


@given(st.floats(-1, 1), st.floats(1e-30, 1e30))
def test_indices_are_in_proportion_to_the_evidence(share: float, vmax: float) -> None:
    value = np.float32(share * vmax)
    assert to_color_indices(np.array([[value]]), vmax) == pytest.approx(128 + 127 * np.float64(value) / vmax, abs=1e-4)


@pytest.mark.parametrize("vmax", [0, 1e-320])
def test_without_a_scale_all_is_zero(vmax: float) -> None:
    assert to_color_indices(np.array([[-5.0, 0.0, np.nan, 5.0]]), vmax).tolist() == [[128] * 4]


@pytest.mark.parametrize("vmax", [np.nan, np.inf, -np.inf, -1.0])
def test_vmax_must_be_finite(vmax: float) -> None:
    with pytest.raises(UsageError, match="vmax must be a finite number of 0 or more, got"):
        to_color_indices(np.zeros((1, 1)), vmax)


# Painting


def picture(*pixels: list[int]) -> np.ndarray:
    return np.array([pixels], np.uint8)


def overlay(image: np.ndarray, *heat: float, **style: Any) -> np.ndarray:
    size, canvas = image.shape[:2], np.empty_like(image)
    style = {"contours": False, **style}
    draw(canvas, image, np.array([heat]), stretched(size, size), Frame(size, size, (0, 0), size), **style)
    return canvas


def test_painting_by_hand() -> None:
    """Gray of (100, 50, 200) is 82, under the heat 0.12 * 255 + 0.76 * 82 = 92.9."""
    image = picture([100, 50, 200], [100, 50, 200], [100, 50, 200])
    against, favor = (lookup("signed")[index, :3].astype(float) for index in (1, 255))
    painted = overlay(image, -2, 0, 2, vmax=2, opacity=0.5)[0].astype(float)
    assert painted[1].tolist() == [93, 93, 93]  # no evidence: the photograph
    assert np.abs(painted[0] - (93 + against) / 2).max() <= 1
    assert np.abs(painted[2] - (93 + favor) / 2).max() <= 1
    in_color = overlay(image, 0, 1, 0, vmax=2, opacity=0.5, photo="color")[0].astype(float)
    assert in_color[0].tolist() == [100, 50, 200]
    share, color = 0.5 * 0.5**0.75, lookup("signed")[128 + 64, :3]  # 63.5 of 127 steps, rounded to even
    assert np.abs(in_color[1] - ((1 - share) * image[0, 1] + share * color)).max() <= 1.5


def test_evidence_against_is_left_out_of_sequential_maps() -> None:
    image = picture([100, 50, 200], [100, 50, 200])
    painted = overlay(image, -2, 2, vmax=2, colormap="viridis", opacity=1)
    assert painted[0].tolist() == [[93, 93, 93], lookup("viridis")[255, :3].tolist()]


def test_black_and_white_stay_visible_under_the_heat() -> None:
    assert overlay(picture([0, 0, 0], [255, 255, 255]), 0, 0, vmax=1)[0, :, 0].tolist() == [31, 224]


def test_a_line_runs_around_half_of_the_scale() -> None:
    """Heat grows from 0 in the first column to 2 in the last of 101; half of the scale of 2 is in the middle."""
    size, image = (40, 101), np.full((40, 101, 3), 128, np.uint8)
    place = Grid((0, 0), (40, 100), "measured"), Frame(size, size, (0, 0), size)
    canvases = []
    for contours in (False, True):
        canvases.append(np.empty_like(image))
        draw(canvases[-1], image, np.array([[0.0, 2.0]]), *place, vmax=2.0, contours=contours)
    changed = (canvases[0] != canvases[1]).any(-1)
    columns = changed.any(0).nonzero()[0].tolist()
    assert columns == list(range(50 - len(columns) // 2, 51 + len(columns) // 2))
    assert len(columns) <= 7
    assert changed[:, 50].all()
    assert canvases[1][20, 50].min() > 200  # light inside, dark outside
    assert canvases[1][20, 48:53, 0].min() < 100


def test_lines_run_around_the_hottest_cell_but_not_around_specks() -> None:
    """Cells of 20 pixels: the half of 1 is 20 pixels wide, that of 0.6 only 7, that of -0.8 is 15; of three 47."""
    size, cells, image = (180, 180), np.zeros((9, 9)), np.full((180, 180, 3), 128, np.uint8)
    cells[2, 2], cells[2, 6], cells[6, 1], cells[6, 5:8] = 1, 0.6, -0.8, -0.6
    canvases = [np.empty_like(image) for _ in range(2)]
    for canvas, contours in zip(canvases, (False, True), strict=True):
        place = Grid((10, 10), (20, 20), "measured"), Frame(size, size, (0, 0), size)
        draw(canvas, image, cells, *place, vmax=1.0, contours=contours)
    changed = (canvases[0] != canvases[1]).any(-1)
    around = [changed[y - 20 : y + 20, x - 36 : x + 36] for y, x in ((50, 50), (130, 130))]
    assert min(part.sum() for part in around) > 60
    assert changed.sum() == sum(part.sum() for part in around)
    parts, _ = ndimage.label(~changed)
    assert 0 != parts[50, 50] != parts[0, 0] != 0  # a line is closed


def test_wrong_arguments_are_errors() -> None:
    for opacity in (-0.1, 1.1, np.nan):
        with pytest.raises(UsageError, match="--opacity must be between 0 and 1, got"):
            overlay(picture([0, 0, 0]), 0, vmax=1, opacity=opacity)
    with pytest.raises(UsageError, match="--photo must be gray or color, got 'red'"):
        overlay(picture([0, 0, 0]), 0, vmax=1, photo="red")


def steps_of(cells: np.ndarray, grid: Grid, frame: Frame, vmax: float) -> np.ndarray:
    """Where on the 255 steps of the scale each pixel lies, (H, W) float64, by two interpolations of the cells."""
    values = cells.astype(np.float64)
    for axis in (0, 1):
        pixels = (np.arange(frame.photo[axis]) + 0.5) * frame.resized[axis] / frame.photo[axis] - 0.5
        indices = np.arange(cells.shape[axis])
        centers = grid.centers(axis, indices.size)
        position = np.interp(pixels - frame.offset[axis], centers, indices)
        one = np.array([np.interp(position, indices, row) for row in np.moveaxis(values, axis, 1)])
        values = np.moveaxis(one, 1, axis)
    return np.full(frame.photo, 128.0) if vmax <= 0 else np.clip(128 + 127 * values / vmax, 0, 255)


def painted(steps: np.ndarray, image: np.ndarray, colormap: str, opacity: float, photo: str) -> np.ndarray:
    colors = lookup(colormap)[np.rint(steps).astype(int)].astype(float)
    share = opacity * colors[..., 3:] / 255
    gray = 255 * GRAY[0] + (GRAY[1] - GRAY[0]) * np.rint(image @ [0.299, 0.587, 0.114])[..., None]
    return (1 - share) * (gray if photo == "gray" else image) + share * colors[..., :3]


def unseen_part(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The unseen part, (H, W): pale gray, dark next to the seen part."""
    height, width = seen.shape
    stroke = max(1, round((height * width) ** 0.5 / 400))
    y, x = np.mgrid[:height, :width]
    gray = 255 * 0.66 + 0.3 * (image @ [0.299, 0.587, 0.114])
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if rows.size:
        near = (y >= rows[0] - stroke) & (y <= rows[-1] + stroke) & (x >= columns[0] - stroke)
        gray[near & (x <= columns[-1] + stroke)] = 64
    return gray


def check(cells: np.ndarray, grid: Grid, frame: Frame, **changes: Any) -> np.ndarray:
    """Draw, and compare every pixel with the reference: it is rounded four times."""
    style = {"vmax": 2.0, "opacity": 0.5, "colormap": "signed", "photo": "gray", "contours": False, **changes}
    image = np.random.default_rng(1).integers(0, 256, (*frame.photo, 3), np.uint8)
    canvas = np.full((frame.photo[0] + 2, frame.photo[1] + 3, 3), 77, np.uint8)
    drawn = canvas[:-2, :-3]
    draw(drawn, image, cells, grid, frame, **style)
    assert (canvas[-2:] == 77).all()
    assert (canvas[:, -3:] == 77).all()

    x0, y0, x1, y1 = frame.seen
    seen = np.zeros(frame.photo, bool)
    seen[y0:y1, x0:x1] = True
    steps = steps_of(cells, grid, frame, style["vmax"])
    # A value half-way between two colors, to single precision, may get either.
    near = [np.clip(steps + d, 0, 255) for d in (-1e-3, 0, 1e-3)]
    looks = style["colormap"], style["opacity"], style["photo"]
    errors = [np.abs(drawn - painted(steps, image, *looks)) for steps in near]
    assert np.min(errors, 0)[seen].max(initial=0) <= 2.6
    assert seen.sum() < 1000 or np.min(errors, 0)[seen].mean() <= 0.6
    assert np.abs(drawn - unseen_part(image, seen)[..., None])[~seen].max(initial=0) <= 0.8  # rounded twice
    return drawn


def cells(height: int, width: int) -> np.ndarray:
    return (1.5 * np.random.default_rng(0).normal(size=(height, width))).astype(np.float32)


CROP = fit_crop((375, 500), 256, (224, 224))


@pytest.mark.parametrize("colormap", ["signed", "INFERNO", *sorted(_OPENCV)])
def test_every_color_map(colormap: str) -> None:
    check(cells(7, 7), stretched((7, 7), CROP.input), CROP, colormap=colormap)


@pytest.mark.parametrize("opacity", [0.0, 1 / 3, 0.5, 1.0])
@pytest.mark.parametrize("vmax", [0.0, 0.4, 2.0, 50.0])
def test_every_opacity_and_scale(opacity: float, vmax: float) -> None:
    frame = fit_whole((480, 640), 256)
    check(cells(15, 20), stretched((15, 20), frame.input), frame, vmax=vmax, opacity=opacity)


def test_a_photograph_in_color() -> None:
    check(cells(7, 7), stretched((7, 7), CROP.input), CROP, photo="color")


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.sampled_from(["crop", "padded", "whole"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_any_size_and_view(size: tuple[int, int], view: str, shape: tuple[int, int]) -> None:
    frame = fit_whole(size, 64) if view == "whole" else fit_crop(size, 64, (56, 56) if view == "crop" else (80, 48))
    check(cells(*shape), stretched(shape, frame.input), frame)


@pytest.mark.parametrize("size", [(1, 1), (1, 70_000), (70_000, 1), (2, 60_001), (700, 1)])
def test_ribbons_and_single_pixels(size: tuple[int, int]) -> None:
    for frame in (Frame(size, size, (0, 0), size), fit_crop(size, 64, (56, 56))):
        check(cells(3, 4), stretched((3, 4), frame.input), frame)


def test_strips_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = stretched((7, 7), CROP.input)
    whole = check(cells(7, 7), grid, CROP)
    for pixels in (1, 333, 5000, 10**9):
        monkeypatch.setattr(module, "STRIP", pixels)
        assert np.array_equal(check(cells(7, 7), grid, CROP), whole)


@pytest.mark.parametrize("value", [4.0, 1e4, 1e9, 3e9, 1e20, 3e38])
@pytest.mark.parametrize("vmax", [1.0, 1e-30])
def test_values_beyond_the_ends_do_not_wrap_around(value: float, vmax: float) -> None:
    against, favor = (lookup("signed")[index, :3].tolist() for index in (1, 255))
    frame, image = Frame((4, 60), (4, 60), (0, 0), (4, 60)), np.zeros((4, 60, 3), np.uint8)
    style: dict[str, Any] = {"vmax": vmax, "opacity": 1, "contours": False}
    for left, right in ((-value, value), (value, -value), (value, value), (-value, -value)):
        canvas = image.copy()
        draw(canvas, image, np.array([[left, right]]), stretched((1, 2), (4, 60)), frame, **style)
        assert (canvas[:, :26] == (favor if left > 0 else against)).all()
        assert (canvas[:, 34:] == (favor if right > 0 else against)).all()


@pytest.mark.parametrize("vmax", [1e-3, 1e-15, 1e-30])
def test_on_a_tiny_scale_the_signs_still_change_where_they_do(vmax: float) -> None:
    against, favor = (lookup("signed")[index, :3].tolist() for index in (1, 255))
    frame, image = Frame((1, 400), (1, 400), (0, 0), (1, 400)), np.zeros((1, 400, 3), np.uint8)
    canvas, style = image.copy(), {"vmax": vmax, "opacity": 1, "contours": False}
    draw(canvas, image, np.array([[-1.0, 7.0]]), stretched((1, 2), (1, 400)), frame, **style)
    assert (canvas[0, :124] == against).all()  # an eighth of the way from 99.5 to 299.5
    assert (canvas[0, 125:] == favor).all()


_BUSY_AFTER = """
import time
import numpy as np
import cam
explanation = cam.explain(cam.load_classifier("digits", device="cpu"), np.zeros((600, 800, 3), np.uint8))
seconds = []
for _ in range(5):
    explanation.overlay(legend=True), explanation.heat(), explanation.encode(".jpg")
    before = time.process_time()
    time.sleep(0.02)
    seconds.append(time.process_time() - before)
print(sorted(seconds)[2])
"""


def test_drawing_leaves_no_thread_that_waits_actively() -> None:
    """Threads of NumPy's BLAS take a core for 25 ms after a product, from the network's next pass."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _BUSY_AFTER]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(result.stdout) < 0.01
