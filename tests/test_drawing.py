"""Drawing in strips, compared with the same image in plain float64, pixel by pixel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import photo, wrapped

import cam
from cam.drawing import overlay as module
from cam.drawing.colormaps import _OPENCV, lookup
from cam.drawing.overlay import draw, overlay
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched
from cam.maps.projection import project

AGAINST, FAVOR = [133, 243, 255], [255, 227, 0]


def steps_of(cells: np.ndarray, grid: Grid, frame: Frame, vmax: float, signed: bool) -> np.ndarray:
    """Where on the 255 steps of the scale each pixel lies, (H, W) float64, by two interpolations of the cells."""
    values = cells.astype(np.float64)
    for axis in (0, 1):
        pixels = (np.arange(frame.photo[axis]) + 0.5) * frame.resized[axis] / frame.photo[axis] - 0.5
        indices = np.arange(cells.shape[axis])
        centers = grid.centers(axis, indices.size, frame.input[axis])
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


def check(
    cells: np.ndarray,
    grid: Grid,
    frame: Frame,
    *,
    vmax: float = 2.0,
    opacity: float = 0.5,
    colormap: str = "signed",
    signed: bool = True,
) -> np.ndarray:
    """Draw, and compare every pixel with the reference: half a level is rounding."""
    image = np.random.default_rng(1).integers(0, 256, (*frame.photo, 3), np.uint8)
    canvas = np.full((frame.photo[0] + 2, frame.photo[1] + 3, 3), 77, np.uint8)
    drawn = canvas[:-2, :-3]
    draw(drawn, image, cells, grid, frame, vmax=vmax, opacity=opacity, colormap=colormap, signed=signed)
    assert (canvas[-2:] == 77).all()
    assert (canvas[:, -3:] == 77).all()

    x0, y0, x1, y1 = frame.seen
    seen = np.zeros(frame.photo, bool)
    seen[y0:y1, x0:x1] = True
    steps = steps_of(cells, grid, frame, vmax, signed)
    # A value half-way between two colors, to single precision, may get either.
    errors = [np.abs(drawn - blended(np.clip(steps + d, 0, 255), image, colormap, opacity)) for d in (-1e-3, 0, 1e-3)]
    assert np.min(errors, 0)[seen].max(initial=0) <= 0.5 + 1e-4
    assert np.abs(drawn - unseen_part(image, seen)[..., None])[~seen].max(initial=0) <= 0.8  # rounded twice

    heat = project(cells, grid, frame)
    same = overlay(image, heat, vmax=vmax, opacity=opacity, colormap=colormap, signed=signed)
    assert np.array_equal(same[~seen], drawn[~seen])
    assert (same != drawn).any(-1).mean() <= 0.01  # again half-way between two colors
    return drawn


def cells(height: int, width: int, spread: float = 1.5, seed: int = 0) -> np.ndarray:
    return (spread * np.random.default_rng(seed).normal(size=(height, width))).astype(np.float32)


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
    st.sampled_from([0.0, 25.0]),
)
def test_any_size_and_view(size: tuple[int, int], view: str, shape: tuple[int, int], extent: float) -> None:
    frame = fit_whole(size, 64) if view == "whole" else fit_crop(size, 64, (56, 56) if view == "crop" else (80, 48))
    check(cells(*shape), replace(stretched(shape, frame.input), extent=(extent, extent)), frame)


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


@pytest.mark.parametrize("much", [4.0, 1e4, 1e9, 3e9, 1e20, 3e38])
@pytest.mark.parametrize("vmax", [1.0, 1e-30])
def test_values_beyond_the_ends_do_not_wrap_around(much: float, vmax: float) -> None:
    frame, image = Frame((4, 60), (4, 60), (0, 0), (4, 60)), np.zeros((4, 60, 3), np.uint8)
    for left, right in ((-much, much), (much, -much), (much, much), (-much, -much)):
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
    alone = [each.overlay(legend=True) for each in explanations]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: explanations[i % 4].overlay(legend=True), range(40)))
    for i, picture in enumerate(together):
        assert np.array_equal(picture, alone[i % 4])
