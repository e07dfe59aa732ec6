"""The faithfulness benchmark: curves worked by hand, and torchcam."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from torch import nn
from torchcam import metrics as torchcam

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import UsageError
from cam.evaluation.faithfulness import evaluate_faithfulness, heat_on_input, ranks
from cam.evaluation.methods import Method
from cam.images.find import Picture
from cam.images.io import read_image, write_image
from cam.maps.geometry import Frame, Grid, fit_crop
from cam.maps.projection import project

CURVES = ["insertion_blur", "deletion_blur", "insertion_mean", "deletion_mean"]
METRICS = [*CURVES, "average_drop", "increase_in_confidence"]


@dataclass
class MeanClassifier:
    """The probability of class 0 is the mean of the input plus an offset, so that curves are lines."""

    offset: float = 0.0
    preprocessing: Preprocessing = field(
        default_factory=lambda: Preprocessing(32, (32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)
    )
    name: str = "mean"
    network: nn.Module = field(default_factory=nn.Identity)
    batches: list[int] = field(default_factory=list)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        self.batches.append(len(inputs))
        mean = inputs.double().mean((1, 2, 3)) + self.offset
        return torch.stack([mean, 1 - mean], 1), inputs, None

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def check_probabilities(self, purpose: str) -> None:
        pass


WHITE = np.repeat([1.0, 1.0, 1.0, 0.0], 8)[None].repeat(32, 0)  # three quarters of the image


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    write_image(tmp_path / "a.png", np.repeat(255 * WHITE[..., None], 3, 2).astype(np.uint8))
    return [Picture(tmp_path / "a.png", PurePosixPath("a.png"))]


def fixed(heats: dict[str, np.ndarray]) -> list[Method]:
    """Methods that give the same heat for every image and class."""
    return [Method(name, lambda request, h=heat: dict.fromkeys(request.class_idxs, h)) for name, heat in heats.items()]


def measure(classifier, pictures, heats: dict[str, np.ndarray], **options) -> dict[tuple[str, str], float]:
    result = evaluate_faithfulness(classifier, pictures, fixed(heats), **options)
    assert [(row.method, row.metric) for row in result.rows] == [(name, m) for name in heats for m in METRICS]
    return {(row.method, row.metric): row.value for row in result.rows}


def test_curves_that_are_lines(pictures):
    """The probability is 3/4; the perfect map takes it away evenly over 3/4 of the pixels, the reversed one last."""
    values = measure(MeanClassifier(), pictures, {"perfect": WHITE, "reversed": -WHITE}, steps=8)
    triangle, slab = 0.75 * 0.75 / 2, 0.75 * 0.25
    assert values["perfect", "deletion_mean"] == pytest.approx(triangle)
    assert values["perfect", "insertion_mean"] == pytest.approx(triangle + slab)
    assert values["reversed", "deletion_mean"] == pytest.approx(triangle + slab)
    assert values["reversed", "insertion_mean"] == pytest.approx(triangle)


def test_the_seed_orders_equal_pixels_by_chance(pictures):
    heats = {"constant": np.ones((32, 32)), "given": np.arange(1024.0).reshape(32, 32)}
    first, same, other = (measure(MeanClassifier(), pictures, heats, seed=seed) for seed in (0, 0, 1))
    assert first == same
    for metric in ("insertion_mean", "deletion_mean"):
        assert first["constant", metric] == pytest.approx(0.375, abs=0.01)
        assert first["constant", metric] != 0.375  # the order is drawn
    assert first["constant", "deletion_mean"] != other["constant", "deletion_mean"]
    assert first["given", "deletion_mean"] == other["given", "deletion_mean"]


def test_a_uniform_color_is_its_blurred_baseline(tmp_path):
    write_image(tmp_path / "pink.png", np.full((32, 32, 3), (255, 102, 255), np.uint8))
    pink = [Picture(tmp_path / "pink.png", PurePosixPath("pink.png"))]
    values = measure(MeanClassifier(), pink, {"given": np.arange(1024.0).reshape(32, 32)})
    areas = {"insertion_blur": 0.8, "deletion_blur": 0.8, "insertion_mean": 0.4, "deletion_mean": 0.4}
    assert {metric: values["given", metric] for metric in areas} == pytest.approx(areas)


def test_drop_and_increase_of_confidence(pictures):
    half = WHITE * np.where(np.arange(32) < 8, 6.0, 3.0)  # a third in full, two thirds by half
    values = measure(MeanClassifier(), pictures, {"perfect": WHITE, "half": half - 1e-9, "reversed": -WHITE})
    drops = {name: values[name, "average_drop"] for name in ("perfect", "half", "reversed")}
    assert drops == pytest.approx({"perfect": 0.0, "half": 100 / 3, "reversed": 100.0}, abs=1e-4)
    assert {values[name, "increase_in_confidence"] for name in drops} == {0.0}


def test_confidence_increases_without_negative_pixels(pictures):
    """White is 1/2 and black -1/2; without the black the mean of 1/4 grows to 3/8."""
    centered = Preprocessing(32, (32, 32), mean=(0.5,) * 3, std=(1.0,) * 3)
    values = measure(MeanClassifier(0.5, centered), pictures, {"perfect": WHITE})
    assert values["perfect", "increase_in_confidence"] == 100
    assert values["perfect", "average_drop"] == 0


def test_the_batch_size_changes_memory_only(pictures):
    heats = {"given": np.random.default_rng(0).random((32, 32))}
    small, large = MeanClassifier(), MeanClassifier()
    assert measure(small, pictures, heats, batch_size=3) == measure(large, pictures, heats, batch_size=1000)
    assert max(small.batches) == 3
    assert max(large.batches) == 51
    assert sum(small.batches) == sum(large.batches) == 1 + 4 * 51 + 1


def test_unreadable_images_are_listed(pictures):
    missing = Picture(Path("missing.png"), PurePosixPath("missing.png"))
    done = []
    result = evaluate_faithfulness(
        MeanClassifier(), [missing, *pictures], fixed({"given": WHITE}), steps=2, progress=done.append
    )
    assert result.pictures == 1
    assert len(result.failed) == 1
    assert done == [str(picture.path) for picture in (missing, *pictures)]
    with pytest.raises(UsageError, match="Nothing was measured"):
        evaluate_faithfulness(MeanClassifier(), [missing], fixed({"given": WHITE}))


@given(arrays.arrays(float, (3, 4), elements=st.sampled_from([0.0, 1.0, 2.0, np.nan, -np.inf])), st.integers(0, 9))
def test_ranks_order_every_pixel_once(heat, seed):
    numbers = ranks(heat, np.random.default_rng(seed))
    assert sorted(numbers.ravel()) == list(range(12))
    ordered = heat.ravel()[np.argsort(numbers.ravel())]
    seen = ordered[~np.isnan(ordered)]
    assert (seen[:-1] >= seen[1:]).all()
    first = int(np.isfinite(heat).sum())
    assert not np.isfinite(ordered[first:]).any()  # unseen pixels never come before seen ones


@pytest.mark.parametrize(
    "frame",
    [
        fit_crop((60, 90), 32, (32, 32)),
        fit_crop((20, 16), 40, (36, 36)),
        Frame((30, 50), (32, 53), (0, 0), (32, 53)),
        fit_crop((40, 40), 24, (32, 32)),  # padded
    ],
)
def test_heat_is_read_at_the_positions_of_pixels(frame):
    """A slope of a photograph is read exactly where the input's pixels lie; beyond its edge the edge's value."""
    ys, xs = np.mgrid[: frame.photo[0], : frame.photo[1]].astype(float)
    x0, y0, x1, y1 = frame.seen
    heat = np.full(frame.photo, np.nan)
    heat[y0:y1, x0:x1] = (3 * ys - 2 * xs)[y0:y1, x0:x1]
    values = heat_on_input(heat, frame)
    for row, column in [(0, 0), (5, 9), (frame.input[0] - 1, frame.input[1] - 1)]:
        y, x = frame.to_photo((row, column))
        expected = 3 * np.clip(y, y0, y1 - 1) - 2 * np.clip(x, x0, x1 - 1)
        assert values[row, column] == pytest.approx(expected)


def test_a_map_projected_and_read_equals_the_map_on_the_input():
    cells = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    grid = Grid((3.5, 3.5), (8.0, 8.0), "measured")
    crop = fit_crop((320, 480), 40, (32, 32))  # eight pixels of the photograph for one of the input
    direct = project(cells, grid, Frame((32, 32), (32, 32), (0, 0), (32, 32)))
    np.testing.assert_allclose(heat_on_input(project(cells, grid, crop), crop), direct, atol=1e-5)


class Extractor:
    """Gives torchcam our maps."""

    def __init__(self, model: nn.Module, heat: np.ndarray) -> None:
        self.model, self.heat = model, torch.from_numpy(heat)[None]

    def __call__(self, *_, **__) -> list[torch.Tensor]:
        return [self.heat]

    def fuse_cams(self, cams: list[torch.Tensor]) -> torch.Tensor:
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def test_values_match_torchcam(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    network[-1].weight.data *= 20
    classifier = cam.wrap(network.eval(), input_size=16)
    rng = np.random.default_rng(1)
    for index in range(6):
        path, heat = tmp_path / f"{index}.png", rng.random((16, 16)).astype(np.float32)
        write_image(path, rng.integers(0, 256, (16, 16, 3), np.uint8))
        picture = Picture(path, PurePosixPath(path.name))
        values = measure(classifier, [picture], {"given": heat}, steps=32)
        inputs, _ = classifier.preprocessing.prepare(read_image(path))
        blurred = torch.from_numpy(ndimage.gaussian_filter(inputs.numpy(), (0, 0.8, 0.8), mode="nearest"))
        theirs = Extractor(network, heat), lambda logits: logits.softmax(1)
        for name, baseline in (("blur", blurred), ("mean", None)):
            curves = torchcam.DeletionInsertionMetric(*theirs, steps=32, baseline=baseline)
            curves.update(inputs[None])
            for benchmark in ("insertion", "deletion"):
                assert values["given", f"{benchmark}_{name}"] == pytest.approx(
                    curves.summary()[f"{benchmark}_auc"], abs=1e-5
                )
        confidence = torchcam.ClassificationMetric(Extractor(network, heat / heat.max()), theirs[1])
        confidence.update(inputs[None])
        assert values["given", "average_drop"] == pytest.approx(100 * confidence.summary()["avg_drop"], abs=1e-3)
        assert values["given", "increase_in_confidence"] == 100 * confidence.summary()["conf_increase"]
