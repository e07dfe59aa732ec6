"""The folder of a run: no file of anyone else is touched, and what cannot be written is one error."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from refusals import refused
from runs import DIGITS, FIVE, contents, explain_into, lines, oddly_labeled, write_odd_photos

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


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_results_that_are_removed_during_a_run_end_it(classifier, folder, tmp_path, after, again):
    """Even if there is another manifest in place of the one that the run holds open."""
    out, count = tmp_path / "out", itertools.count(1)

    def remove(record):
        if next(count) == after:
            out.rename(tmp_path / "elsewhere")
            if again:
                out.mkdir(exist_ok=True)
                (out / "manifest.jsonl").write_text("{}\n")

    with pytest.raises(OutputError, match=r"manifest\.jsonl' was removed .*while the run went on"):
        explain_into(out, classifier, folder, report=remove, batch_size=1)
    if again:
        (out / "manifest.jsonl").unlink()
    assert explain_into(out, classifier, folder).explained == 5


def test_lines_that_others_add_during_a_run_end_it(classifier, folder, tmp_path):
    def add(record):
        if record["index"] == 4:
            with (tmp_path / "out" / "manifest.jsonl").open("a") as file:
                file.write("{}\n")

    with pytest.raises(OutputError, match=r"manifest\.jsonl' was removed or changed while the run went on"):
        explain_into(tmp_path / "out", classifier, folder, report=add)


def test_a_removed_results_folder_has_the_exit_status_of_a_failed_run(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("cam.cli.printing.RunTable.add", lambda table, record: out.rename(tmp_path / "elsewhere"))
    refused(run("explain", FIVE, *DIGITS, "-o", out), 1, "was removed or changed", "Run the same command again")
