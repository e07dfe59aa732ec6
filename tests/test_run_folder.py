"""The folder of a run: earlier results go only when told, and nothing of anybody else's is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from batches import oddly_labeled, run, unlike_pictures

from cam.classifiers.classifier import Classifier
from cam.errors import OutputError, UsageError
from cam.explanations.options import TopClasses
from cam.images.find import find_pictures
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return oddly_labeled()


@pytest.fixture
def folder(tmp_path) -> Path:
    return unlike_pictures(tmp_path / "in")


def test_an_earlier_run_of_another_kind_is_kept_unless_told_otherwise(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out, save=frozenset({"overlay", "cam"}))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r'with another option save \(\["cam", "overlay"\]\)\. Give --overwrite'):
        run(classifier, folder, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_overwriting_takes_the_earlier_files_away_and_no_others(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out, save=frozenset({"overlay", "cam", "heat"}), targets=(TopClasses(3),))
    for name in ("notes.txt", "a.jpg.99-else.jpg", "sub/mine.npz"):
        (out / name).write_text("mine")
    records = run(classifier, folder, out, overwrite=True, format="png")
    files = {file for record in records for target in record["targets"] for file in target["files"].values()}
    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert left == files | {"notes.txt", "a.jpg.99-else.jpg", "sub/mine.npz", "manifest.jsonl", "run.json"}


def test_a_manifest_that_is_no_runs_is_not_touched(classifier, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match=r"manifest.jsonl' belongs to no run: there is no run.json beside it\. Move"):
        run(classifier, folder, out)
    assert (out / "manifest.jsonl").read_text() == "mine\n"


HOSTILE = [
    b"",
    b"\xff\xfe not utf-8\n",
    b"[1, 2]\n3\nnull\n",
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": 3}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": ["a"]}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": {"overlay": 3}}]}\n',
    b'{"path": 3, "status": [], "targets": [{"files": {"overlay": "a"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": {"overlay": "../precious"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": {"overlay": "a\\u0000b"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": {"overlay": "keep"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"files": {"overlay": ""}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "error": null, "targets": [{"fil',
    b'{"path": "a.jpg", "status": [1], "error": null, "targets": []}\n',
    b'{"path": "a.jpg", "status": "failed", "targets": []}\n',
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_strange_manifest_removes_nothing_it_should_not(classifier, folder, tmp_path, content):
    out = tmp_path / "out"
    (out / "keep").mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (out / "manifest.jsonl").write_bytes(content)
    records = run(classifier, folder, out, overwrite=True)
    assert {record["status"] for record in records} == {"ok"}
    assert (tmp_path / "precious").read_text() == "mine"
    assert (out / "keep").is_dir()


def test_a_linked_folder_does_not_lead_out_of_the_output(classifier, folder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("mine")
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "manifest.jsonl").write_text(
        '{"path": "a", "status": "ok", "error": null, "targets": [{"files": {"overlay": "link/precious"}}]}\n'
    )
    run(classifier, folder, out, overwrite=True)
    assert (tmp_path / "elsewhere" / "precious").read_text() == "mine"


def test_a_folder_in_the_way_of_a_file_costs_that_picture_only(classifier, folder, tmp_path):
    out = tmp_path / "out"
    first = run(classifier, folder, out)
    in_the_way = out / first[2]["targets"][0]["files"]["overlay"]
    other = tmp_path / "other"
    (other / in_the_way.relative_to(out)).mkdir(parents=True)
    second = run(classifier, folder, other)
    assert [record["status"] for record in second] == ["ok", "ok", "failed", "ok", "ok"]
    assert "cannot be written" in second[2]["error"]
    assert second[2]["targets"] == []


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder_is_one_error(classifier, folder, tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        run(classifier, folder, tmp_path / where)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_manifest_that_is_a_folder_is_one_error(classifier, folder, tmp_path):
    (tmp_path / "out" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"manifest\.jsonl"):
        run(classifier, folder, tmp_path / "out")


def test_a_full_disk_is_one_error(classifier, folder, tmp_path):
    manifest = tmp_path / "out" / "manifest.jsonl"
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")

    def fill(_):
        manifest.unlink()
        manifest.symlink_to("/dev/full")

    with pytest.raises(OutputError, match=r"manifest\.jsonl.*cannot be written.*No space"):
        explain_folder(classifier, find_pictures([folder]), tmp_path / "out", RunOptions(), {}, fill)
