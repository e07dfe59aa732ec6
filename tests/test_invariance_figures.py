"""Figures of a moved object, and networks without an exact map."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import FIVE
from small import PLAIN
from torch import nn

from cam.classifiers.load import load_classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError
from cam.explanations.options import OneClass
from cam.images.io import read_image
from cam.invariance.figures import (
    FIGURES,
    contact_sheet,
    draw_outline,
    error_map,
    new_figure,
    overlay_heat,
    score_map,
    write_figures,
)
from cam.invariance.measure import ScoreOnlyClassifier, measure_invariance
from cam.invariance.results import Invariance, track


def halves() -> ScoreOnlyClassifier:
    """Class 0 is how white the left half of 8 x 8 pixels is, class 1 the right: 1 for a white square of 4."""
    linear = nn.Linear(3 * 8 * 8, 2, bias=False)
    weight = torch.zeros(2, 3, 8, 8)
    weight[0, ..., :4] = weight[1, ..., 4:] = 1 / 48
    linear.weight.data = weight.flatten(1)
    network = nn.Sequential(nn.Flatten(), linear)
    return ScoreOnlyClassifier("halves", network, Preprocessing(8, (8, 8), **PLAIN), ("left", "right"), "it flattens")


def measure_digit(**arguments: object) -> Invariance:
    return measure_invariance(load_classifier("digits"), read_image(FIVE), **arguments)  # type: ignore[arg-type]


def test_a_flattening_network_depends_on_the_position() -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    result = measure_invariance(halves(), white, steps=2, fill=(0, 0, 0), target=OneClass(0))
    assert (result.placements.canvas, result.placements.cutout.size) == ((8, 8), (4, 4))  # made smaller to fit
    np.testing.assert_allclose(result.logits, [[1, 0], [1, 0]], atol=1e-6)
    high = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(result.probabilities, [[high, 1 - high]] * 2, atol=1e-6)
    assert result.is_predicted.tolist() == [[True, False]] * 2
    assert result.equivariance is None
    facts = result.facts()
    assert facts["reason"] == "it flattens"
    (smaller,) = result.notes
    assert smaller.startswith("The object was made smaller, from 8x8 to 4x4 pixels (WxH)")
    values = json.loads(result.to_json())["by_position"]
    assert values["predicted_labels"] == [["left", "right"]] * 2
    np.testing.assert_allclose(values["predicted_probabilities"], [[high, high]] * 2, atol=1e-6)
    assert facts["logit"]["mean"] == pytest.approx(0.5)
    assert facts["logit"]["std"] == pytest.approx(0.5)
    assert facts["logit"]["min_center"] == [1.5, 5.5]
    np.testing.assert_array_equal(overlay_heat(result, 0, 1)[0, ::35, 0], [0] * 4 + [255] * 4)  # enlarged to 280


def test_a_canvas_that_the_network_does_not_take_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"'halves' does not run on inputs of shape \(4, 3, 16, 16\)"):
        measure_invariance(halves(), np.zeros((8, 8, 3), np.uint8), canvas=(16, 16), steps=2)


def test_figures_of_a_digit_have_its_heat_where_the_peak_is(tmp_path: Path) -> None:
    result = measure_digit(steps=2)
    assert [path.name for path in write_figures(result, tmp_path)] == list(FIGURES)
    for name in FIGURES[:3]:
        assert min(read_image(tmp_path / name).shape[:2]) > 300
    with Image.open(tmp_path / "heat.webp") as film:
        assert (film.n_frames, film.info["loop"]) == (4, 0)
        for number in range(4):
            film.seek(number)
            film.load()
            assert film.info["duration"] == 250
    painted = overlay_heat(result, 1, 1)
    y, x = np.rint(result.equivariance.peak.points[1, 1]).astype(int)
    assert painted.shape == (288, 288, 3)  # enlarged
    assert painted[2 * y, 2 * x, 0] > painted[0, 0, 0] + 50  # warm where the peak is


def test_the_heat_of_a_digit_lies_on_the_diagonal() -> None:
    result = measure_digit(steps=3)
    peak = result.equivariance.peak
    x_axes, y_axes = error_map(result, result.equivariance).axes
    for axes, axis in ((x_axes, 1), (y_axes, 0)):
        line, points, *_ = axes.lines
        np.testing.assert_allclose(line.get_ydata() - line.get_xdata(), peak.mean_offset[axis])
        np.testing.assert_allclose(points.get_xdata(), result.placements.centers[..., axis].ravel())
        np.testing.assert_allclose(points.get_ydata(), peak.points[..., axis].ravel())


def test_every_figure_names_the_score_of_the_image_alone() -> None:
    result = measure_digit(steps=2)
    alone = f"digits, 5; alone: logit {result.alone.logit:.2f}"
    figures = contact_sheet(result), score_map(result), error_map(result, result.equivariance)
    assert all(figure.get_suptitle().startswith(alone) for figure in figures)
    bars = [bar.get_width() for bar in figures[1].axes[1].patches]
    np.testing.assert_allclose(bars, [result.alone.logit, result.dilution.expected, result.logits.mean()])


def test_the_outline_is_that_of_the_mask() -> None:
    """An L in a rectangle of 20 x 20, and a whole rectangle."""
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:30, 10:15], mask[25:30, 10:30] = 255, 255
    measure = partial(measure_invariance, load_classifier("digits"), image, canvas=(72, 72), steps=2)
    for result, area in ((measure(mask=mask), 175), (measure(box=(10, 10, 30, 30)), 400)):
        axes = new_figure(4, 4).subplots()
        draw_outline(axes, result, 1, 0)
        (contour,) = axes.collections[0].get_paths()
        x, y = contour.vertices[:-1].T
        height, width = result.placements.cutout.size
        assert (x.min(), x.max()) == (-0.5, width - 0.5)  # left column, lower row
        assert (y.min(), y.max()) == (71.5 - height, 71.5)
        inside = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2
        assert inside == pytest.approx(area * (height / 20) ** 2, rel=0.02)


def test_figures_of_one_row_without_positive_evidence(tmp_path: Path) -> None:
    result = measure_digit(canvas=(72, 73), steps=2)
    assert (result.equivariance is not None, result.placements.shape) == (True, (1, 2))
    no_centroid = track(np.full((1, 2, 2), np.nan), result.placements.centers)
    write_figures(replace(result, equivariance=replace(result.equivariance, centroid=no_centroid)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FIGURES)


def test_labels_may_hold_dollar_signs_and_any_script(tmp_path: Path) -> None:
    model = halves()
    named = ScoreOnlyClassifier(model.name, model.network, model.preprocessing, (r"$\frac$", "猫"), "it flattens")
    result = measure_invariance(named, np.full((8, 8, 3), 255, np.uint8), steps=2)
    (tmp_path / "heat.webp").write_bytes(b"of an earlier run")
    written = write_figures(result, tmp_path)
    assert [path.name for path in written] == ["contact-sheet.png", "score-map.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact-sheet.png", "score-map.png"]


def test_missing_matplotlib_is_an_error_with_a_remedy(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'gapcam[figures]'" in run("invariance", FIVE, "-m", "digits", "-o", tmp_path / "out").output
    assert not (tmp_path / "out").exists()


def test_the_caption_is_red_if_another_class_is_predicted():
    result = measure_invariance(halves(), np.full((8, 8, 3), 255, np.uint8), steps=2, target=OneClass(0))
    left, right = contact_sheet(result).axes[:2]
    assert (left.title.get_color(), right.title.get_color()) == ("black", "red")
    assert left.title.get_text().endswith("predicted: left, 73.1%")
    assert right.title.get_text().endswith("predicted: right, 73.1%")


@pytest.mark.parametrize("canvas", [(4000, 73), (73, 4000)])
def test_captions_and_legend_fit_on_a_long_thin_canvas(canvas):
    figure = contact_sheet(measure_digit(canvas=canvas, steps=3))
    figure.draw_without_rendering()
    tiles = [axes for axes in figure.axes if axes.get_title()]
    boxes = [axes.title.get_window_extent() for axes in tiles]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width
    bar = figure.axes[-1].get_window_extent()
    assert not any(bar.overlaps(box) for box in boxes)


def test_colors_of_scores_span_a_logit_or_more(tmp_path):
    def span(logits):
        result = measure_digit(canvas=(72, 73), steps=2)
        left, _, bar = score_map(replace(result, logits=np.array([logits]))).axes
        return left.collections[0].get_clim(), bar.get_ylabel()

    assert span([3.0, 3.002]) == ((2.501, 3.501), "logit of 5 (colors span 1)")
    assert span([3.0, 8.0]) == ((3.0, 8.0), "logit of 5 (colors span 5)")


def test_a_score_that_is_the_same_everywhere_has_no_spread(tmp_path: Path) -> None:
    """The mean of equal numbers in float32 may be less than the least of them."""
    result = measure_digit(canvas=(160, 160), steps=5)
    same = next(c for c in np.random.default_rng(0).random(100, np.float32) if np.full((5, 5), c).mean() < c)
    write_figures(replace(result, logits=np.full((5, 5), same)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FIGURES)
