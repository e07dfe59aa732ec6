"""`cam invariance` as it is typed, its figures, and networks without an exact map."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cam.classifiers import load_classifier
from cam.errors import ModelError, OutputError, UsageError
from cam.images import read_image, write_image
from cam.invariance.figures import FIGURES, write_figures
from cam.invariance.measure import measure_invariance
from cam.invariance.results import Following, Invariance
from cam.invariance.scoring import Headless, load_any, look
from cam.invariance.sheets import scene_with_heat
from cam.preprocessing import Preprocessing
from cam.targets import OneClass

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
    assert facts["logit"]["mean"] == pytest.approx(0.5)
    assert facts["logit"]["spread"] == pytest.approx(0.5)
    assert facts["logit"]["worst_at"] == [1.5, 5.5]
    np.testing.assert_array_equal(scene_with_heat(result, 0, 1)[0, :, 0], [0] * 4 + [255] * 4)


def test_a_canvas_that_such_a_network_does_not_take() -> None:
    with pytest.raises(ModelError, match=r"'halves' does not run on inputs of shape \(1, 3, 16, 16\)"):
        measure_invariance(halves(), np.zeros((8, 8, 3), np.uint8), canvas=(16, 16), steps=1)


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


def test_figures_of_one_place_without_positive_evidence(tmp_path: Path) -> None:
    result = measured(steps=1)
    assert result.equivariance is not None
    nowhere = Following.of(np.full((1, 1, 2), np.nan), result.scenes.centres)
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
        write_figures(measured(steps=1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_all_and_says_it_short(run, tmp_path):
    out = tmp_path / "out"
    result = run("invariance", FIVE, "-m", "digits", "-o", out, "--steps", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "digits, '5': 72 x 72 pixels at 4 places of 144 x 144" in result.output
    assert "map moved back by one jump" in result.output
    assert {path.name for path in out.iterdir()} == {*FIGURES, "invariance.json"}
    found = json.loads((out / "invariance.json").read_text())
    assert found["label"] == "5"
    assert np.shape(found["by_place"]["peak_points"]) == (2, 2, 2)
    assert found["peak"]["deviation"]["mean"] < 4  # one jump
    assert found["shift_by_one_jump"]["down"] < 0.01


def test_the_command_moves_an_object(run, tmp_path):
    arguments = ("-m", "digits", "-o", tmp_path / "out", "--steps", 1, "-t", 5, "--json")
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--box", "1,2,3"), "'1,2,3' is no box"),
        (("--box", "60,0,300,9"), "The box 60,0,300,9 does not lie in the picture"),
        (("--canvas", "8"), "A canvas of 8 x 8 pixels does not hold the object"),
        (("--canvas", "big"), "'big' is no size"),
        (("--fill", "noise"), "'noise' is no"),
        (("--mask", FIVE, "--box", "0,0,9,9"), "--box and --mask"),
        (("-t", "zebra"), "zebra"),
        (("-t", "top2"), "top2"),
        (("--mask", FIVE.with_name("nowhere.png")), "nowhere.png"),
    ],
)
def test_bad_input_is_told_in_one_sentence(run, tmp_path, arguments, sentence):
    result = run("invariance", FIVE, "-m", "digits", "-o", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


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
    for name in ("accuracy-by-place.png", "accuracy.png", "unseen-heat.png"):
        assert min(read_image(tmp_path / "demo" / name).shape[:2]) > 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give one picture to move, or --demo"),
        ((FIVE, "--demo"), "Give one picture to move, or --demo"),
        ((FIVE, "--train"), "--train trains the networks of --demo"),
    ],
)
def test_a_picture_or_the_demonstration(run, tmp_path, arguments, words):
    result = run("invariance", *arguments, "-o", tmp_path)
    assert result.exit_code == 2
    assert words in result.output
