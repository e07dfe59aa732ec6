"""Merged shards are the whole run; shards that do not belong together are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import animals, assert_same_results, explain_into, lines, write_photos

from cam.classifiers.classifier import Classifier
from cam.errors import UsageError
from cam.runs.merge import merge_shards

COUNT = 20


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return animals()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_photos(tmp_path_factory.mktemp("photos"), COUNT)
    (folder / "7.png").write_bytes(b"torn")
    return folder


def test_shards_in_one_folder_are_merged_into_a_run_that_can_be_resumed(classifier, folder, tmp_path):
    done = [explain_into(tmp_path / "out", classifier, folder, shard=(index, 3)) for index in (1, 2, 3)]
    assert sum(shard.explained + shard.failed for shard in done) == COUNT
    assert min(shard.explained for shard in done) >= 3
    merge_shards([tmp_path / "out"])
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (about["explained"], about["failed"]) == (COUNT - 1, 1)
    for path in (tmp_path / "out").glob("*-of-3.*"):
        path.unlink()
    explain_into(tmp_path / "whole", classifier, folder)
    assert_same_results(tmp_path / "out", tmp_path / "whole")
    assert explain_into(tmp_path / "out", classifier, folder).earlier == COUNT - 1


def test_shards_in_a_folder_each_are_merged_in_the_first(classifier, folder, tmp_path):
    outs = [tmp_path / str(index) for index in (1, 2)]
    for index, out in enumerate(outs, 1):
        explain_into(out, classifier, folder, shard=(index, 2))
    assert merge_shards(outs) == outs[0] / "manifest.jsonl"
    assert [line["index"] for line in lines(outs[0])] == list(range(COUNT))
    files = [target["files"]["overlay"] for line in lines(outs[0]) for target in line["targets"]]
    assert len({(outs[0] / file).resolve() for file in files if (outs[0] / file).is_file()}) == COUNT - 1


def test_missing_shards_and_other_settings_are_refused(classifier, folder, tmp_path):
    with pytest.raises(UsageError, match="holds no shard of a run"):
        merge_shards([tmp_path])
    explain_into(tmp_path, classifier, folder, shard=(1, 2))
    with pytest.raises(UsageError, match=r"holds no shard 2/2\. Run cam explain --shard 2/2, or name its folder"):
        merge_shards([tmp_path])
    explain_into(tmp_path / "b", classifier, folder, shard=(2, 2), opacity=0.4)
    with pytest.raises(UsageError, match=r"other settings \(opacity: 0\.85, not 0\.4\)"):
        merge_shards([tmp_path, tmp_path / "b"])


def test_unfinished_shards_other_scales_and_missing_lines_are_refused(classifier, folder, tmp_path):
    for index in (1, 2):
        explain_into(tmp_path, classifier, folder, shard=(index, 2))
    path = tmp_path / "run.2-of-2.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in about.items() if name != "explained"}))
    with pytest.raises(UsageError, match="unfinished"):
        merge_shards([tmp_path])
    path.write_text(json.dumps({**about, "scale": 2 * about["scale"]}))
    with pytest.raises(UsageError, match="another color scale"):
        merge_shards([tmp_path])
    path.write_text(json.dumps(about))
    manifest = tmp_path / "manifest.2-of-2.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-5])
    with pytest.raises(UsageError, match="The shards have"):
        merge_shards([tmp_path])
    assert not (tmp_path / "manifest.jsonl").exists()


def test_more_than_nine_shards_are_merged(classifier, folder, tmp_path):
    for index in range(1, 12):
        explain_into(tmp_path, classifier, folder, shard=(index, 11), scale=2.0, save=frozenset())
    merge_shards([tmp_path])
    assert [line["name"] for line in lines(tmp_path)] == [f"{number}.png" for number in range(COUNT)]
    (tmp_path / "run.10-of-11.json").unlink()
    with pytest.raises(UsageError, match=r"holds no shard 10/11\. "):
        merge_shards([tmp_path])


def test_shards_that_have_lost_all_their_lines_are_refused(classifier, folder, tmp_path):
    for index in (1, 2):
        explain_into(tmp_path, classifier, folder / "0.png", shard=(index, 2), scale=2.0, save=frozenset())
        (tmp_path / f"manifest.{index}-of-2.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match="The shards have 0 lines for 1 images"):
        merge_shards([tmp_path])


def test_two_lines_of_one_image_are_refused(classifier, folder, tmp_path):
    for index in (1, 2):
        explain_into(tmp_path, classifier, folder, shard=(index, 2), scale=2.0, save=frozenset())
    manifest = tmp_path / "manifest.1-of-2.jsonl"
    manifest.write_bytes(manifest.read_bytes() + manifest.read_bytes().splitlines(keepends=True)[-1])
    with pytest.raises(UsageError, match="The shards have no line, or two, for image"):
        merge_shards([tmp_path])
