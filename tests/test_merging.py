"""Parts of a run, merged, are the whole run; parts that do not belong together are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from thirty import COUNT, animals, pictures, run, unbroken_run

from cam.classifiers.classifier import Classifier
from cam.errors import UsageError
from cam.images.io import read_image
from cam.runs.manifest import read_records
from cam.runs.merge import merge_shards


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return animals()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def unbroken(classifier, folder, tmp_path_factory) -> Path:
    return unbroken_run(classifier, folder, tmp_path_factory.mktemp("unbroken"))


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
    whole = list(read_records(unbroken / "manifest.jsonl"))
    merged = list(read_records(manifest))
    assert [record["path"] for record in merged] == [record["path"] for record in whole]
    for ours, theirs in zip(merged, whole, strict=True):
        for mine, other in zip(ours["targets"], theirs["targets"], strict=True):
            assert mine["class_idx"] == other["class_idx"]
            assert mine["logit"] == pytest.approx(other["logit"], abs=1e-3)
            one, two = (
                read_image(path)
                for path in (manifest.parent / mine["files"]["overlay"], unbroken / other["files"]["overlay"])
            )
            assert np.abs(one.astype(int) - two).mean() < 0.5  # the same color scale
    about = json.loads((manifest.parent / "run.json").read_text())
    assert (about["explained"], about["failed"]) == (COUNT - 1, 1)
    if not apart:  # and it is a run like any other
        assert run(classifier, folder, outs[0]).earlier == COUNT


def test_a_part_that_lacks_is_told(classifier, folder, tmp_path):
    run(classifier, folder, tmp_path, shard=(1, 2))
    with pytest.raises(UsageError, match=r"holds the part 2/2 of the run 0 times\. Explain what is missing"):
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
    with pytest.raises(UsageError, match="a color scale of its own"):
        merge_shards([tmp_path])
    place.write_text(json.dumps(about))
    manifest = tmp_path / "manifest.2-of-2.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-5])
    with pytest.raises(UsageError, match="does not have the lines that its run wrote"):
        merge_shards([tmp_path])
