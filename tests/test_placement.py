"""The placement benchmark: heat of objects pasted at known positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import UsageError
from cam.evaluation.benchmark import Evaluation
from cam.evaluation.placement import METRICS, Scene, centroid, evaluate_placement, measure_placement, paste
from cam.images.find import Picture
from cam.maps.geometry import Grid


def seeing_white(padding: tuple[int, int, int, int] = (0, 0, 0, 0)) -> cam.Classifier:
    """A classifier whose map is how white each 4 x 4 window is: class 1 is white, class 0 is black."""
    convolution = nn.Conv2d(3, 1, 4, 4, bias=False)
    nn.init.constant_(convolution.weight, 1.0)
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[-1.0], [1.0]])
    head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear
    network = nn.Sequential(nn.ZeroPad2d(padding), convolution, *head)
    plain = Preprocessing(32, (32, 32), (0.0,) * 3, (1.0,) * 3)
    return cam.wrap(network, preprocessing=plain, labels=["black", "white"])


def value(evaluation: Evaluation, method: str, metric: str) -> float:
    (row,) = (row for row in evaluation.rows if (row.method, row.metric) == (method, metric))
    return row.value


def white_square(top: int, left: int, size: int = 4) -> Scene:
    image = np.zeros((32, 32, 3), np.uint8)
    image[top : top + size, left : left + size] = 255
    return Scene(f"{top}-{left}", image, 1, (top + (size - 1) / 2, left + (size - 1) / 2))


def test_heat_of_an_object_that_fills_a_cell_lies_on_it():
    classifier = seeing_white()
    result = measure_placement(classifier, [[[white_square(8, 16)]], [[white_square(20, 8)]]])
    assert result.pictures == 2
    for rule in ("measured", "stretched"):  # windows without padding: both are right
        assert value(result, f"logit {rule}", "centroid_distance") == pytest.approx(0, abs=1e-4)
        assert value(result, f"logit {rule}", "peak_distance") == pytest.approx(np.hypot(0.5, 0.5))  # whole pixels
    assert value(result, "gaussian", "bias_y") == pytest.approx(15.5 - (9.5 + 21.5) / 2)
    assert value(result, "gaussian", "bias_x") == pytest.approx(15.5 - (17.5 + 9.5) / 2)


def test_a_wrong_grid_shifts_the_heat_by_its_error():
    """Padding adds a cell, and stretching squeezes nine of them into the input."""
    result = measure_placement(seeing_white((2, 2, 2, 2)), [[[white_square(10, 18)]]])
    assert value(result, "logit measured", "centroid_distance") == pytest.approx(0, abs=1e-3)
    stride = 32 / 9
    bias = (stride - 1) / 2 + 3 * stride - 11.5, (stride - 1) / 2 + 5 * stride - 19.5
    measured = value(result, "logit stretched", "bias_y"), value(result, "logit stretched", "bias_x")
    assert measured == pytest.approx(bias, abs=0.1)  # the edges of half the maximum fall on whole pixels
    assert value(result, "logit stretched", "centroid_distance") == pytest.approx(np.hypot(*measured))


def test_a_group_counts_only_if_all_its_scenes_are_recognized():
    black = replace(white_square(8, 8), class_idx=0, image=np.full((32, 32, 3), 255, np.uint8))
    classifier = seeing_white()
    result = measure_placement(classifier, [[[white_square(8, 16)], [white_square(4, 4), black]]])
    assert result.pictures == 1
    assert value(result, "gaussian", "bias_x") == 15.5 - 17.5  # of the first group alone
    with pytest.raises(UsageError, match="recognizes none of the objects"):
        measure_placement(classifier, [[[black]]])


def test_the_seed_determines_the_positions(tmp_path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "white.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pictures = [Picture(tmp_path / name, PurePosixPath(name)) for name in ("white.png", "bad.png")]
    done: list[str] = []
    classifier = seeing_white()

    def run(seed):
        return evaluate_placement(classifier, pictures, object_size=8, positions=3, seed=seed, progress=done.append)

    first = run(0)
    assert (first.pictures, first.unrecognized) == (1, 0)
    assert first.settings == {
        "confidence": 0.3,
        "canvas": 64,
        "object_size": 8,
        "positions": 3,
        "background": [0, 0, 0],
    }
    assert done == [str(picture.path) for picture in pictures]
    assert [row.metric for row in first.rows[:4]] == list(METRICS)
    assert value(first, "logit measured", "centroid_distance") < 1
    assert abs(value(first, "logit measured", "bias_x")) < 0.01  # mirror images
    assert run(0) == first != run(1)


def test_objects_that_are_not_recognized_are_counted_and_one_object_has_no_interval(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32), "white").save(tmp_path / name)
    a, b = (Picture(tmp_path / name, PurePosixPath(name)) for name in ("a.png", "b.png"))
    result = evaluate_placement(seeing_white(), [a, b], truth={a: 1, b: 0}, object_size=16)
    assert (result.pictures, result.unrecognized) == (1, 1)
    assert np.isnan([row.low for row in result.rows] + [row.high for row in result.rows]).all()


def test_the_class_is_the_true_one_if_known(tmp_path):
    Image.new("RGB", (32, 32), "white").save(tmp_path / "white.png")
    picture = Picture(tmp_path / "white.png", PurePosixPath("white.png"))
    with pytest.raises(UsageError, match="recognizes none of the objects"):
        evaluate_placement(seeing_white(), [picture], truth={picture: 0}, object_size=16)


def test_impossible_sizes_are_an_error():
    for name, size, message in (
        ("object_size", 65, r"--object-size must be from 1 to 64 \(--canvas\), got 65"),
        ("object_size", 0, r"--object-size must be from 1 to 64 \(--canvas\), got 0"),
        ("canvas", 0, "--canvas must be from 1 to 4096, got 0"),
        ("canvas", 99_999_999, "--canvas must be from 1 to 4096, got 99999999"),
        ("positions", 0, "--each must be from 1 to 4096, got 0"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate_placement(seeing_white(), [], **{name: size})  # type: ignore[arg-type]


def test_a_grid_that_was_not_measured_is_left_out():
    classifier = replace(seeing_white(), grid=Grid((1.5, 1.5), (4, 4), "stretched"))
    result = measure_placement(classifier, [[[white_square(8, 16)]]])
    methods = {row.method for row in result.rows}
    assert methods == {"logit stretched", "gaussian", "uniform"}


def test_centroids_by_hand():
    heat = np.zeros((4, 5))
    heat[1, 1], heat[3, 1], heat[0, 4] = 4, 2, 1.9
    assert centroid(heat) == pytest.approx(((4 * 1 + 2 * 3) / 6, 1))
    assert centroid(heat - 9) == (1, 1)  # all negative: the highest pixel
    assert centroid(np.zeros((3, 5))) == (1, 2)


def test_a_pasted_object_has_the_center_of_its_scene():
    blank = np.zeros((20, 30, 3), np.uint8)
    for pair in paste("a", np.full((5, 4, 3), 255, np.uint8), 3, blank, [(0, 0), (15, 26), (7, 3)]):
        for scene in pair:
            assert centroid(scene.image[..., 0].astype(float)) == pytest.approx(scene.center)
