"""Archives that change between two runs, or while one goes on: what is read is never taken for something else."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import photo, wrapped

from cam.classifiers.classifier import Classifier
from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.manifest import Record, read_records
from cam.runs.options import RunOptions
from cam.runs.run import Run, explain_folder


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return wrapped()


def pack(archive: Path, pictures: dict[str, int]) -> bytes:
    """Names, and the seeds of bitmaps of one size, all of the same date; what was packed."""
    with zipfile.ZipFile(archive, "w") as file:
        for name, seed in pictures.items():
            Image.fromarray(photo(40, 50, seed=seed)).save(archive.with_suffix(".bmp"))
            file.writestr(zipfile.ZipInfo(name), archive.with_suffix(".bmp").read_bytes())
    archive.with_suffix(".bmp").unlink()
    return archive.read_bytes()


def run(classifier: Classifier, inputs: list[Path | str], out: Path, patterns: tuple[str, ...] = ()) -> Run:
    return explain_folder(classifier, find_pictures(inputs, patterns=patterns), out, RunOptions(scale=2.0), {})


def records(out: Path) -> list[Record]:
    return list(read_records(out / "manifest.jsonl"))


def test_a_damaged_member_is_read_again_from_a_sound_copy(classifier, tmp_path):
    packed = tmp_path / "p.zip"
    sound = pack(packed, {"a.bmp": 1, "b.bmp": 2})
    damaged = bytearray(sound)
    damaged[200] ^= 1  # a pixel of the first: what the archive says of it stays the same
    packed.write_bytes(damaged)
    os.utime(packed, (0, 1))
    first = run(classifier, [packed], tmp_path / "out")
    assert (first.explained, first.failed) == (1, 1)
    packed.write_bytes(sound)
    again = run(classifier, [packed], tmp_path / "out")
    assert (again.explained, again.failed) == (2, 0)


def test_an_archive_that_is_away_for_a_while_is_read_later(classifier, tmp_path):
    packed = tmp_path / "p.zip"
    pack(packed, {"a.bmp": 1, "b.bmp": 2})
    write_image(tmp_path / "c.png", photo(40, 50))
    inputs = [packed, tmp_path / "c.png"]
    listed = find_pictures(inputs)
    packed.rename(tmp_path / "away")
    first = explain_folder(classifier, listed, tmp_path / "out", RunOptions(scale=2.0), {})
    assert (first.explained, first.failed) == (1, 2)
    (tmp_path / "away").rename(packed)
    again = run(classifier, inputs, tmp_path / "out")
    assert (again.explained, again.failed) == (3, 0)


@pytest.mark.parametrize("what", ["archive of a glob", "folder of a glob", "link"])
def test_what_cannot_be_looked_into_keeps_its_results(classifier, tmp_path, monkeypatch, what):
    inside = tmp_path / "in"
    for name in ("a", "b"):
        write_image(inside / name / "0.png", photo(40, 50))
        write_image(inside / name / "1.png", photo(44, 50))
    write_image(tmp_path / "disk" / "2.png", photo(48, 50))
    (inside / "link").symlink_to(tmp_path / "disk")
    pack(tmp_path / "b.zip", {"2.png": 4})
    pack(tmp_path / "a.zip", {"0.png": 1, "1.png": 2, "3.png": 3})
    given = {"archive of a glob": f"{tmp_path}/*.zip", "folder of a glob": f"{inside}/**/*.png", "link": str(inside)}
    patterns = ("*.png",) if what == "archive of a glob" else ()
    run(classifier, [given[what]], tmp_path / "out", patterns)
    before = records(tmp_path / "out")
    (tmp_path / "b.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:50])
    (tmp_path / "disk").rename(tmp_path / "away")
    if what == "folder of a glob":  # which says nothing of what it cannot list
        (inside / "link").unlink()
        (inside / "b" / "0.png").unlink()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "b")
    with pytest.raises(UsageError, match=r"holds the results of 1 of .* that are not to be found any more"):
        run(classifier, [given[what]], tmp_path / "out", patterns)
    assert records(tmp_path / "out") == before
    assert all(np.asarray(record["size"]).any() for record in before)
