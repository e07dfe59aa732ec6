"""A run that is cut short and gone on with gives what an unbroken one gives, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import contents
from torch import nn

import cam
from cam.batch import Run, explain_folder
from cam.classifiers import Classifier
from cam.errors import NoRoomError, StoppedError, UsageError
from cam.images import read_image, write_image
from cam.inputs import find_pictures
from cam.manifest import ManifestWriter, files_of, read_records
from cam.merging import merge_shards
from cam.options import Options
from cam.resuming import resume
from cam.run_folder import RunFolder

COUNT = 30


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return cam.wrap(network, input_size=32, labels=["cat", "dog", "bird"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
        write_image(folder / f"{number}.png", np.kron(coarse, np.ones((9, 9 + number % 3, 1), np.uint8)))
    (folder / "7.png").write_bytes(b"torn")
    return folder


@pytest.fixture(scope="module")
def unbroken(classifier, folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    explained = run(classifier, folder, out)
    assert (explained.explained, explained.failed, explained.earlier) == (COUNT - 1, 1, 0)
    return out


def run(classifier: Classifier, folder: Path, out: Path, report=lambda record: None, **options) -> Run:
    return explain_folder(classifier, find_pictures([folder]), out, Options(**options), {}, report)


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
    done = [record for record, _ in read_records(tmp_path / "manifest.jsonl")][: again.earlier]
    for name in (name for record in done for name in files_of(record)):
        assert (tmp_path / name).stat().st_mtime_ns == before[tmp_path / name]  # not made again


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_stopped_while_lines_are_written_goes_on(classifier, folder, unbroken, tmp_path, monkeypatch, when):
    monkeypatch.setattr("cam.manifest._SECONDS", 0)
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
    paths = [record["path"] for record, _ in read_records(tmp_path / "manifest.jsonl")]
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
    monkeypatch.setattr("cam.chain.explain_images", None)  # would be called
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
    with pytest.raises(StoppedError, match=r"7\.png.*not a picture.*go on"):
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
    with pytest.raises(NoRoomError, match=r"No space left on device.*free space"):
        run(classifier, folder, tmp_path)
    assert 8 <= len(list(read_records(tmp_path / "manifest.jsonl"))) <= 20
    monkeypatch.undo()
    assert run(classifier, folder, tmp_path).earlier >= 8
    assert contents(tmp_path) == contents(unbroken)


@pytest.mark.parametrize("apart", [False, True], ids=["one folder", "a folder each"])
def test_shards_merged_are_the_whole(classifier, folder, unbroken, tmp_path, apart):
    outs = [tmp_path / (str(index) if apart else "all") for index in (1, 2, 3)]
    counts = []
    for index, out in enumerate(outs, 1):
        done = run(classifier, folder, out, shard=(index, 3))
        counts.append(done.explained + done.failed)
    assert sum(counts) == COUNT
    assert min(counts) > 3
    manifest = merge_shards(outs)
    whole = [record for record, _ in read_records(unbroken / "manifest.jsonl")]
    merged = [record for record, _ in read_records(manifest)]
    assert [record["path"] for record in merged] == [record["path"] for record in whole]
    for ours, theirs in zip(merged, whole, strict=True):
        for mine, other in zip(ours["targets"], theirs["targets"], strict=True):
            assert mine["class_idx"] == other["class_idx"]
            assert mine["logit"] == pytest.approx(other["logit"], abs=1e-3)
            one, two = (
                read_image(path)
                for path in (manifest.parent / mine["files"]["overlay"], unbroken / other["files"]["overlay"])
            )
            assert np.abs(one.astype(int) - two).mean() < 0.5  # the same colour scale
    about = json.loads((manifest.parent / "run.json").read_text())
    assert (about["explained"], about["failed"]) == (COUNT - 1, 1)
    if not apart:  # and it is a run like any other
        assert run(classifier, folder, outs[0]).earlier == COUNT


def test_a_part_that_lacks_is_told(classifier, folder, tmp_path):
    run(classifier, folder, tmp_path, shard=(1, 2))
    with pytest.raises(UsageError, match="does not hold the part 2/2 of the run just once"):
        merge_shards([tmp_path])
    run(classifier, folder, tmp_path / "b", shard=(2, 2), opacity=0.4)
    with pytest.raises(UsageError, match=r"another option opacity \(0\.4\)"):
        merge_shards([tmp_path, tmp_path / "b"])


def test_a_part_that_is_not_finished_is_told(classifier, folder, tmp_path):
    run(classifier, folder, tmp_path, shard=(1, 1))
    about = json.loads((tmp_path / "run.1-of-1.json").read_text())
    del about["explained"]
    (tmp_path / "run.1-of-1.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match="not finished"):
        merge_shards([tmp_path])


def test_a_part_with_another_scale_or_without_its_lines_is_told(classifier, folder, tmp_path):
    for index in (1, 2):
        run(classifier, folder, tmp_path, shard=(index, 2))
    place = tmp_path / "run.2-of-2.json"
    about = json.loads(place.read_text())
    place.write_text(json.dumps({**about, "scale": 2 * about["scale"]}))
    with pytest.raises(UsageError, match="a colour scale of its own"):
        merge_shards([tmp_path])
    place.write_text(json.dumps(about))
    manifest = tmp_path / "manifest.2-of-2.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-5])
    with pytest.raises(UsageError, match="does not have the lines that its run wrote"):
        merge_shards([tmp_path])


def test_whole_batches_are_kept(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    pictures = list(enumerate(find_pictures([tmp_path])))
    folder = RunFolder(tmp_path)
    with ManifestWriter(folder.manifest) as manifest:
        for index, picture in pictures[:7]:
            stamp = picture.stamped().stamp._asdict()
            line = {"index": index, "path": str(picture.path), "name": str(picture.name), **stamp, "status": "ok"}
            manifest.add({**line, "targets": []})
    assert resume(folder, pictures, 4) == (4, [tuple(pictures[4:8]), tuple(pictures[8:])])
    assert len(list(read_records(folder.manifest))) == 4
    assert resume(folder, pictures[:4], 3) == (4, [])
    assert resume(folder, pictures[4:], 1) == (0, [(picture,) for picture in pictures[4:]])
    assert folder.manifest.read_bytes() == b""
