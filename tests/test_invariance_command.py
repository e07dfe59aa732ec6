"""`cam invariance` as it is typed, its figures, and networks without an exact map."""

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
from torch import nn

from cam.classifiers import load_classifier
from cam.errors import ModelError, OutputError, UsageError
from cam.images import read_image, write_image
from cam.invariance.figures import FIGURES, _score_map, write_figures
from cam.invariance.measure import measure_invariance
from cam.invariance.results import Invariance
from cam.invariance.scoring import Headless, load_any, look
from cam.invariance.sheets import contact_sheet, new_figure, outline, scene_with_heat
from cam.invariance.summaries import Following
from cam.preprocessing import Preprocessing
from cam.targets import OneClass
from cam.version import VERSION
from cam.weights import hash_file, hash_tensors

FIVE = Path(__file__).parents[1] / "samples" / "five.png"
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
FACTORY = """
import torch
from torch import nn

def flat(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8 * 8, classes))

def one():
    return flat(1)
"""


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "flattening.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "flattening", raising=False)
    return "flattening:flat"


def halves() -> Headless:
    """Class 0 is how white the left half of 8 x 8 pixels is, class 1 the right: 1 for a white square of 4."""
    linear = nn.Linear(3 * 8 * 8, 2, bias=False)
    weight = torch.zeros(2, 3, 8, 8)
    weight[0, ..., :4] = weight[1, ..., 4:] = 1 / 48
    linear.weight.data = weight.flatten(1)
    network = nn.Sequential(nn.Flatten(), linear)
    return Headless("halves", network, Preprocessing(8, (8, 8), **PLAIN), ("left", "right"), "it flattens")


def measured(**arguments: object) -> Invariance:
    found: Invariance = measure_invariance(load_classifier("digits"), read_image(FIVE), **arguments)  # type: ignore[arg-type]
    return found


def test_a_flattening_network_knows_where_the_object_is() -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    result = measure_invariance(halves(), white, steps=2, fill=(0, 0, 0), target=OneClass(0))
    assert (result.scenes.canvas, result.scenes.thing.size) == ((8, 8), (4, 4))  # shrunk into its own input size
    np.testing.assert_allclose(result.logits, [[1, 0], [1, 0]], atol=1e-6)
    high = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(result.probabilities, [[high, 1 - high]] * 2, atol=1e-6)
    assert result.stays.tolist() == [[True, False]] * 2
    assert result.equivariance is None
    facts = result.facts()
    assert facts["reason"] == "it flattens"
    (smaller,) = result.remarks
    assert smaller.startswith("The object was made smaller, from 8x8 to 4x4 pixels (HxW)")
    places = json.loads(result.to_json())["by_place"]
    assert places["predicted_labels"] == [["left", "right"]] * 2
    np.testing.assert_allclose(places["predicted_probabilities"], [[high, high]] * 2, atol=1e-6)
    assert facts["logit"]["mean"] == pytest.approx(0.5)
    assert facts["logit"]["spread"] == pytest.approx(0.5)
    assert facts["logit"]["worst_at"] == [1.5, 5.5]
    np.testing.assert_array_equal(scene_with_heat(result, 0, 1)[0, :, 0], [0] * 4 + [255] * 4)


def test_a_canvas_that_such_a_network_does_not_take() -> None:
    with pytest.raises(ModelError, match=r"'halves' does not run on inputs of shape \(4, 3, 16, 16\)"):
        measure_invariance(halves(), np.zeros((8, 8, 3), np.uint8), canvas=(16, 16), steps=2)


def test_any_network_can_be_loaded(flat: str) -> None:
    model = load_any(flat, input_size=32, device="cpu")
    assert isinstance(model, Headless)
    assert model.labels == ("class 0", "class 1", "class 2")
    assert "no exact class activation map (not-gap)" in model.reason
    with pytest.raises(UsageError, match="2 labels for the 3 classes"):
        load_any(flat, input_size=32, labels=["a", "b"], device="cpu")
    one = load_any("flattening:one", input_size=32, device="cpu")
    assert one.labels == ("negative", "positive")
    (found,) = look(one, [np.full((32, 32, 3), 90, np.uint8)])
    assert found.logits[0] == -found.logits[1] != 0
    assert found.probabilities.sum() == pytest.approx(1)


def test_the_figures_of_a_digit(tmp_path: Path) -> None:
    result = measured(steps=2)
    assert [path.name for path in write_figures(result, tmp_path)] == list(FIGURES)
    for name in FIGURES[:3]:
        assert min(read_image(tmp_path / name).shape[:2]) > 300
    with Image.open(tmp_path / "heat.webp") as film:
        assert film.n_frames == 4
    assert result.equivariance is not None
    painted = scene_with_heat(result, 1, 1)
    y, x = np.rint(result.equivariance.peak.points[1, 1]).astype(int)
    assert painted.shape == (144, 144, 3)
    assert painted[y, x, 0] > painted[0, 0, 0] + 50  # warm where the peak is


def test_the_outline_is_that_of_the_mask() -> None:
    """An L in a rectangle of 20 x 20, and a whole rectangle, each at its place."""
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:30, 10:15], mask[25:30, 10:30] = 255, 255
    measure = partial(measure_invariance, load_classifier("digits"), image, canvas=(72, 72), steps=2)
    for found, area in ((measure(mask=mask), 175), (measure(box=(10, 10, 30, 30)), 400)):
        axes = new_figure(4, 4).subplots()
        outline(axes, found, 1, 0, "black", 1)
        (contour,) = axes.collections[0].get_paths()
        x, y = contour.vertices[:-1].T
        height, width = found.scenes.thing.size
        assert (x.min(), x.max()) == (-0.5, width - 0.5)  # the left column of places, and the lower row
        assert (y.min(), y.max()) == (71.5 - height, 71.5)
        inside = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2
        assert inside == pytest.approx(area * (height / 20) ** 2, rel=0.02)


def test_figures_of_one_row_without_positive_evidence(tmp_path: Path) -> None:
    result = measured(canvas=(72, 73), steps=2)
    assert (result.equivariance is not None, result.scenes.shape) == (True, (1, 2))
    nowhere = Following.of(np.full((1, 2, 2), np.nan), result.scenes.centres)
    write_figures(replace(result, equivariance=replace(result.equivariance, centroid=nowhere)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FIGURES)


def test_labels_are_no_formulas_and_may_be_in_any_script(tmp_path: Path) -> None:
    model = halves()
    named = Headless(model.name, model.network, model.preprocessing, (r"$\frac$", "猫"), "it flattens")
    result = measure_invariance(named, np.full((8, 8, 3), 255, np.uint8), steps=2)
    (tmp_path / "heat.webp").write_bytes(b"of an earlier run")
    written = write_figures(result, tmp_path)
    assert [path.name for path in written] == ["contact-sheet.png", "score-map.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact-sheet.png", "score-map.png"]


def test_without_matplotlib_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match=r"pip install gapcam\[figures\]"):
        write_figures(measured(steps=2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_all_and_says_it_short(run, tmp_path):
    out = tmp_path / "out"
    result = run("invariance", FIVE, "-m", "digits", "-o", out, "--steps", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "digits, '5': 72x72 pixels (HxW) at 4 places of a canvas of 144x144" in result.output
    assert "map after a move by one jump, moved back: differs by 0.00% down" in result.output
    assert {path.name for path in out.iterdir()} == {*FIGURES, "invariance.json"}
    found = json.loads((out / "invariance.json").read_text())
    assert found["label"] == "5"
    assert np.shape(found["by_place"]["peak_points"]) == (2, 2, 2)
    assert found["peak"]["deviation"]["mean"] < 4  # one jump
    assert found["shift_by_one_jump"]["down"] < 0.01
    about, digits = found["made_with"], load_classifier("digits", device="cpu")
    assert about["weights"]["tensors_sha256"] == hash_tensors(digits.network.state_dict())
    assert about["weights"]["sha256"] == hash_file(digits.weights)
    assert (about["model"], about["head"]["kind"], about["versions"]["gapcam"]) == ("digits", "gap-linear", VERSION)
    assert (about["arguments"]["steps"], about["arguments"]["picture"]) == (2, str(FIVE))


def test_the_command_moves_an_object(run, tmp_path):
    arguments = ("-m", "digits", "-o", tmp_path / "out", "--steps", 2, "-t", 5, "--json")
    boxed = run("invariance", FIVE, *arguments, "--box", "80,40,240,240", "--canvas", "80x100", "--fill", "9,9,9")
    assert boxed.exit_code == 0, boxed.output
    facts = json.loads(boxed.output)
    assert (facts["object"], facts["canvas"], facts["fill"]) == ([50, 40], [80, 100], [9, 9, 9])
    mask = np.zeros(read_image(FIVE).shape, np.uint8)
    mask[40:160, 120:240] = 255
    write_image(tmp_path / "mask.png", mask)
    masked = run("invariance", FIVE, *arguments, "--mask", tmp_path / "mask.png", "--fill", "blur")
    assert masked.exit_code == 0, masked.output
    assert json.loads(masked.output)["object"] == [30, 30]


def test_the_command_measures_a_flattening_network(run, tmp_path, flat):
    arguments = ("--input-size", 32, "--steps", 2, "--device", "cpu")
    result = run("invariance", FIVE, "-m", flat, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    assert "has no exact class activation map (not-gap)" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FIGURES[:2], "invariance.json"}
    found = json.loads((tmp_path / "out" / "invariance.json").read_text())
    network = load_any(flat, input_size=32, device="cpu").network
    assert found["made_with"]["weights"] == {
        "file": None, "sha256": None, "tensors_sha256": hash_tensors(network.state_dict())
    }  # fmt: skip
    assert "head" not in found["made_with"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--box", "1,2,3"), "'1,2,3' is no box"),
        (("--box", "60,0,300,9"), "The box 60,0,300,9 does not lie in the picture"),
        (("--canvas", "8"), "A canvas of 8x8 pixels (HxW) does not hold the object"),
        (("--canvas", "big"), "'big' is no size"),
        (("--fill", "noise"), "such as 0,0,0. Or mean, blur or reflect."),
        (("--mask", FIVE, "--box", "0,0,9,9"), "--box and --mask"),
        (("--canvas", 800, "--steps", 100), "10000 places, more than 4096. Give 64 steps or fewer"),
        (("-t", "zebra"), "zebra"),
        (("-t", "top2"), "top2"),
        (("--steps", 1), "One place measures nothing"),
        (("--canvas", 72), "One place measures nothing"),
        (("--mask", FIVE.parent), "is a folder. Give one picture"),
        (("--mask", FIVE.with_name("nowhere.png")), "nowhere.png"),
    ],
)
def test_bad_input_is_told_in_one_sentence(run, tmp_path, arguments, sentence):
    result = run("invariance", FIVE, "-m", "digits", "-o", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


def test_random_weights_and_what_becomes_of_the_object_are_said(run, tmp_path):
    result = run("invariance", FIVE, "-m", "digits", "--no-weights", "-o", tmp_path, "--steps", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "The weights are random (--no-weights): which class is predicted means nothing." in result.output
    said = json.loads((tmp_path / "invariance.json").read_text())["remarks"]
    assert [each.split(",")[0] for each in said] == ["The object is the whole picture", said[1]]
    folder = run("invariance", FIVE.parent, "-m", "digits", "-o", tmp_path)
    assert f"{str(FIVE.parent)!r} is a folder. Give one picture" in folder.output


def test_where_another_class_wins_the_caption_is_red():
    result = measure_invariance(halves(), np.full((8, 8, 3), 255, np.uint8), steps=2, target=OneClass(0))
    left, right = contact_sheet(result).axes[:2]
    assert (left.title.get_color(), right.title.get_color()) == ("black", "red")
    assert left.title.get_text().endswith("predicted: left, 73.1%")
    assert right.title.get_text().endswith("predicted: right, 73.1%")


@pytest.mark.parametrize("canvas", [(4000, 73), (73, 4000)])
def test_captions_and_legend_fit_on_a_canvas_that_is_long_and_thin(canvas):
    figure = contact_sheet(measured(canvas=canvas, steps=3))
    figure.draw_without_rendering()
    tiles = [each for each in figure.axes if each.get_title()]
    boxes = [each.title.get_window_extent() for each in tiles]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width
    bar = figure.axes[-1].get_window_extent()
    assert not any(bar.overlaps(each) for each in boxes)


def test_colours_of_scores_span_a_logit_or_more(tmp_path):
    def span(logits):
        result = measured(canvas=(72, 73), steps=2)
        left, _, bar, *_ = _score_map(replace(result, logits=np.array([logits]))).axes
        return left.collections[0].get_clim(), bar.get_ylabel()

    assert span([3.0, 3.002]) == ((2.501, 3.501), "logit of 5 (colours span 1)")
    assert span([3.0, 8.0]) == ((3.0, 8.0), "logit of 5 (colours span 5)")


def test_the_demonstration_from_the_shipped_weights(run, tmp_path):
    result = run("invariance", "--demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "demo" / "demo.json").read_text())
    shares = {each["name"]: (each["seen"][0], each["unseen"][0]) for each in found["networks"]}
    seen, unseen = shares["position-gap"]
    assert seen - unseen <= 0.03
    assert seen >= 0.9
    for name in ("position-flatten", "position-flatten-mlp"):
        assert shares[name][0] >= 0.85
        assert shares[name][1] <= 0.2
    assert f"position-gap: {100 * seen:.1f} % right" in result.output
    assert "70,618 parameters; after few scenes 100.0 % of them, 78.6 % of others" in result.output
    for name in ("accuracy-by-place.png", "accuracy.png", "unseen-heat.png"):
        assert min(read_image(tmp_path / "demo" / name).shape[:2]) > 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give one picture to move, or --demo"),
        ((FIVE, "--demo"), "Give one picture to move, or --demo"),
        ((FIVE, "--train"), "--train trains the networks of --demo"),
        (("--demo", "-m", "vgg16", "--steps", 3), "of its own. Take away --model, --steps"),
    ],
)
def test_a_picture_or_the_demonstration(run, tmp_path, arguments, words):
    result = run("invariance", *arguments, "-o", tmp_path)
    assert result.exit_code == 2
    assert words in result.output
