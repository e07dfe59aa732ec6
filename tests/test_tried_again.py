"""What failed through no fault of a picture is tried again; what a run has found out is kept where it is cut short."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from runs import contents
from small import photo, wrapped

from cam.classifiers.classifier import Classifier
from cam.errors import StoppedError
from cam.images.content import fingerprint
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.images.read import Limits
from cam.runs.manifest import Record, read_records
from cam.runs.options import RunOptions
from cam.runs.run import Run, explain_folder

COUNT = 12  # three batches


class CutError(Exception):
    """Stands for what ends a run at any moment."""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return wrapped()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for number in range(COUNT):
        write_image(folder / f"{number}.png", photo(40, 50 + number % 3, seed=number))
    return folder


def run(classifier: Classifier, inputs: Path | list[Path], out: Path, report=lambda record: None, **options) -> Run:
    found = find_pictures(inputs if isinstance(inputs, list) else [inputs])
    return explain_folder(classifier, found, out, RunOptions(**options), {}, report)


def records(out: Path) -> list[Record]:
    return list(read_records(out / "manifest.jsonl"))


def scale(out: Path) -> float:
    return json.loads((out / "run.json").read_text())["scale"]


def cut_after(count: int):
    told = []

    def cut(record):
        told.append(record)
        if len(told) == count:
            raise CutError

    return cut


def test_what_the_system_did_is_tried_again_when_the_run_is_at_its_end(classifier, folder, tmp_path, monkeypatch):
    original = Path.open

    def short_of_files(path, *mode, **more):
        if path.name in ("1.png", "9.png"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return original(path, *mode, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", short_of_files)
        with pytest.raises(CutError):
            run(classifier, folder, tmp_path / "out", cut_after(7))
        assert [record["retry"] for record in records(tmp_path / "out")] == [n == 1 for n in range(7)]
        first = run(classifier, folder, tmp_path / "out")
        assert (first.explained, first.failed, first.earlier) == (COUNT - 2, 2, 4)  # not yet at its end: nothing again
    again = run(classifier, folder, tmp_path / "out")
    assert (again.explained, again.failed, again.earlier) == (COUNT, 0, 4)
    run(classifier, folder, tmp_path / "fresh")
    assert contents(tmp_path / "out").keys() == contents(tmp_path / "fresh").keys()


def test_what_can_only_fail_again_is_not_tried_again(classifier, folder, tmp_path):
    """Missing files, and a model that does not fit: as many as there are, the others are not made again for them."""
    inputs = [path for number in range(COUNT) for path in (folder / f"{number}.png", folder / f"gone{number}.png")]
    first = run(classifier, inputs, tmp_path / "out")
    assert (first.explained, first.failed) == (COUNT, COUNT)
    assert run(classifier, inputs, tmp_path / "out").earlier == 2 * COUNT


def test_pictures_of_one_path_have_a_line_each(classifier, folder, tmp_path):
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    write_image(tmp_path / "elsewhere" / "0.png", photo(40, 50, seed=99))
    done = run(classifier, [folder, folder / "sub"], tmp_path / "out")
    assert len(records(tmp_path / "out")) == done.explained == len(list((tmp_path / "out").rglob("*.jpg")))
    again = run(classifier, [folder, folder / "sub"], tmp_path / "out")
    assert again.earlier == done.explained
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in ("x.png", "/x.png"):  # the one that leads out is refused, and told of
            packed.writestr(name, (folder / "0.png").read_bytes())
    run(classifier, tmp_path / "a.zip", tmp_path / "packed")
    assert sorted(record["status"] for record in records(tmp_path / "packed")) == ["failed", "ok"]


def test_the_scale_outlives_the_lines(classifier, folder, tmp_path):
    """All pictures have changed, and the run is cut short before the first is explained anew."""
    out = tmp_path / "out"
    run(classifier, folder, out)
    before = scale(out)
    for number in range(COUNT):
        write_image(folder / f"{number}.png", photo(44, 50, seed=number + 50))
    with pytest.raises(CutError):
        run(classifier, folder, out, cut_after(1))
    (out / "manifest.jsonl").write_bytes(b"")  # not even that line
    run(classifier, folder, out)
    assert scale(out) == before
    (folder / "0.png").write_bytes(b"torn")
    with pytest.raises(StoppedError):
        run(classifier, folder, out, on_error="stop")
    write_image(folder / "0.png", photo(44, 50, seed=50))
    run(classifier, folder, out)
    assert scale(out) == before


def test_the_scale_is_of_pictures_that_could_be_explained(classifier, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.runs.run._PICTURES", 4)
    run(classifier, folder, tmp_path / "good")
    for number in range(8):
        (folder / f"!{number}.png").write_bytes(b"torn")
    run(classifier, folder, tmp_path / "out")
    assert scale(tmp_path / "out") == scale(tmp_path / "good")


def test_a_run_that_explained_nothing_has_no_scale_to_keep(classifier, folder, tmp_path):
    sound = {path: path.read_bytes() for path in folder.iterdir()}
    for path in sound:
        path.write_bytes(b"torn")
    assert run(classifier, folder, tmp_path / "out").explained == 0
    for path, data in sound.items():
        path.write_bytes(data)
    run(classifier, folder, tmp_path / "out")
    run(classifier, folder, tmp_path / "fresh")
    assert scale(tmp_path / "out") == scale(tmp_path / "fresh") > 0


def test_looking_at_a_file_that_does_not_answer_takes_no_longer_than_it_may(classifier, folder, tmp_path, monkeypatch):
    def slow(path):
        if path.name == "3.png":
            time.sleep(20)
        return fingerprint(path)

    monkeypatch.setattr("cam.images.find.fingerprint", slow)
    began = time.monotonic()
    done = run(classifier, folder, tmp_path / "out", limits=Limits(seconds=0.3))
    assert (done.explained, done.failed) == (COUNT - 1, 1)
    assert time.monotonic() - began < 15
    assert [line["name"] for line in records(tmp_path / "out") if line["retry"]] == ["3.png"]


def test_why_an_engine_was_left_is_known_before_the_end(classifier, folder, tmp_path, monkeypatch):
    def hasty(*_):
        raise RuntimeError("cannot")

    monkeypatch.setattr("cam.engines.export.compiled", hasty)
    with pytest.raises(CutError):
        run(classifier, folder, tmp_path / "out", cut_after(COUNT), engine="compile")
    assert run(classifier, folder, tmp_path / "out", engine="compile").earlier == COUNT
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "compile cannot translate the network (RuntimeError: cannot)" in about["note"]
    shutil.rmtree(tmp_path / "out")


def test_an_engine_is_not_tried_on_all_that_is_bad(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.runs.run._TRIES", 2)
    read = []
    original = Path.open

    def counted(path, *mode, **more):
        read.append(path.name)
        return original(path, *mode, **more)

    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(b"torn")
    monkeypatch.setattr("cam.engines.export.compiled", lambda eager, shape: eager)
    monkeypatch.setattr(Path, "open", counted)
    assert run(classifier, tmp_path, tmp_path / "out", engine="compile", scale="image").failed == 40
    assert len([name for name in read if name.endswith(".png")]) == 40 + 2 * 4


def test_a_run_whose_lines_were_taken_away_begins_anew(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out)
    before = scale(out)
    (out / "manifest.jsonl").unlink()
    for number in range(COUNT):
        write_image(folder / f"{number}.png", photo(44, 50, seed=number + 50))
    run(classifier, folder, out)
    assert scale(out) != before
