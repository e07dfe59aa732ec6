"""The grid pointing game on colors, worked by hand, and the methods that benchmarks compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam.classifiers.truth import labeled_pictures
from cam.errors import ImageError, UsageError
from cam.evaluation.benchmark import Evaluation
from cam.evaluation.grid import compose_mosaic, confident_images, draw_mosaics, evaluate_grid
from cam.evaluation.methods import MapRequest, Method, baselines, default_evidence, evidence_methods, saved_maps
from cam.images.find import find_pictures
from cam.images.io import write_image

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.fixture(scope="module")
def colors() -> cam.Classifier:
    """Logits of red: 10 R - 10 G - 10 B, of green and blue likewise, of white 5 R + 5 G + 5 B."""
    linear = nn.Linear(3, 4, bias=False)
    linear.weight.data = torch.cat([20 * torch.eye(3) - 10, torch.full((1, 3), 5.0)])
    same = nn.Conv2d(3, 3, 1, bias=False)
    same.weight.data = torch.eye(3)[..., None, None]
    plain = cam.Preprocessing(8, (8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    network = nn.Sequential(same, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return cam.wrap(network, labels=list(COLORS), preprocessing=plain, name="colors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, color in COLORS.items():
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "1.png", np.full((12, 16, 3), color, np.uint8))
    write_image(tmp_path / "red" / "not-red.png", np.full((8, 8, 3), COLORS["blue"], np.uint8))
    write_image(tmp_path / "red" / "unsure.png", np.full((8, 8, 3), (255, 76, 0), np.uint8))
    (tmp_path / "red" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def run(colors: cam.Classifier, folder: Path, **options) -> Evaluation:
    return evaluate_grid(
        colors,
        labeled_pictures(folder, colors.labels)[0],
        lambda whole: [*evidence_methods(whole, ["logit", "margin"]), *baselines(0)],
        sizes=[2],
        mosaics=6,
        **options,
    )


def test_only_correct_and_confident_images_are_used(colors, folder):
    confident, failed = confident_images(colors, labeled_pictures(folder, colors.labels)[0], 0.9)
    assert [str(picture.name) for picture in confident] == ["blue/1.png", "green/1.png", "red/1.png", "white/1.png"]
    assert [Path(path).name for path in failed] == ["broken.png"]
    more, _ = confident_images(colors, labeled_pictures(folder, colors.labels)[0], 0.3)
    assert "red/unsure.png" in [str(picture.name) for picture in more]  # red 7, white 6.5: 62 %


def test_shares_and_hits_by_hand(colors, folder):
    done = []
    result = run(colors, folder, progress=done.append)
    assert len(done) == 6
    assert (result.benchmark, result.model, result.pictures, len(result.failed)) == ("grid", "colors", 4, 1)
    values = {(row.method, row.metric): row.value for row in result.rows}
    # White's evidence is 15 in its own tile and 5 in the others; the other classes are negative outside theirs.
    assert values["logit", "share 2x2"] == pytest.approx((1 + 1 + 1 + 0.5) / 4, abs=0.03)
    assert values["margin", "share 2x2"] == pytest.approx(1, abs=0.03)
    assert values["logit", "hit 2x2"] == values["margin", "hit 2x2"] == 1
    assert values["gaussian", "share 2x2"] == pytest.approx(0.25, abs=1e-6)
    assert values["gaussian", "hit 2x2"] == pytest.approx(0.25)
    assert values["uniform", "share 2x2"] == pytest.approx(0.25, abs=0.05)
    assert {row.count for row in result.rows} == {6}
    assert result.settings["input"] == "mosaic"


def test_mosaics_that_fail_are_no_images_that_are_not_recognized(colors, folder):
    asked = []

    def heats(request):
        asked.append(request)
        if len(asked) <= 5:
            raise ImageError("a", "b")
        return baselines(0)[0].heats(request)

    classes = labeled_pictures(folder, colors.labels)[0]
    result = evaluate_grid(colors, classes, lambda whole: [Method("theirs", heats)], sizes=[2], mosaics=6)
    assert (len(result.failed), result.unrecognized) == (6, 2)


def test_the_seed_determines_the_mosaics_of_enough_classes(colors, folder):
    assert run(colors, folder, seed=4) == run(colors, folder, seed=4)
    pictures = labeled_pictures(folder, colors.labels)[0]
    assert draw_mosaics(pictures, 2, 9, seed=1) != draw_mosaics(pictures, 2, 9, seed=2)
    with pytest.raises(UsageError, match=r"--size 3 needs images of 9 classes .*, got 4"):
        draw_mosaics(pictures, 3, 1, seed=0)


def test_a_mosaic_is_its_tiles_side_by_side(colors, folder):
    pictures = {p: c for p, c in labeled_pictures(folder, colors.labels)[0].items() if p.name.name == "1.png"}
    (mosaic,) = draw_mosaics(pictures, 2, 1, seed=0)
    image = compose_mosaic(colors, mosaic)
    assert image.shape == (16, 16, 3)
    names = list(COLORS)
    for number, (_, class_idx) in enumerate(mosaic.tiles):
        y, x = 8 * (number // 2), 8 * (number % 2)
        assert (image[y : y + 8, x : x + 8] == COLORS[names[class_idx]]).all()


def test_mosaics_are_shrunk_for_a_network_of_one_input_size(folder):
    """Logits 48 (R - G - B), ... of 4 x 4 cells that are each averaged: flattened, they fit one input size only."""
    linear = nn.Linear(3 * 16, 4, bias=False)
    weights = torch.cat([20 * torch.eye(3) - 10, torch.full((1, 3), 5.0)])
    linear.weight.data = (weights / 16).repeat_interleave(16, 1)
    plain = cam.Preprocessing(8, (8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    network = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), linear)
    network[1].weight.data = torch.eye(3)[..., None, None]
    flat = cam.wrap(network, labels=list(COLORS), preprocessing=plain, method="integrated")
    classes = labeled_pictures(folder, flat.labels)[0]
    result = evaluate_grid(flat, classes, lambda whole: evidence_methods(whole, ["logit"]), sizes=[2], mosaics=6)
    assert result.settings["input"] == "shrunk"
    values = {(row.method, row.metric): row.value for row in result.rows}
    # As pixel for pixel, but each tile has 2 x 2 cells, so that the borders between them are wide.
    assert values["logit", "share 2x2"] == pytest.approx((1 + 1 + 1 + 0.5) / 4, abs=0.1)
    assert values["logit", "hit 2x2"] == 1


def test_the_default_evidence_is_what_the_scores_have():
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    many = nn.Sequential(*network[:3], nn.Linear(4, 2))
    assert default_evidence(cam.wrap(network, input_size=16, activation="none")) == ("logit",)
    assert default_evidence(cam.wrap(many, input_size=16, activation="none")) == ("logit", "margin")
    assert default_evidence(cam.wrap(many, input_size=16)) == ("logit", "margin", "posterior")


def request(name: str = "a/dog.jpg", class_idxs: tuple[int, ...] = (3,)) -> MapRequest:
    return MapRequest(name, np.zeros((4, 6, 3), np.uint8), class_idxs)


def test_the_saved_map_of_the_class_comes_before_that_of_the_image(tmp_path):
    (tmp_path / "a").mkdir()
    for number, name in enumerate(["dog.npy", "dog.jpg.npy", "dog.jpg.3-cat.npy", "dog.jpg.3.npy", "dog.jpg.33.npy"]):
        np.save(tmp_path / "a" / name, np.full((4, 6), number))
        heat = saved_maps(tmp_path).heats(request())[3]
        assert (heat.dtype, heat.max()) == (np.float32, min(number, 3))
    heats = saved_maps(tmp_path).heats(request(class_idxs=(3, 33, 4)))
    assert {class_idx: heat.max() for class_idx, heat in heats.items()} == {3: 3, 33: 4, 4: 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((6, 4)), r"float64 \(6, 4\) for an image of \(4, 6\)"),
        (np.zeros((4, 6), "U3"), "one number for each pixel"),
        (np.full((4, 6), np.inf), "infinite"),
        (np.full((4, 6), 1e300), "infinite"),
        (np.array({"code": 1}, object), "cannot be read"),
        (None, r"a/dog.jpg.npy' cannot be read: .*No such file"),
    ],
)
def test_a_bad_map_is_an_error(tmp_path, content, words):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / ("a/cat.npy" if content is None else "a/dog.npy"), content, allow_pickle=True)
    with pytest.raises(ImageError, match=words):
        saved_maps(tmp_path).heats(request())


@pytest.mark.parametrize("shape", [(10**6, 10**6), (4, 7)])
def test_a_map_whose_header_lies_is_an_error(tmp_path, shape):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a/dog.npy", np.zeros((4, 6)))
    whole = (tmp_path / "a/dog.npy").read_bytes()
    text = str(shape).encode()
    lying = whole.replace(b"(4, 6), }" + b" " * (len(text) - 6), text + b", }")
    assert len(lying) == len(whole)
    (tmp_path / "a/dog.npy").write_bytes(lying)
    with pytest.raises(ImageError, match="cannot be read"):
        saved_maps(tmp_path).heats(request())


def test_seed_name_and_class_determine_uniform_noise():
    (_, uniform), (_, seeded) = baselines(0), baselines(1)
    one, other = uniform.heats(request(class_idxs=(1, 2))).values()
    again = uniform.heats(request(class_idxs=(1,)))[1]
    elsewhere = uniform.heats(request("b.jpg", (1,)))[1]
    assert (one == again).all()
    for different in (other, elsewhere, seeded.heats(request(class_idxs=(1,)))[1]):
        assert (one != different).any()


@pytest.mark.slow
def test_squeezenet_separates_classes(shared_data, monkeypatch):
    """The numbers of docs/evaluation.md, on fewer mosaics."""
    monkeypatch.setenv("TORCH_HOME", str(shared_data / "torch_home"))
    squeezenet = cam.load_classifier("squeezenet1_0")
    files = find_pictures([shared_data / "imagenet" / "images"])
    result = evaluate_grid(
        squeezenet,
        {file: 10 * number for number, file in enumerate(files)},
        lambda whole: evidence_methods(whole, ["logit", "margin", "posterior"]),
        mosaics=10,
    )
    values = {(row.method, row.metric): row.value for row in result.rows}
    assert result.pictures >= 30
    least = {("margin", 2): 0.90, ("margin", 3): 0.80, ("posterior", 2): 0.88, ("posterior", 3): 0.78}
    for (kind, size), value in least.items():
        assert values[kind, f"share {size}x{size}"] >= value, (kind, size)
    assert values["logit", "share 2x2"] == pytest.approx(0.70, abs=0.06)
    assert values["logit", "share 3x3"] == pytest.approx(0.46, abs=0.06)
