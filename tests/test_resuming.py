"""A run that is cut short and gone on with gives what an unbroken one gives, byte for byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from runs import contents
from thirty import COUNT, animals, pictures, run, unbroken_run
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.errors import DiskFullError, StoppedError, UsageError
from cam.images.find import find_pictures
from cam.runs.folder import RunFolder
from cam.runs.manifest import ManifestWriter, files_of, read_records
from cam.runs.resume import Left, resume


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return animals()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def unbroken(classifier, folder, tmp_path_factory) -> Path:
    return unbroken_run(classifier, folder, tmp_path_factory.mktemp("unbroken"))


class CutError(Exception):
    """Stands for what ends a run at any moment."""


@pytest.mark.parametrize("after", [1, 3, 4, 13, COUNT])
def test_a_run_cut_short_goes_on_where_it_was(classifier, folder, unbroken, tmp_path, after):
    reported = []

    def cut(record):
        reported.append(record)
        if len(reported) == after:
            raise CutError

    with pytest.raises(CutError):
        run(classifier, folder, tmp_path, cut)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.jpg")}
    lines = len(list(read_records(tmp_path / "manifest.jsonl")))
    assert lines == after
    again = run(classifier, folder, tmp_path)
    assert again.earlier == (after if after == COUNT else after - after % 4)
    assert contents(tmp_path) == contents(unbroken)
    done = list(read_records(tmp_path / "manifest.jsonl"))[: again.earlier]
    for name in (name for record in done for name in files_of(record)):
        assert (tmp_path / name).stat().st_mtime_ns == before[tmp_path / name]  # not made again


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_stopped_while_lines_are_written_goes_on(classifier, folder, unbroken, tmp_path, monkeypatch, when):
    monkeypatch.setattr("cam.runs.manifest._SECONDS", 0)
    original, flushes = os.fsync, []

    def stop(descriptor):
        flushes.append(1)
        if len(flushes) == 12 and when == "before":
            raise KeyboardInterrupt
        original(descriptor)
        if len(flushes) == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, folder, tmp_path)
    monkeypatch.undo()
    paths = [record["path"] for record in read_records(tmp_path / "manifest.jsonl")]
    assert len(paths) == len(set(paths)) >= 4
    assert run(classifier, folder, tmp_path).earlier >= 4
    assert contents(tmp_path) == contents(unbroken)


def test_two_runs_in_one_folder_are_refused(classifier, folder, tmp_path):
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(UsageError, match=r"Another cam explain is writing to .*\. Wait for its end, or choose another"),
    ):
        run(classifier, folder, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path).locked():  # other parts may be written there
        assert run(classifier, folder, tmp_path, shard=(1, 40)).failed == 0


@pytest.mark.parametrize("torn", [1, 10, 1000, -1, -300])
def test_a_torn_manifest_is_mended(classifier, folder, unbroken, tmp_path, torn):
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    manifest = out / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:torn])
    run(classifier, folder, out)
    assert contents(out) == contents(unbroken)


def test_a_file_that_has_gone_is_made_again(classifier, folder, unbroken, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    gone = sorted(out.glob("12.png*"))[0]
    gone.unlink()
    assert run(classifier, folder, out).earlier == COUNT - 4
    assert contents(out) == contents(unbroken)


def test_a_run_that_is_done_does_nothing_again(classifier, folder, unbroken, monkeypatch):
    before = contents(unbroken)
    monkeypatch.setattr("cam.runs.batches.explain_images", None)  # would be called
    again = run(classifier, folder, unbroken)
    assert (again.explained, again.failed, again.earlier) == (COUNT - 1, 1, COUNT)
    assert contents(unbroken) == before


def test_pictures_that_come_later_are_added(classifier, folder, unbroken, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    for number in range(9):
        shutil.copy(folder / f"{number}.png", some)
    out = tmp_path / "out"
    run(classifier, some, out, scale=2.0)
    shutil.copy(folder / "20.png", some)
    more = run(classifier, some, out, scale=2.0)
    assert (more.explained, more.earlier) == (9, 8)  # of the last batch, which was not full, all are done again
    fresh = tmp_path / "fresh"
    run(classifier, some, fresh, scale=2.0)
    assert {**contents(out), "run.json": b""} == {**contents(fresh), "run.json": b""}


def test_what_was_left_unfinished_is_taken_away(classifier, folder, unbroken, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    (out / ".unfinished").mkdir()
    (out / ".unfinished" / ".1234.part").write_bytes(b"half")
    run(classifier, folder, out)
    assert contents(out) == contents(unbroken)


def test_other_weights_are_refused(classifier, folder, unbroken):
    other = cam.wrap(nn.Sequential(*list(classifier.network)[:-1], nn.Linear(8, 3)), input_size=32)
    with pytest.raises(UsageError, match=r"another weight tensors_sha256 .* Give --overwrite, or another folder"):
        run(other, folder, unbroken)


@pytest.mark.parametrize("changed", [{"format": "png"}, {"scale": 1.0}, {"opacity": 0.4}, {"batch_size": 8}])
def test_other_options_are_refused(classifier, folder, unbroken, changed):
    before = contents(unbroken)
    with pytest.raises(UsageError, match=f"another option {next(iter(changed))} "):
        run(classifier, folder, unbroken, **changed)
    assert contents(unbroken) == before


def test_the_first_bad_picture_can_stop_the_run(classifier, folder, unbroken, tmp_path):
    with pytest.raises(StoppedError, match=r"7\.png.*not an image.*go on"):
        run(classifier, folder, tmp_path, on_error="stop")
    assert len(list(read_records(tmp_path / "manifest.jsonl"))) == 7
    run(classifier, folder, tmp_path)
    assert {**contents(tmp_path), "run.json": b""} == {**contents(unbroken), "run.json": b""}


def test_a_full_disk_stops_the_run_and_it_goes_on_later(classifier, folder, unbroken, tmp_path, monkeypatch):
    original, written = Path.open, []

    def fill(path, *mode, **more):
        if path.parent.name == ".unfinished":
            written.append(path)
            if len(written) > 17:
                raise OSError(28, "No space left on device")
        return original(path, *mode, **more)

    monkeypatch.setattr(Path, "open", fill)
    with pytest.raises(DiskFullError, match=r"No space left on device.*free space"):
        run(classifier, folder, tmp_path)
    assert 8 <= len(list(read_records(tmp_path / "manifest.jsonl"))) <= 20
    monkeypatch.undo()
    assert run(classifier, folder, tmp_path).earlier >= 8
    assert contents(tmp_path) == contents(unbroken)


def test_whole_batches_are_kept(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    pictures = list(enumerate(find_pictures([tmp_path])))
    folder = RunFolder(tmp_path)
    with ManifestWriter(folder.manifest) as manifest:
        for index, picture in pictures[:7]:
            fingerprint = picture.current_fingerprint()._asdict()
            line = {
                "index": index,
                "path": str(picture.path),
                "name": str(picture.name),
                **fingerprint,
                "status": "ok",
                "error": None,
            }
            manifest.add({**line, "targets": []})
    assert resume(folder, pictures, 4) == Left(4, [tuple(pictures[4:8]), tuple(pictures[8:])])
    assert len(list(read_records(folder.manifest))) == 4
    assert resume(folder, pictures[:4], 3) == Left(4, [])
    assert resume(folder, pictures[4:], 1) == Left(0, [(picture,) for picture in pictures[4:]])
    assert folder.manifest.read_bytes() == b""
