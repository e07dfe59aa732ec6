"""Maps of a finished run are read back, from either of the places that keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cam
from cam.audit.read import RunMaps
from cam.cli.main import main
from cam.errors import UsageError

SAMPLES = Path(__file__).parents[1] / "samples"


def run(out: Path, *arguments: str) -> Path:
    result = CliRunner().invoke(main, ["explain", str(SAMPLES), "-m", "digits", "-o", str(out), *arguments])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def classifier() -> cam.Classifier:
    return cam.load_classifier("digits")


@pytest.mark.parametrize(("kept", "tolerance"), [(["--save", "cam", "--target", "top2"], 0), (["--report"], 1e-3)])
def test_maps_and_their_places_are_those_of_the_explanations(classifier, tmp_path, kept, tolerance):
    maps = RunMaps.open(run(tmp_path / "out", *kept))
    records = list(maps.records())
    assert len(records) == 10
    for record in records:
        for explanation in cam.explain(classifier, record["path"], target="top2"):
            placed = maps.map_of(record, explanation.class_idx)
            assert placed is not None
            np.testing.assert_allclose(placed.cam, explanation.cam, atol=tolerance + 1e-4)
            peak = np.unravel_index(placed.cam.argmax(), placed.cam.shape)
            height, width = explanation.frame.photo
            center = placed.rows[peak[0]] * height, placed.columns[peak[1]] * width
            assert np.abs(np.subtract(center, explanation.peak)).max() <= explanation.grid.stride[0]


def test_a_class_without_a_map_has_none(tmp_path):
    maps = RunMaps.open(run(tmp_path / "out", "--save", "cam"))
    record = next(maps.records())
    assert maps.map_of(record, (record["predicted"]["class_idx"] + 1) % 10) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "kept no maps"), (["--save", "cam", "--method", "gradcam"], "--method gradcam, and do not add up")],
)
def test_a_run_without_maps_in_logits_is_refused(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        RunMaps.open(run(tmp_path / "out", *arguments))


@pytest.mark.parametrize("kept", ["--report", "--save=cam"])
def test_a_missing_file_is_named(tmp_path, kept):
    maps = RunMaps.open(run(tmp_path / "out", kept))
    record = next(maps.records())
    for file in (tmp_path / "out").rglob("*.npz" if kept != "--report" else "*.js"):
        file.write_bytes(b"torn")
    with pytest.raises(UsageError, match=json.dumps(Path(record["path"]).name).strip('"')):
        maps.map_of(record, record["predicted"]["class_idx"])
