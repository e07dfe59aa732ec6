"""Colors, overlays, and drawing in strips compared with plain float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import photo, wrapped

import cam
from cam.drawing import overlay as module
from cam.drawing.colormaps import _OPENCV, colorize, lookup
from cam.drawing.overlay import draw
from cam.errors import UsageError
from cam.images.io import shrink
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched

AGAINST, ZERO, FAVOR = [133, 243, 255], [0, 0, 0], [255, 227, 0]


def lightness_and_hue(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB, by the formulas of CIE 15 for sRGB and D65, not by the library that made the table."""
    linear = np.where(colors > 10.31475, ((colors / 255 + 0.055) / 1.055) ** 2.4, colors / 255 / 12.92)
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    x, y, z = (linear @ np.array(matrix).T / [0.950456, 1, 1.088754]).T
    f = [np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z)]
    return 116 * f[1] - 16, np.degrees(np.arctan2(200 * (f[1] - f[2]), 500 * (f[0] - f[1]))) % 360


# Color maps


def test_signed_is_black_at_zero_and_ends_in_cyan_and_yellow() -> None:
    table = lookup("signed")
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert [table[i].tolist() for i in (0, 1, 128, 255)] == [AGAINST, AGAINST, ZERO, FAVOR]


def test_lightness_of_signed_is_in_proportion_to_the_evidence_on_both_sides() -> None:
    lightness, _ = lightness_and_hue(lookup("signed")[1:].astype(float))
    assert np.abs(lightness - 90 * np.abs(np.arange(-127, 128)) / 127).max() < 0.6  # of 100; rounding to 8 bits


def test_evidence_for_is_warm_and_against_is_cold_at_every_strength() -> None:
    table = lookup("signed").astype(int)
    against, favor = table[1:124], table[133:]  # nearer to zero everything is black
    assert (favor[:, 0] > favor[:, 2]).all()
    assert (against[:, 2] > against[:, 0]).all()
    assert not {tuple(c) for c in against.tolist()} & {tuple(c) for c in favor.tolist()}


def test_the_hue_of_signed_turns_with_the_square_of_the_evidence() -> None:
    table, strength = lookup("signed").astype(float), np.array([48, 64, 96, 127])
    _, favor = lightness_and_hue(table[128 + strength])
    _, against = lightness_and_hue(table[128 - strength])
    assert np.abs(favor - (38 + 57 * (strength / 127) ** 2)).max() < 1.5  # degrees
    assert np.abs(against - (290 - 80 * (strength / 127) ** 2)).max() < 1.5


@pytest.mark.parametrize("name", ["inferno", "INFERNO", "COLORMAP_INFERNO", "colormap_inferno"])
def test_color_maps_of_opencv_run_from_minus_to_plus_vmax(name: str) -> None:
    inferno = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO).reshape(256, 3)
    table = lookup(name)
    assert table[1].tolist() == inferno[0, ::-1].tolist()
    assert table[128].tolist() == inferno[128, ::-1].tolist()
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


# Colors of values


def test_values_beyond_the_ends_get_the_outermost_colors() -> None:
    values = np.array([[-np.inf, -1e30, -4.001, -4, 0, np.nan, 4, 4.001, 1e30, np.inf]], np.float32)
    painted = colorize(values, 4).tolist()[0]
    assert painted == [AGAINST] * 4 + [ZERO] * 2 + [FAVOR] * 4


@given(st.floats(-1, 1), st.floats(1e-30, 1e30))
def test_colors_are_those_of_the_nearest_of_255_steps(share: float, vmax: float) -> None:
    value = np.float32(share * vmax)
    step = int(np.rint(np.float64(value) / vmax * 127))
    near = {tuple(lookup("signed")[np.clip(128 + step + d, 1, 255)].tolist()) for d in (-1, 0, 1)}
    assert tuple(colorize(np.array([[value]]), vmax)[0, 0].tolist()) in near
    assert colorize(np.array([[-value]]), vmax).tolist() != colorize(np.array([[value]]), vmax).tolist() or step == 0


@pytest.mark.parametrize("vmax", [0, 1e-320])
def test_without_a_scale_all_is_zero(vmax: float) -> None:
    assert colorize(np.array([[-5.0, 0.0, np.nan, 5.0]]), vmax).tolist() == [[ZERO] * 4]
    assert colorize(np.array([[-5.0, 0.0, 5.0]], np.float32), 1e-37).tolist() == [[AGAINST, ZERO, FAVOR]]


@pytest.mark.parametrize("vmax", [np.nan, np.inf, -np.inf, -1.0])
def test_vmax_must_be_finite(vmax: float) -> None:
    with pytest.raises(UsageError, match="vmax must be a finite number of 0 or more, got"):
        colorize(np.zeros((1, 1)), vmax)


# Blending


def picture(*pixels: list[int]) -> np.ndarray:
    return np.array([pixels], np.uint8)


def overlay(image: np.ndarray, *heat: float, **style: Any) -> np.ndarray:
    size, canvas = image.shape[:2], np.empty_like(image)
    draw(canvas, image, np.array([heat]), stretched(size, size), Frame(size, size, (0, 0), size), **style)
    return canvas


def test_blending_by_hand() -> None:
    image = picture([100, 50, 200], [100, 50, 200], [100, 50, 200])
    blended = overlay(image, -2, 0, 2, vmax=2, opacity=0.5)
    # (100 + 133) / 2 = 116.5, (50 + 243) / 2 = 146.5, (200 + 255) / 2 = 227.5, rounded to even; and so on
    assert blended.tolist() == [[[116, 146, 228], [50, 25, 100], [178, 138, 100]]]
    blended = overlay(image, -2, 0, 2, vmax=2, opacity=0.25)
    assert blended.tolist() == [[[108, 98, 214], [75, 38, 150], [139, 94, 150]]]


def test_wrong_arguments_are_errors() -> None:
    for opacity in (-0.1, 1.1, np.nan):
        with pytest.raises(UsageError, match="--opacity must be between 0 and 1, got"):
            overlay(picture([0, 0, 0]), 0, vmax=1, opacity=opacity)


def steps_of(cells: np.ndarray, grid: Grid, frame: Frame, vmax: float, signed: bool) -> np.ndarray:
    """Where on the 255 steps of the scale each pixel lies, (H, W) float64, by two interpolations of the cells."""
    values = cells.astype(np.float64)
    for axis in (0, 1):
        pixels = (np.arange(frame.photo[axis]) + 0.5) * frame.resized[axis] / frame.photo[axis] - 0.5
        indices = np.arange(cells.shape[axis])
        centers = grid.centers(axis, indices.size)
        position = np.interp(pixels - frame.offset[axis], centers, indices)
        one = np.array([np.interp(position, indices, row) for row in np.moveaxis(values, axis, 1)])
        values = np.moveaxis(one, 1, axis)
    if vmax <= 0:
        return np.full(frame.photo, 128.0)
    return np.clip(128 + 127 * (values / vmax if signed else 2 * values / vmax - 1), 0, 255)


def blended(steps: np.ndarray, image: np.ndarray, colormap: str, opacity: float) -> np.ndarray:
    return (1 - opacity) * image + opacity * lookup(colormap)[np.rint(steps).astype(int)]


def unseen_part(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The unseen part, (H, W): gray, hatched, white next to the seen part."""
    height, width = seen.shape
    stroke = max(1, round((height * width) ** 0.5 / 300))
    y, x = np.mgrid[:height, :width]
    gray = image @ [0.299, 0.587, 0.114] / 2 + 48
    gray += 45 * ((y + x) % (12 * stroke) < stroke)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if rows.size:
        near = (y >= rows[0] - stroke) & (y <= rows[-1] + stroke) & (x >= columns[0] - stroke)
        gray[near & (x <= columns[-1] + stroke)] = 255
    return gray


def check(cells: np.ndarray, grid: Grid, frame: Frame, **changes: Any) -> np.ndarray:
    """Draw, and compare every pixel with the reference: half a level is rounding."""
    style = {"vmax": 2.0, "opacity": 0.5, "colormap": "signed", "signed": True, **changes}
    image = np.random.default_rng(1).integers(0, 256, (*frame.photo, 3), np.uint8)
    canvas = np.full((frame.photo[0] + 2, frame.photo[1] + 3, 3), 77, np.uint8)
    drawn = canvas[:-2, :-3]
    draw(drawn, image, cells, grid, frame, **style)
    assert (canvas[-2:] == 77).all()
    assert (canvas[:, -3:] == 77).all()

    x0, y0, x1, y1 = frame.seen
    seen = np.zeros(frame.photo, bool)
    seen[y0:y1, x0:x1] = True
    steps = steps_of(cells, grid, frame, style["vmax"], style["signed"])
    # A value half-way between two colors, to single precision, may get either.
    near = [np.clip(steps + d, 0, 255) for d in (-1e-3, 0, 1e-3)]
    errors = [np.abs(drawn - blended(steps, image, style["colormap"], style["opacity"])) for steps in near]
    assert np.min(errors, 0)[seen].max(initial=0) <= 0.5 + 1e-4
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


@pytest.mark.parametrize("colormap", ["viridis", "jet", "signed"])
def test_probabilities_run_from_zero(colormap: str) -> None:
    values = np.random.default_rng(0).random((13, 13)).astype(np.float32)
    check(values, stretched((13, 13), CROP.input), CROP, vmax=1.0, signed=colormap == "signed", colormap=colormap)


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
        monkeypatch.setattr(module, "_STRIP", pixels)
        assert np.array_equal(check(cells(7, 7), grid, CROP), whole)


@pytest.mark.parametrize("value", [4.0, 1e4, 1e9, 3e9, 1e20, 3e38])
@pytest.mark.parametrize("vmax", [1.0, 1e-30])
def test_values_beyond_the_ends_do_not_wrap_around(value: float, vmax: float) -> None:
    frame, image = Frame((4, 60), (4, 60), (0, 0), (4, 60)), np.zeros((4, 60, 3), np.uint8)
    for left, right in ((-value, value), (value, -value), (value, value), (-value, -value)):
        canvas = image.copy()
        draw(canvas, image, np.array([[left, right]]), stretched((1, 2), (4, 60)), frame, vmax=vmax, opacity=1)
        assert (canvas[:, :26] == (FAVOR if left > 0 else AGAINST)).all()
        assert (canvas[:, 34:] == (FAVOR if right > 0 else AGAINST)).all()


@pytest.mark.parametrize("vmax", [1e-3, 1e-15, 1e-30])
def test_on_a_tiny_scale_the_signs_still_change_where_they_do(vmax: float) -> None:
    frame, image = Frame((1, 400), (1, 400), (0, 0), (1, 400)), np.zeros((1, 400, 3), np.uint8)
    canvas = image.copy()
    draw(canvas, image, np.array([[-1.0, 7.0]]), stretched((1, 2), (1, 400)), frame, vmax=vmax, opacity=1)
    assert (canvas[0, :124] == AGAINST).all()  # an eighth of the way from 99.5 to 299.5
    assert (canvas[0, 125:] == FAVOR).all()


def test_threads_draw_the_same_as_one_thread() -> None:
    explanations = [cam.explain(wrapped(), photo(50, 90, seed)) for seed in range(4)]
    alone = [explanation.overlay(legend=True) for explanation in explanations]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: explanations[i % 4].overlay(legend=True), range(40)))
    for i, picture in enumerate(together):
        assert np.array_equal(picture, alone[i % 4])


# Overlays smaller than their photographs


@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_a_smaller_overlay_is_that_of_the_smaller_photograph(fit: str) -> None:
    explanation = cam.explain(wrapped(), photo(120, 200), fit=fit)
    small = explanation.overlay(max_side=50, box_share=0.5)
    assert small.shape == (30, 50, 3)
    read_small = replace(explanation, image=shrink(explanation.image, 50))
    assert np.array_equal(read_small.overlay(box_share=0.5), small)
    plain, frame = np.empty_like(read_small.image), replace(explanation.frame, photo=(30, 50))
    draw(plain, read_small.image, explanation.evidence_map, explanation.grid, frame, vmax=explanation.vmax)
    assert np.array_equal(explanation.overlay(max_side=50), plain)


def test_only_the_overlay_has_the_size_of_a_smaller_copy() -> None:
    explanation = cam.explain(wrapped(), photo(120, 200), fit="crop")
    small = replace(explanation, image=explanation.image[::4, ::4].copy())
    assert small.overlay().shape == (30, 50, 3)
    assert small.heat().shape == (120, 200)
    assert (small.peak, small.boxes()) == (explanation.peak, explanation.boxes())


def test_images_are_never_enlarged() -> None:
    explanation = cam.explain(wrapped(), photo(40, 70))
    for max_side in (70, 71, 10_000):
        assert np.array_equal(explanation.overlay(max_side=max_side), explanation.overlay())
    assert shrink(photo(40, 70), 35).shape == (20, 35, 3)
    assert shrink(photo(1, 700), 7).shape == (1, 7, 3)
    assert explanation.overlay(max_side=20, legend=True).shape[1] == 280


@pytest.mark.parametrize(("size", "max_side"), [((120, 200), 50), ((121, 203), 30), ((301, 77), 100), ((90, 90), 61)])
def test_a_smaller_image_is_the_mean_over_areas(size: tuple[int, int], max_side: int) -> None:
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([y * 255 / size[0], x * 255 / size[1], 99 + 0 * x], -1).astype(np.uint8)
    height, width = (round(side * max_side / max(size)) for side in size)
    small = shrink(smooth, max_side)
    assert small.shape == (height, width, 3)
    expected = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - expected)[1:-1, 1:-1].max() <= 1  # nothing is moved, not by a pixel of the larger image
    assert np.abs(small - expected).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert shrink(noise, max_side).std() < 1.6 * 74 * max_side / max(size)  # of independent pixels, averaged


@pytest.mark.parametrize("max_side", [0, -3])
def test_a_side_of_no_pixels_is_an_error(max_side: int) -> None:
    with pytest.raises(UsageError, match=f"max_side must be 1 or more, got {max_side}"):
        cam.explain(wrapped(), photo(40, 70)).overlay(max_side=max_side)
