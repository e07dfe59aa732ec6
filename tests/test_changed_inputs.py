"""A run over pictures that have changed since: those are explained anew, and all others keep what they have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from runs import contents
from small import photo, wrapped

from cam.classifiers.classifier import Classifier
from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.manifest import Record, read_records
from cam.runs.options import RunOptions
from cam.runs.run import Run, explain_folder

COUNT = 12  # three batches


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return wrapped()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for number in range(COUNT):
        write_image(folder / f"{number}.png", photo(40, 50 + number % 3, seed=number))
    return folder


def run(classifier: Classifier, folder: Path, out: Path, report=lambda record: None, inputs=None) -> Run:
    return explain_folder(classifier, find_pictures(inputs or [folder]), out, RunOptions(scale=2.0), {}, report)


def records(out: Path) -> list[Record]:
    return list(read_records(out / "manifest.jsonl"))


def times(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.jpg")}


def check_like_fresh(classifier: Classifier, folder: Path, out: Path, inputs: list[Path] | None = None) -> None:
    """All that there would be had nothing been there: the same files and lines, numbers within rounding."""
    fresh = out.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    run(classifier, folder, fresh, inputs=inputs)
    assert contents(out).keys() == contents(fresh).keys()
    for ours, theirs in zip(records(out), records(fresh), strict=True):
        assert {**ours, "targets": []} == {**theirs, "targets": []}
        for target, other in zip(ours["targets"], theirs["targets"], strict=True):
            assert target["class_idx"] == other["class_idx"]
            assert target["logit"] == pytest.approx(other["logit"], abs=1e-4)
            assert target["files"] == other["files"]


def test_one_in_front_costs_one_batch(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out)
    before = times(out)
    write_image(folder / "0.5.png", photo(40, 50, seed=99))
    again = run(classifier, folder, out)
    assert (again.explained, again.earlier) == (COUNT + 1, COUNT - 3)
    assert [record["name"] for record in records(out)][:3] == ["0.5.png", "0.png", "1.png"]
    assert [record["index"] for record in records(out)] == list(range(COUNT + 1))
    after = times(out)
    redone = {name.partition(".png")[0] for name in after if after[name] != before.get(name)}
    assert redone == {"0.5", "0", "1", "2"}
    check_like_fresh(classifier, folder, out)


def test_one_that_is_taken_away_takes_its_results_with_it(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out)
    before = times(out)
    (folder / "1.png").unlink()
    again = run(classifier, folder, out)
    assert (again.explained, again.earlier) == (COUNT - 1, COUNT - 1)
    gone = before.keys() - times(out).keys()
    assert {name.partition(".png")[0] for name in gone} == {"1"}
    assert times(out).items() <= before.items()
    check_like_fresh(classifier, folder, out)


@pytest.mark.parametrize("same_size", [False, True])
def test_one_that_is_written_anew_is_explained_anew(classifier, folder, tmp_path, same_size):
    out, changed = tmp_path / "out", folder / "5.png"
    run(classifier, folder, out)
    (old,) = (record for record in records(out) if record["name"] == "5.png")
    before = changed.stat()
    if same_size:  # another time is enough
        changed.write_bytes(changed.read_bytes()[:40].ljust(before.st_size, b"\0"))
        os.utime(changed, (before.st_atime, before.st_mtime + 1))
    else:  # so is another size
        write_image(changed, photo(41, 51, seed=77))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert changed.stat().st_size != before.st_size
    assert run(classifier, folder, out).earlier == COUNT - 4
    (new,) = (record for record in records(out) if record["name"] == "5.png")
    assert (new["status"] == "failed") == same_size
    assert new["targets"] != old["targets"]
    check_like_fresh(classifier, folder, out)


def test_a_bad_picture_that_is_mended_is_explained(classifier, folder, tmp_path):
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(b"torn")
    (folder / "6.png").write_bytes(b"torn too")
    first = run(classifier, folder, tmp_path / "out")
    assert (first.explained, first.failed) == (COUNT - 2, 2)
    (folder / "5.png").write_bytes(good)
    again = run(classifier, folder, tmp_path / "out")
    assert (again.explained, again.failed, again.earlier) == (COUNT - 1, 1, COUNT - 4)
    check_like_fresh(classifier, folder, tmp_path / "out")
    assert run(classifier, folder, tmp_path / "out").earlier == COUNT  # the other one has not changed


def test_what_failed_for_another_reason_than_its_file_is_tried_again(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, tmp_path / "other")
    in_the_way = out / records(tmp_path / "other")[5]["targets"][0]["files"]["overlay"]
    in_the_way.mkdir(parents=True)
    assert run(classifier, folder, out).failed == 1
    in_the_way.rmdir()
    again = run(classifier, folder, out)
    assert (again.failed, again.earlier) == (0, COUNT - 4)


def test_one_that_was_missing_is_tried_again(classifier, folder, tmp_path):
    inputs = [*sorted(folder.iterdir()), folder / "late.png"]
    assert run(classifier, folder, tmp_path / "out", inputs=inputs).failed == 1
    assert run(classifier, folder, tmp_path / "out", inputs=inputs).earlier == COUNT + 1  # still missing
    write_image(folder / "late.png", photo(40, 50))
    again = run(classifier, folder, tmp_path / "out", inputs=inputs)
    assert (again.explained, again.failed) == (COUNT + 1, 0)


def test_cut_short_while_changed_ones_are_explained_it_goes_on(classifier, folder, tmp_path):
    class CutError(Exception):
        pass

    out = tmp_path / "out"
    run(classifier, folder, out)
    for number in (1, 5):
        write_image(folder / f"{number}.png", photo(44, 50, seed=number + 50))
    told = []

    def cut(record):
        told.append(record["name"])
        if len(told) == 4 + 5:  # four lines were there, five are new
            raise CutError

    with pytest.raises(CutError):
        run(classifier, folder, out, cut)
    assert [record["index"] for record in records(out)] == [8, 9, 10, 11, 0, 1, 2, 3, 4]
    assert run(classifier, folder, out).earlier == 8
    check_like_fresh(classifier, folder, out)


def test_results_of_one_name_are_not_mixed_where_the_common_folder_changes(classifier, folder, tmp_path):
    inner = folder / "inner" / "0.png"  # by itself it is called 0.png, beside the other inner/0.png
    write_image(inner, photo(40, 60, seed=123))
    run(classifier, folder, tmp_path / "out", inputs=[inner])
    assert run(classifier, folder, tmp_path / "out", inputs=[inner, folder / "0.png"]).earlier == 0
    check_like_fresh(classifier, folder, tmp_path / "out", [inner, folder / "0.png"])


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_archive_that_is_packed_anew_what_is_new_is_read_anew(classifier, folder, tmp_path, kind):
    packed = tmp_path / f"photos.{kind}"
    shutil.make_archive(str(tmp_path / "photos"), kind, folder)
    run(classifier, folder, tmp_path / "out", inputs=[packed])
    os.utime(packed)  # a member has a size and a time of its own
    assert run(classifier, folder, tmp_path / "out", inputs=[packed]).earlier == COUNT
    write_image(folder / "5.png", photo(48, 50, seed=77))
    shutil.make_archive(str(tmp_path / "photos"), kind, folder)
    assert run(classifier, folder, tmp_path / "out", inputs=[packed]).earlier == COUNT - 4
    check_like_fresh(classifier, folder, tmp_path / "out", [packed])


def test_what_is_out_of_reach_keeps_its_results(classifier, folder, tmp_path, monkeypatch):
    """A disk that is not there, a folder that may not be listed, an archive that is damaged just now."""
    other, out = tmp_path / "other", tmp_path / "out"
    write_image(other / "sub" / "0.png", photo(40, 50, seed=70))
    shutil.make_archive(str(tmp_path / "photos"), "zip", other)
    packed = tmp_path / "photos.zip"
    inputs = [folder, other, packed]
    run(classifier, folder, out, inputs=inputs)
    before = contents(out)

    def refused(named: str) -> None:
        with pytest.raises(
            UsageError, match=rf"holds the results of 1 of 14 pictures, such as '.*{named}', that are not"
        ):
            run(classifier, folder, out, inputs=inputs)
        assert contents(out) == before

    other.rename(tmp_path / "gone")
    refused("other/sub/0.png")
    (tmp_path / "gone").rename(other)
    sound = packed.read_bytes()
    packed.write_bytes(sound[:40])
    refused("photos.zip/sub/0.png")
    packed.write_bytes(sound)
    original = os.scandir

    def locked(path):
        if str(path) == str(other / "sub"):
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", locked)
        refused("other/sub/0.png")
    assert run(classifier, folder, out, inputs=inputs).earlier >= COUNT


def test_most_results_do_not_go_without_being_asked(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out)
    before = contents(out)
    for number in range(7):
        (folder / f"{number}.png").unlink()
    with pytest.raises(
        UsageError, match=r"results of 7 of 12 pictures, .* Bring them back, or give --overwrite or ano"
    ):
        run(classifier, folder, out)
    assert contents(out) == before
    write_image(folder / "0.png", photo(40, 50))
    again = run(classifier, folder, out)
    assert (again.explained, again.gone) == (6, 6)
    check_like_fresh(classifier, folder, out)
