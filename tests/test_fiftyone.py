"""A run and its audit as a FiftyOne dataset; its own classes check the samples (skipped where it is not installed)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_audit import run_over

from cam.audit.audit import audit_run
from cam.audit.read import RunMaps, ScoredMap
from cam.audit.to_fiftyone import heat_of, write_dataset
from cam.cli.main import main


def test_heat_lies_on_the_whole_photograph():
    cam = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    rows, columns = np.array([0.25, 0.75]), np.array([0.375, 0.625])
    placed = ScoredMap(cam, rows, columns, seen=(0.25, 0.0, 0.75, 1.0), score=2.5, base=0.0)
    heat = heat_of(placed, 8)  # at 1/16, 3/16, ... of each side
    assert heat[:, :2].tolist() == heat[:, 6:].tolist() == [[0, 0]] * 8  # not seen
    assert heat[0, 2:6].tolist() == [1, 1.25, 1.75, 2]
    assert heat[:, 2].tolist() == [1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3]


class Dataset:
    """Keeps samples, in place of a dataset in the database of FiftyOne."""

    def __init__(self, name: str, persistent: bool) -> None:
        assert (name, persistent) == ("mine", True)
        self.samples: list[Any] = []

    def add_samples(self, samples: list[Any]) -> None:
        self.samples += samples

    def delete(self) -> None:
        self.deleted = True


@pytest.fixture
def made(monkeypatch) -> list[Dataset]:
    """The datasets that are made; there is one called "taken" before."""
    module = pytest.importorskip("fiftyone")
    datasets: list[Dataset] = []
    monkeypatch.setattr(module, "list_datasets", lambda: ["taken"])
    monkeypatch.setattr(module, "Dataset", lambda *a, **k: datasets.append(Dataset(*a, **k)) or datasets[-1])
    return datasets


def test_a_sample_has_classes_heat_and_tags(made, tmp_path: Path):
    out = run_over(tmp_path, tagged=15, report=True)
    audit = audit_run(out)
    (tmp_path / "359.png").unlink()
    assert write_dataset("mine", audit) == 1
    (samples,) = (dataset.samples for dataset in made)
    assert len(samples) == 359
    run = RunMaps.open(out)
    for sample, record in zip(samples, run.records(), strict=False):
        assert sample.filepath == record["path"]
        assert sample["prediction"].label == record["predicted"]["label"]
        assert sample["prediction"].confidence == record["targets"][0]["probability"]
        assert sample["ground_truth"].label == record["truth"]["label"]
        assert sample["heat"].range == [-run.info["scale"], run.info["scale"]]
    tagged = [Path(sample.filepath).name for sample in samples if "color 2, top right" in sample.tags]
    assert tagged == [f"{2 + 6 * n:03}.png" for n in range(15)]
    placed = run.map_of(next(run.records()), 0)
    assert placed is not None
    assert samples[0]["heat"].map.max() == pytest.approx(placed.cam.max(), rel=0.2)


def test_a_dataset_is_whole_or_not_at_all(made, tmp_path: Path, monkeypatch):
    audit = audit_run(run_over(tmp_path, each=3, report=True))
    monkeypatch.setattr("cam.audit.to_fiftyone.heat_of", lambda placed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset("mine", audit)
    assert made[0].deleted


def test_a_name_that_is_taken_is_an_error_before_the_work(made, tmp_path: Path):
    result = CliRunner().invoke(main, ["audit", str(tmp_path), "--fiftyone", "taken"])
    assert result.exit_code == 2
    assert "--fiftyone taken: FiftyOne has a dataset of that name" in result.output


def test_without_fiftyone_the_remedy_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    result = CliRunner().invoke(main, ["audit", str(tmp_path), "--fiftyone", "mine"])
    assert result.exit_code == 1
    assert "Run pip install 'gapcam[fiftyone]'" in result.output
