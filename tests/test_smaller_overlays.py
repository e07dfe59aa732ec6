"""Overlays smaller than their photographs, and errors for arguments that cannot be drawn."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from small import photo, wrapped

import cam
from cam.drawing.overlay import overlay
from cam.errors import UsageError
from cam.images.io import shrink
from cam.maps.projection import project


@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_a_smaller_overlay_is_that_of_the_smaller_photograph(fit: str) -> None:
    explanation = cam.explain(wrapped(), photo(120, 200), fit=fit)
    small = explanation.overlay(max_side=50, box_share=0.5)
    assert small.shape == (30, 50, 3)
    read_small = replace(explanation, image=shrink(explanation.image, 50))
    assert np.array_equal(read_small.overlay(box_share=0.5), small)
    frame = replace(explanation.frame, photo=(30, 50))
    heat = project(explanation.evidence_map, explanation.grid, frame)
    plain = overlay(read_small.image, heat, vmax=explanation.vmax)
    assert (explanation.overlay(max_side=50) != plain).any(-1).mean() <= 0.01
    assert np.isnan(heat).any() == (fit == "crop")


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
    assert np.abs(small - expected)[1:-1, 1:-1].max() <= 1  # nothing is moved, not by a pixel of the larger picture
    assert np.abs(small - expected).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert shrink(noise, max_side).std() < 1.6 * 74 * max_side / max(size)  # of independent pixels, averaged


@pytest.mark.parametrize("max_side", [0, -3])
def test_a_side_of_no_pixels_is_an_error(max_side: int) -> None:
    with pytest.raises(UsageError, match=f"max_side must be 1 or more, got {max_side}"):
        cam.explain(wrapped(), photo(40, 70)).overlay(max_side=max_side)


def test_wrong_drawing_options_are_errors() -> None:
    explanation = cam.explain(wrapped(), photo(40, 70))
    with pytest.raises(UsageError, match="--opacity must be between 0 and 1"):
        explanation.overlay(opacity=1.5)
    with pytest.raises(UsageError, match="vmax must be a finite number"):
        explanation.overlay(vmax=float("nan"))
    with pytest.raises(UsageError, match="--colormap must be signed or"):
        explanation.overlay(colormap="virids")
