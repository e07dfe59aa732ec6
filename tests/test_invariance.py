"""Moving an object over a canvas: how it is cut and pasted, its score and heat, and what must be exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import PLAIN, WHITE, seeing_white
from torch import nn

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import UsageError
from cam.explanations.options import OneClass, TopClasses
from cam.heads.hooks import forward
from cam.invariance.measure import measure_invariance, peaks_and_centroids
from cam.invariance.moving import Cutout, Placements, cut_object, paint_background
from cam.invariance.results import summarize_scores, summarize_tracking, track
from cam.maps.activation import class_activation_maps
from cam.maps.geometry import Grid


def circular(stride: int) -> cam.Classifier:
    """A linear network with circular padding: small integer weights, float64."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).double()
    network.requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = torch.randint(-3, 4, parameter.shape, generator=generator).double()
    classifier = cam.wrap(network, preprocessing=Preprocessing(16, (16, 16), **PLAIN))
    return replace(classifier, grid=Grid((0, 0), (stride, stride), "measured"))


def speckled() -> np.ndarray:
    """Black and white dots with a black rim, so that no window wraps around the canvas with them."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[2:-2, 2:-2] = 255 * np.random.default_rng(1).integers(0, 2, (12, 12, 3))
    return image


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_linear_network_with_circular_padding_is_exactly_invariant_and_equivariant(stride: int) -> None:
    classifier = circular(stride)
    network, site = classifier.network, classifier.head.site
    inputs = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    logits, features = forward(network, site, inputs)
    cams = class_activation_maps(features, network[-1].weight)
    for cells in ((1, 0), (0, 1), (2, 3)):
        pixels = stride * cells[0], stride * cells[1]
        shifted_logits, shifted = forward(network, site, inputs.roll(pixels, (2, 3)))
        assert float((shifted_logits - logits).abs().max()) <= 1e-9
        shifted_back = class_activation_maps(shifted, network[-1].weight).roll((-cells[0], -cells[1]), (2, 3))
        assert float((shifted_back - cams).abs().max()) <= 1e-9
    if stride > 1:  # half a stride is not exact
        shifted_logits, _ = forward(network, site, inputs.roll(stride // 2, 2))
        assert float((shifted_logits - logits).abs().max()) > 1e-3


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_measured_errors_of_a_circular_network_are_zero_at_multiples_of_the_stride(stride: int) -> None:
    result = measure_invariance(circular(stride), speckled(), steps=5, fill=(0, 0, 0), target=OneClass(1))
    assert result.placements.xs == (0, 4, 8, 12, 16)
    assert np.ptp(result.logits) <= 1e-9
    assert np.ptp(result.probabilities) <= 1e-9
    assert result.is_predicted.all() or not result.is_predicted.any()
    assert result.equivariance.peak.deviations.max() <= 1e-9
    assert result.equivariance.centroid.deviations.max() <= 1e-9
    assert result.equivariance.shift_errors == (0, 0)
    if stride > 1:
        between = measure_invariance(circular(stride), speckled(), steps=17, fill=(0, 0, 0), target=OneClass(1))
        assert between.logits.std() > 0.05
        assert np.ptp(between.logits[::stride, ::stride]) <= 1e-9


def test_a_square_that_fills_a_cell_worked_by_hand() -> None:
    result = measure_invariance(
        seeing_white(), WHITE, box=(0, 0, 4, 4), canvas=(32, 32), steps=8, fill=(0, 0, 0), batch_size=5
    )
    assert (result.class_idx, result.label, result.placements.shape) == (1, "white", (8, 8))
    np.testing.assert_allclose(result.logits, 48 / 64)  # one cell of 8 x 8
    np.testing.assert_allclose(result.probabilities, 1 / (1 + np.exp(-1.5)))
    heat = result.equivariance
    assert heat.vmax == 48
    np.testing.assert_allclose(heat.peak.errors, 0, atol=1e-9)
    np.testing.assert_allclose(heat.centroid.errors, 0, atol=1e-9)
    assert result.facts()["predicted_share"] == 1


def brightness() -> cam.Classifier:
    """Classes "dark" (logit 0.2 - 2 b) and "bright" (0.5 + 2 b), where b is the mean brightness, 0 to 1."""
    convolution, linear = nn.Conv2d(3, 1, 1, bias=False), nn.Linear(1, 2)
    with torch.no_grad():
        convolution.weight.fill_(1 / 3)
        linear.weight.copy_(torch.tensor([[-2.0], [2.0]]))
        linear.bias.copy_(torch.tensor([0.2, 0.5]))
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    classifier = cam.wrap(network, preprocessing=Preprocessing(8, (8, 8), **PLAIN), labels=["dark", "bright"])
    return replace(classifier, grid=Grid((0, 0), (1, 1), "measured"))


def test_dilution_by_the_canvas_worked_by_hand() -> None:
    white, half = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    half[:, :4] = 255
    whole = measure_invariance(brightness(), white, steps=3, fill=(51, 51, 51))
    assert (whole.alone.logit, whole.alone.predicted) == (pytest.approx(2.5), 1)
    # A quarter of the canvas has brightness 1, the rest 0.2: 0.5 + 2 * 0.4.
    assert (whole.dilution.share, whole.dilution.expected) == (0.25, pytest.approx(1.3, abs=1e-5))
    np.testing.assert_allclose(whole.logits, 1.3, atol=1e-5)
    assert "4 times the pixels of the object: 2.50 / 4 + 0.68 (the empty part) = 1.30" in whole.dilution_note
    assert whole.rival is None
    facts = whole.facts()
    assert facts["alone"]["logit"] == pytest.approx(2.5)
    assert facts["alone"]["predicted_label"] == "bright"
    assert facts["dilution"]["expected"] == pytest.approx(1.3, abs=1e-5)

    # The left half alone has brightness 1, and 32 of 256 pixels: brightness 1 / 8 on black, 0.45 against 0.75.
    mask = half[..., 0]
    for part in ({"box": (0, 0, 4, 8)}, {"mask": mask}):
        dark = measure_invariance(
            brightness(), half, canvas=(16, 16), steps=3, fill=(0, 0, 0), target=OneClass(0), **part
        )
        assert dark.alone.logit == pytest.approx(0.2 - 1)
        assert (dark.dilution.logit, dark.dilution.expected) == (pytest.approx(-1.8), pytest.approx(-0.05, abs=1e-5))
        assert dark.rival.expected == pytest.approx(0.75)
        np.testing.assert_allclose(dark.logits, -0.05, atol=1e-5)
        assert "'bright', which is predicted most often, is expected at 0.75" in str(dark)
    mirrored = measure_invariance(brightness(), white, steps=2, fill="reflect")
    assert (mirrored.dilution, mirrored.dilution_note, mirrored.facts()["dilution"]) == (None, "", None)


def test_a_centroid_is_more_precise_than_the_cells_and_a_peak_is_not() -> None:
    result = measure_invariance(seeing_white(), WHITE, box=(0, 0, 4, 4), canvas=(32, 32), steps=29, fill=(0, 0, 0))
    heat = result.equivariance
    np.testing.assert_allclose(heat.peak.errors[0, :9], [0, 1, 2, 1, 0, 1, 2, 1, 0])
    np.testing.assert_allclose(heat.peak.errors[1, 1], np.hypot(1, 1))
    np.testing.assert_allclose(heat.centroid.errors, 0, atol=1e-9)


def test_the_centroid_is_nan_without_positive_evidence() -> None:
    target = OneClass(0)
    result = measure_invariance(seeing_white(), WHITE, box=(0, 0, 4, 4), steps=2, fill=(0, 0, 0), target=target)
    assert np.isnan(result.equivariance.centroid.errors).all()
    assert result.facts()["centroid"]["error"] == {"mean": None, "max": None}
    assert result.facts()["predicted_share"] == 0
    assert "centroid: nan pixels" in str(result)
    assert "NaN" not in result.to_json()


def test_summaries_worked_by_hand() -> None:
    centers = np.array([[[10.0, 10.0], [10.0, 20.0]]])
    summary = summarize_scores(np.array([[4.0, 2.0]]), centers)
    assert (summary["mean"], summary["std"], summary["min"], summary["min_position"]) == (3, 1, 2, (0, 1))
    assert summary["min_center"].tolist() == [10, 20]
    tracking = track(centers + np.array([[[3, 4], [-3, 4]]]), centers)
    assert tracking.mean_offset == (0, 4)
    np.testing.assert_allclose(tracking.errors, [[5, 5]])
    np.testing.assert_allclose(tracking.deviations, [[3, 3]])
    without_point = track(np.array([[[13.0, 14.0], [np.nan, np.nan]]]), centers)
    assert without_point.mean_offset == (3, 4)
    assert summarize_tracking(without_point)["error"] == {"mean": 5, "max": 5}


def test_peaks_and_centroids_worked_by_hand() -> None:
    maps = np.array([[[[0, 1.0], [3, 0]], [[-1, -2], [-3, -4]]]])  # (1, 2, 2, 2)
    ys, xs = np.array([1.0, 5.0]), np.array([2.0, 10.0])
    peaks, centroids = peaks_and_centroids(maps, ys, xs)
    np.testing.assert_array_equal(peaks, [[[5, 2], [1, 2]]])
    np.testing.assert_array_equal(centroids, [[[4, 4], [np.nan, np.nan]]])


def test_among_equally_hot_cells_the_peak_is_the_middle_one() -> None:
    cam_map = np.zeros((5, 7))
    cam_map[1:4, 2:7] = 3
    peaks, _ = peaks_and_centroids(cam_map, np.arange(5) * 4 + 1.5, np.arange(7) * 4 + 1.5)
    assert peaks.tolist() == [2 * 4 + 1.5, 4 * 4 + 1.5]


def test_the_batch_size_limits_a_pass_and_changes_no_score() -> None:
    classifier, sizes = seeing_white(), []
    handle = classifier.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    small = measure_invariance(classifier, WHITE, steps=3, batch_size=4, fill="blur")
    handle.remove()
    assert max(sizes) == 4
    # The image alone and its map, the positions, the shifts by one stride, and the empty canvas.
    assert sum(sizes) == 2 + 9 + 3 + 1
    large = measure_invariance(classifier, WHITE, steps=3, fill="blur")
    np.testing.assert_allclose(small.logits, large.logits, rtol=1e-6)


def test_notes_tell_what_the_object_is() -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    (whole,) = measure_invariance(seeing_white(), WHITE, steps=2).notes
    assert whole.startswith("The object is the whole image, and what shows the class may be anywhere in it")
    (cropped,) = measure_invariance(seeing_white(), wide, steps=2).notes
    assert cropped.startswith("The object is the center crop of the image that the model sees")
    assert measure_invariance(seeing_white(), wide, box=(0, 0, 40, 20), steps=2).notes == ()
    result = measure_invariance(seeing_white(), wide, box=(0, 0, 40, 20), steps=2, fill="reflect")
    (mirrored,) = result.notes
    assert mirrored.startswith("The canvas is full of mirror images of the object (--fill reflect)")
    assert result.facts()["notes"] == [mirrored]
    assert str(result).endswith(mirrored)


def test_texts_give_sizes_as_height_and_width() -> None:
    result = measure_invariance(seeing_white(), WHITE, box=(0, 0, 8, 4), canvas=(32, 40), steps=2, fill=(0, 0, 0))
    first, alone, second, logit, *_ = str(result).splitlines()
    assert alone == "alone: logit 48.00, probability 100.0%, predicted 'white'"
    assert first.endswith(": 8x4 pixels (WxH) at 4 positions on a canvas of 40x32")
    assert second == "predicted at 4 of 4 positions"
    assert logit.endswith("with the object's center at (y, x) = (1.5, 3.5)")
    assert result.facts()["canvas"] == [32, 40]
    assert result.facts()["coordinates"].startswith("sizes are (h, w), points and offsets (y, x)")


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
    pasted = Placements(cutout, np.full((4, 4, 3), 100, np.uint8), "mean", (1,), (1,)).render(1, 1)
    assert pasted[..., 0].tolist() == [[100] * 4, [100, 200, 120, 100], [100, 200, 200, 200], [100] * 4]


def test_a_mask_that_vanishes_when_resized_is_an_error() -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[0, 0] = mask[-1, -1] = 255
    with pytest.raises(UsageError, match="--mask has no bright pixel at the scale"):
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
    placements = Placements.spread(cutout, np.zeros((1, 6, 3), np.uint8), 5, "reflect")
    assert placements.render(0, 1)[0, :, 0].tolist() == [10, 10, 20, 20, 10, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": (0, 0, 33, 4)}, "--box 0,0,33,4 does not lie in the image of 32x32 pixels (WxH)"),
        ({"box": (4, 4, 4, 9)}, "--box 4,4,4,9"),
        ({"box": (-1, 0, 4, 4)}, "0 <= x0 < x1 <= 32"),
        ({"canvas": (32, 31)}, "--canvas must be larger than the object of 32x32 pixels (WxH), got 31x32"),
        ({"canvas": (32, 32)}, "--canvas must be larger than the object of 32x32 pixels (WxH), got 32x32"),
        ({"canvas": (9000, 9000)}, "--canvas must have at most 16777216 pixels, got 9000x9000"),
        ({"mask": np.zeros((16, 32), np.uint8)}, "--mask must be 32x32 pixels (WxH) like the image, got 32x16"),
        ({"mask": np.zeros((32, 32), np.uint8)}, "--mask has no bright pixel"),
        ({"target": OneClass(2)}, "2"),
        ({"target": TopClasses(2)}, "--target must be one class, got top2"),
        ({"canvas": (200, 200), "steps": 10**12}, "gives 28561 positions, more than 4096. Give --steps 64 or fewer"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure_invariance(seeing_white(), WHITE, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
