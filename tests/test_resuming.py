"""A run that was cut short, or has other inputs now, explains what is not done and gives what a single run gives."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from runs import CutError, animals, assert_same_results, contents, cut_after, explain_into, lines, write_photos
from small import photo
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.errors import DiskFullError, StoppedError, UsageError
from cam.images.io import write_image
from cam.runs.folder import RunFolder
from cam.runs.manifest import files_of
from cam.runs.options import first_difference

COUNT = 12


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return animals()


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_photos(tmp_path / "photos", COUNT)


@pytest.fixture
def out(classifier, folder, tmp_path) -> Path:
    """The results of a finished run."""
    explain_into(tmp_path / "out", classifier, folder, scale=2.0)
    return tmp_path / "out"


def check_like_fresh(out: Path, classifier: Classifier, *inputs: Path) -> None:
    explain_into(out.with_name("fresh"), classifier, *inputs, scale=2.0)
    assert_same_results(out, out.with_name("fresh"))


def scale(out: Path) -> float:
    return json.loads((out / "run.json").read_text())["scale"]


@pytest.mark.parametrize("after", [1, 3, 4, 9, COUNT])
def test_a_run_that_was_cut_short_is_resumed(classifier, folder, tmp_path, after):
    (folder / "7.png").write_bytes(b"torn")
    out = tmp_path / "out"
    with pytest.raises(CutError):
        explain_into(out, classifier, folder, report=cut_after(after))
    done = [line for line in lines(out) if line["status"] == "ok"]
    before = {name: (out / name).stat().st_mtime_ns for line in done for name in files_of(line)}
    assert after - (after > 7) <= len(done) < after + 4  # with the rest of the batch
    again = explain_into(out, classifier, folder)
    assert (again.explained, again.failed, again.earlier) == (COUNT - 1, 1, len(done))
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before  # not written again
    explain_into(tmp_path / "fresh", classifier, folder)
    assert_same_results(out, tmp_path / "fresh")


def test_a_finished_run_does_nothing_again(classifier, folder, out, monkeypatch):
    before = contents(out)
    monkeypatch.setattr("cam.runs.batches.explain_images", None)  # would be called
    records = []
    again = explain_into(out, classifier, folder, scale=2.0, report=records.append)
    assert (again.explained, again.failed, again.earlier) == (COUNT, 0, COUNT)
    assert records == lines(out)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("end", "more"), [(1, b""), (1000, b""), (-1, b""), (-300, b""), (1000, b"\xff\n"), (None, b'{"mine": 1}\n')]
)
def test_a_torn_manifest_is_repaired(classifier, folder, out, end, more):
    manifest = out / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:end] + more)
    explain_into(out, classifier, folder, scale=2.0)
    check_like_fresh(out, classifier, folder)


def test_missing_and_empty_results_are_written_again_and_unfinished_files_removed(classifier, folder, out):
    next(out.glob("11.png*")).unlink()
    next(out.glob("3.png*")).write_bytes(b"")  # as a power cut may leave it
    (out / ".unfinished").mkdir()
    (out / ".unfinished" / ".1234.part").write_bytes(b"half")
    assert explain_into(out, classifier, folder, scale=2.0).earlier == COUNT - 2
    check_like_fresh(out, classifier, folder)


def test_of_two_lines_of_an_image_the_first_stays(classifier, folder, out):
    manifest, before = out / "manifest.jsonl", lines(out)
    again = json.dumps({**before[5], "targets": []}) + "\n"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in before[:8]) + again)
    assert explain_into(out, classifier, folder, scale=2.0).earlier == 8
    assert lines(out)[:8] == before[:8]
    check_like_fresh(out, classifier, folder)


@pytest.mark.parametrize("missing", ["lines", "manifest"])
def test_without_its_lines_a_run_begins_again(classifier, folder, out, missing):
    (out / "manifest.jsonl").unlink() if missing == "manifest" else (out / "manifest.jsonl").write_bytes(b"")
    assert explain_into(out, classifier, folder, scale=3.0).earlier == 0
    assert scale(out) == 3.0


def test_added_images_are_explained_and_sorted_in(classifier, folder, out):
    write_image(folder / "0.5.png", photo(40, 50, seed=99))
    again = explain_into(out, classifier, folder, scale=2.0)
    assert (again.explained, again.earlier) == (COUNT + 1, COUNT)
    assert [line["name"] for line in lines(out)][:3] == ["0.5.png", "0.png", "1.png"]
    assert [line["index"] for line in lines(out)] == list(range(COUNT + 1))
    check_like_fresh(out, classifier, folder)


def test_removed_images_lose_their_lines_and_keep_their_files(classifier, folder, out):
    before = contents(out)
    for number in (1, 2, 3):
        (folder / f"{number}.png").unlink()
    again = explain_into(out, classifier, folder, scale=2.0)
    assert (again.explained, again.earlier) == (COUNT - 3, COUNT - 3)
    assert [line["index"] for line in lines(out)] == list(range(COUNT - 3))
    assert contents(out).keys() == before.keys()


@pytest.mark.parametrize("change", ["time", "moment", "size"])
def test_an_image_of_another_time_or_size_is_explained_again(classifier, folder, out, change):
    changed = folder / "5.png"
    before = changed.stat()
    if change == "time":
        os.utime(changed, (before.st_atime, before.st_mtime + 1))
    elif change == "moment":  # of the same second
        second, moment = divmod(before.st_mtime_ns, 10**9)
        os.utime(changed, ns=(before.st_atime_ns, second * 10**9 + (moment + 10**9 // 2) % 10**9))
    else:
        write_image(changed, photo(41, 51, seed=77))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert explain_into(out, classifier, folder, scale=2.0).earlier == COUNT - 1
    check_like_fresh(out, classifier, folder)


def test_failed_images_are_always_tried_again(classifier, folder, tmp_path):
    out, inputs = tmp_path / "out", [*sorted(folder.iterdir()), folder / "late.png"]
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(b"torn")
    for _ in range(2):
        again = explain_into(out, classifier, *inputs, scale=2.0)
        assert (again.explained, again.failed) == (COUNT - 1, 2)
    assert again.earlier == COUNT - 1
    (folder / "5.png").write_bytes(good)
    write_image(folder / "late.png", photo(40, 50))
    again = explain_into(out, classifier, *inputs, scale=2.0)
    assert (again.explained, again.failed, again.earlier) == (COUNT + 1, 0, COUNT - 1)
    check_like_fresh(out, classifier, *inputs)


def test_images_of_one_name_in_other_folders_are_not_mixed_up(classifier, folder, tmp_path):
    inner = folder / "inner" / "0.png"  # alone its name is 0.png, with the other one inner/0.png
    write_image(inner, photo(40, 60, seed=123))
    explain_into(tmp_path / "out", classifier, inner, scale=2.0)
    assert explain_into(tmp_path / "out", classifier, folder / "0.png", scale=2.0).earlier == 0
    check_like_fresh(tmp_path / "out", classifier, folder / "0.png")


def test_relative_paths_from_another_directory_are_other_images(classifier, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "b" / "photos")  # of the same sizes and times
    for directory, earlier in [(tmp_path, 0), (tmp_path, COUNT), (tmp_path / "b", 0)]:
        monkeypatch.chdir(directory)
        assert explain_into(tmp_path / "out", classifier, "photos").earlier == earlier


def test_images_of_one_path_have_a_line_each(classifier, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x.png", "/x.png"):  # the second leads out of the archive and is refused
            archive.writestr(name, (write_photos(tmp_path / "photos", 1) / "0.png").read_bytes())
    explain_into(tmp_path / "out", classifier, tmp_path / "a.zip")
    assert sorted(line["status"] for line in lines(tmp_path / "out")) == ["failed", "ok"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_archive_only_changed_members_are_explained_again(classifier, folder, tmp_path, kind):
    out, packed = tmp_path / "out", tmp_path / f"photos.{kind}"
    shutil.make_archive(str(tmp_path / "photos"), kind, folder)
    explain_into(out, classifier, packed, scale=2.0)
    os.utime(packed)
    assert explain_into(out, classifier, packed, scale=2.0).earlier == COUNT
    write_image(folder / "5.png", photo(48, 50, seed=77))
    shutil.make_archive(str(tmp_path / "photos"), kind, folder)
    assert explain_into(out, classifier, packed, scale=2.0).earlier == COUNT - 1
    check_like_fresh(out, classifier, packed)


def test_the_scale_stays_while_any_line_does(classifier, folder, tmp_path):
    out = tmp_path / "out"
    explain_into(out, classifier, folder)
    before = scale(out)
    for number in range(1, COUNT):
        write_image(folder / f"{number}.png", photo(44, 50, seed=number + 50))
    explain_into(out, classifier, folder)
    assert scale(out) == before
    write_image(folder / "0.png", photo(44, 50, seed=50))
    for number in range(1, COUNT):
        write_image(folder / f"{number}.png", photo(48, 50, seed=number + 80))
    explain_into(out, classifier, folder)
    assert scale(out) != before


def test_other_weights_are_refused(classifier, folder, out):
    other = cam.wrap(nn.Sequential(*list(classifier.network)[:-1], nn.Linear(8, 3)), input_size=32)
    with pytest.raises(UsageError, match=r"with other settings \(weights: .* Add --overwrite, or"):
        explain_into(out, other, folder, scale=2.0)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"format": "jpg"}, 'format: "png", not "jpg"'),
        ({"scale": 1.0}, "scale: 2.0, not 1.0"),
        ({"opacity": 0.4}, "opacity: 0.85, not 0.4"),
        ({"save": frozenset({"overlay", "cam"})}, r'save: \["overlay"\], not \["cam", "overlay"\]'),
        ({"shard": (1, 2), "opacity": 0.4}, "opacity: 0.85, not 0.4"),
    ],
)
def test_other_settings_are_refused_until_told_to_overwrite(classifier, folder, out, changed, difference):
    before = contents(out)
    options = {"scale": 2.0, **changed}
    with pytest.raises(UsageError, match=rf"holds results with other settings \({difference}\)"):
        explain_into(out, classifier, folder, **options)
    assert contents(out) == before
    assert explain_into(out, classifier, folder, **options, overwrite=True).earlier == 0
    assert contents(out).keys() >= {name for name in before if name.endswith(".png")}


def test_options_that_change_no_result_may_change(classifier, folder, out, tmp_path):
    changed = {"batch_size": 5, "on_error": "stop", "csv": tmp_path / "a.csv"}
    assert explain_into(out, classifier, folder, scale=2.0, **changed).earlier == COUNT
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + COUNT


def test_the_first_failed_image_can_stop_the_run(classifier, folder, tmp_path):
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(b"torn")
    with pytest.raises(StoppedError, match=r"5\.png.*not an image.*resume"):
        explain_into(tmp_path / "out", classifier, folder, on_error="stop", scale=2.0)
    first, rest = lines(tmp_path / "out")[:6], lines(tmp_path / "out")[6:]  # of the batch
    assert [line["status"] for line in first] == [*["ok"] * 5, "failed"]
    assert all(line["status"] == "ok" for line in rest)
    (folder / "5.png").write_bytes(good)
    assert explain_into(tmp_path / "out", classifier, folder, on_error="stop", scale=2.0).earlier == 5 + len(rest)
    check_like_fresh(tmp_path / "out", classifier, folder)


def test_a_full_disk_ends_the_run_and_it_is_resumed_later(classifier, folder, tmp_path, monkeypatch):
    original, written = Path.open, []

    def fill(path, *mode, **more):
        if path.parent.name == ".unfinished":
            written.append(path)
            if len(written) > 11:
                raise OSError(28, "No space left on device")
        return original(path, *mode, **more)

    monkeypatch.setattr(Path, "open", fill)
    with pytest.raises(DiskFullError, match=r"No space left on device.*free disk space"):
        explain_into(tmp_path / "out", classifier, folder, scale=2.0, batch_size=1)
    monkeypatch.undo()
    done = len(lines(tmp_path / "out"))
    assert 4 <= done <= 10
    assert explain_into(tmp_path / "out", classifier, folder, scale=2.0).earlier == done
    check_like_fresh(tmp_path / "out", classifier, folder)


def test_two_runs_in_one_folder_are_refused(classifier, folder, tmp_path):
    out = tmp_path / "out"
    with RunFolder(out).locked(), pytest.raises(UsageError, match=r"Another cam explain is writing to .*\. Wait until"):
        explain_into(out, classifier, folder)
    assert list(out.iterdir()) == []
    with RunFolder(out).locked():  # other shards may be written there
        assert explain_into(out, classifier, folder, shard=(1, 40)).failed == 0


@pytest.mark.parametrize(
    ("changes", "weights", "difference"),
    [
        ({"target": ["top2", "cat"]}, "1", "--target top1, now --target top2,cat"),
        ({"model": "/x/a.py:make", "tta": True}, "1", "no --tta, now --tta"),
        ({"model": "b.py:make"}, "2", "--model a.py:make, now --model b.py:make"),
        ({"out": "b", "device": "cuda"}, "2", 'weights: "1", not "2"'),
    ],
)
def test_the_first_option_that_differs_is_named_as_typed(changes, weights, difference):
    arguments = {"model": "a.py:make", "target": ["top1"], "tta": False, "out": "a", "device": "cpu"}
    before = {"arguments": arguments, "settings": {"weights": "1"}}
    now = {"arguments": {**arguments, **changes}, "settings": {"weights": weights}}
    assert first_difference(before, now) == difference
