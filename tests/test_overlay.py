from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cam.drawing.colormaps import colorize, lookup
from cam.drawing.overlay import overlay
from cam.errors import UsageError

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


@pytest.mark.parametrize("name", ["inferno", "INFERNO", "COLORMAP_INFERNO", "colormap_inferno"])
def test_color_maps_of_opencv_run_from_minus_to_plus_vmax(name: str) -> None:
    inferno = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO).reshape(256, 3)
    table = lookup(name)
    assert table[1].tolist() == inferno[0, ::-1].tolist()
    assert table[128].tolist() == inferno[128, ::-1].tolist()
    assert table[255].tolist() == inferno[255, ::-1].tolist()


def test_unknown_color_maps_are_errors_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match=r"got 'virids'\. Use one of viridis"):
        lookup("virids")
    with pytest.raises(UsageError, match=r"Use one of signed, autumn, bone"):
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


@pytest.mark.parametrize("vmax", [0, -3, 1e-320])
def test_without_a_scale_all_is_zero(vmax: float) -> None:
    assert colorize(np.array([[-5.0, 0.0, np.nan, 5.0]]), vmax).tolist() == [[ZERO] * 4]
    assert colorize(np.array([[-5.0, 0.0, 5.0]], np.float32), 1e-37).tolist() == [[AGAINST, ZERO, FAVOR]]


@pytest.mark.parametrize("vmax", [np.nan, np.inf, -np.inf])
def test_vmax_must_be_finite(vmax: float) -> None:
    with pytest.raises(UsageError, match="vmax must be a finite number, got"):
        colorize(np.zeros((1, 1)), vmax)


# Blending


def picture(*pixels: list[int]) -> np.ndarray:
    return np.array([pixels], np.uint8)


def heat(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_blending_by_hand() -> None:
    image = picture([100, 50, 200], [100, 50, 200], [100, 50, 200])
    blended = overlay(image, heat(-2, 0, 2), vmax=2, opacity=0.5)
    # (100 + 133) / 2 = 116.5, (50 + 243) / 2 = 146.5, (200 + 255) / 2 = 227.5, rounded to even; and so on
    assert blended.tolist() == [[[116, 146, 228], [50, 25, 100], [178, 138, 100]]]
    blended = overlay(image, heat(-2, 0, 2), vmax=2, opacity=0.25)
    assert blended.tolist() == [[[108, 98, 214], [75, 38, 150], [139, 94, 150]]]


def test_no_opacity_is_the_photograph_and_full_opacity_the_heat() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), np.uint8)
    values = rng.normal(size=(40, 50)).astype(np.float32)
    assert np.array_equal(overlay(image, values, vmax=1, opacity=0), image)
    assert np.array_equal(overlay(image, values, vmax=1, opacity=1), colorize(values, 1))


def test_the_brightness_of_the_photograph_is_not_rescaled() -> None:
    """The same pixel under the same heat looks the same, whatever else is in the picture."""
    alone = overlay(picture([90, 90, 90], [90, 90, 90]), heat(1, 1), vmax=4)
    beside = overlay(picture([90, 90, 90], [255, 255, 255]), heat(1, 4), vmax=4)
    assert alone[0, 0].tolist() == beside[0, 0].tolist()


# The unseen part


def cropped(opacity: float, height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A colorful picture whose outer 10 pixels the network never saw, under full evidence."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    values = np.full((height, width), np.nan, np.float32)
    values[10:-10, 10:-10] = 3
    return image, ~np.isnan(values), overlay(image, values, vmax=3, opacity=opacity)


@pytest.mark.parametrize("opacity", [0.0, 0.5, 1.0])
def test_the_unseen_part_is_gray_and_shows_no_heat(opacity: float) -> None:
    image, seen, result = cropped(opacity)
    unseen = result[~seen]
    assert (unseen == unseen[:, :1]).all()
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)[~seen] / 2 + 48
    plain = np.abs(unseen[:, 0] - expected) <= 1
    assert 0.7 < plain.mean() < 0.95  # what is neither line nor frame


def test_the_seen_part_is_blended_up_to_its_edge() -> None:
    image, seen, result = cropped(0.0)
    assert np.array_equal(result[seen], image[seen])
    image, seen, result = cropped(0.5)
    assert np.abs(result[seen] - (image[seen] / 2 + np.array(FAVOR) / 2)).max() <= 0.5


def test_a_white_line_runs_around_the_seen_part() -> None:
    _, _, result = cropped(0.5)
    frame = np.concatenate([result[9, 9:-9], result[-10, 9:-9], result[9:-9, 9], result[9:-9, -10]])
    assert (frame == 255).all()
    assert not (result[8, 9:-9] == 255).all()


def test_hatching_runs_diagonally_every_twelve_strokes() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    values = np.full((60, 80), np.nan, np.float32)
    values[30:, 40:] = 0
    result = overlay(image, values, vmax=1)[..., 0]
    y, x = np.mgrid[:29, :80]
    assert np.array_equal(result[:29], np.where((y + x) % 12 == 0, 93, 48))


def test_line_and_frame_grow_with_the_picture() -> None:
    image = np.zeros((900, 900, 3), np.uint8)
    values = np.full((900, 900), np.nan, np.float32)
    values[300:600, 300:600] = 0
    assert (overlay(image, values, vmax=1)[450, :, 0] == 255).sum() == 6  # 900 / 300 on either side


# What is refused


def test_wrong_arguments_are_errors() -> None:
    image = picture([0, 0, 0])
    with pytest.raises(
        UsageError, match=r"heat of shape \(1, 2\) does not have the size of the image of shape \(1, 1, 3\)"
    ):
        overlay(image, heat(0, 0), vmax=1)
    for opacity in (-0.1, 1.1, np.nan):
        with pytest.raises(UsageError, match="--opacity must be between 0 and 1, got"):
            overlay(image, heat(0), vmax=1, opacity=opacity)
    with pytest.raises(UsageError, match="vmax must be a finite number"):
        overlay(image, heat(0), vmax=np.nan)
