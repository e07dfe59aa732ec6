"""The folder of a run: no file of anyone else is touched, and what cannot be written is one error."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import contents, explain_into, lines, oddly_labeled, write_odd_photos

from cam.classifiers.classifier import Classifier
from cam.errors import DiskFullError, OutputError, UsageError
from cam.explanations.options import TopClasses


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return oddly_labeled()


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_odd_photos(tmp_path / "in")


def test_overwriting_replaces_files_and_removes_none(classifier, folder, tmp_path):
    out = tmp_path / "out"
    explain_into(out, classifier, folder, save=frozenset({"overlay", "cam"}), targets=(TopClasses(3),))
    (out / "notes.txt").write_text("notes")
    before = contents(out)
    explain_into(out, classifier, folder, overwrite=True, opacity=0.9)
    after = contents(out)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {line["targets"][0]["files"]["overlay"] for line in lines(out)} | {"manifest.jsonl", "run.json"}


def test_a_manifest_of_something_else_is_not_touched(classifier, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match=r"manifest.jsonl' was not written by this version: run.json has no settings"):
        explain_into(tmp_path / "out", classifier, folder)
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == "mine\n"


def test_a_folder_in_place_of_a_file_costs_that_image_only(classifier, folder, tmp_path):
    explain_into(tmp_path / "out", classifier, folder)
    (tmp_path / "other" / lines(tmp_path / "out")[2]["targets"][0]["files"]["overlay"]).mkdir(parents=True)
    explain_into(tmp_path / "other", classifier, folder)
    records = lines(tmp_path / "other")
    assert [record["status"] for record in records] == ["ok", "ok", "failed", "ok", "ok"]
    assert "cannot be written" in records[2]["error"]
    assert records[2]["targets"] == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder_is_one_error(classifier, folder, tmp_path, place):
    (tmp_path / "file").write_text("text")
    with pytest.raises(OutputError, match="cannot be written"):
        explain_into(tmp_path / place, classifier, folder)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_manifest_that_is_a_folder_is_one_error(classifier, folder, tmp_path, overwrite):
    (tmp_path / "out" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"manifest\.jsonl"):
        explain_into(tmp_path / "out", classifier, folder, overwrite=overwrite)


@pytest.mark.parametrize("function", ["os.sync", "cam.runs.manifest.as_line"])
def test_a_manifest_on_a_full_disk_is_one_error(classifier, folder, tmp_path, monkeypatch, function):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, fail)
    with pytest.raises(DiskFullError, match=r"manifest\.jsonl.*cannot be written.*No space"):
        explain_into(tmp_path / "out", classifier, folder)
