"""Patterns and shards choose among the images."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from cam.errors import UsageError
from cam.images.find import Picture, find_pictures, shard


def test_a_pattern_matches_the_path_inside_the_input_or_the_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cats/1.jpg", "cats/big/2.jpg", "dogs/1.png", "dogs/cat.png"):
        Path("p", name).parent.mkdir(parents=True, exist_ok=True)
        Path("p", name).touch()

    def chosen(*patterns, inputs=("p",)):
        return [str(picture.name) for picture in find_pictures(inputs, patterns=patterns)]

    assert chosen("*.png") == ["dogs/1.png", "dogs/cat.png"]
    assert chosen("1.*") == ["cats/1.jpg", "dogs/1.png"]
    assert chosen("cats/*") == ["cats/1.jpg", "cats/big/2.jpg"]
    assert chosen("[a-c]*.png") == ["dogs/cat.png"]
    assert chosen("*.png", "big/*", "cats/b*") == ["cats/big/2.jpg", "dogs/1.png", "dogs/cat.png"]
    assert chosen("c*") == ["dogs/cat.png"]  # and not what lies in cats
    assert chosen("big/*", inputs=["p/dogs/1.png", "p/cats"]) == ["dogs/1.png", "cats/big/2.jpg"]  # one is named itself
    assert chosen("cats/*", inputs=["p", "p/dogs/*.png"]) == ["cats/1.jpg", "cats/big/2.jpg"]
    for nothing in ("*.PNG", "", "["):
        with pytest.raises(UsageError, match=r"--pattern '.*' matches none of 4 images\. Write it as in a shell"):
            chosen(nothing)


def test_every_image_is_in_one_shard_whatever_the_others_are():
    pictures = [Picture(Path(f"p/{n}.jpg"), PurePosixPath(f"{n}.jpg")) for n in range(3000)]
    pictures.append(Picture(Path("x"), PurePosixPath(os.fsdecode(b"caf\xe9"))))
    shares = [shard(pictures, (index, 3)) for index in (1, 2, 3)]
    assert sorted(pair for share in shares for pair in share) == list(enumerate(pictures))
    assert all(900 < len(share) < 1100 for share in shares)
    assert all(share == sorted(share) for share in shares)
    assert shard(pictures[::7], (2, 3)) == [(index // 7, picture) for index, picture in shares[1] if index % 7 == 0]
    elsewhere = [Picture(Path("/other/disk") / picture.name, picture.name) for picture in pictures]
    assert [index for index, _ in shard(elsewhere, (1, 3))] == [index for index, _ in shares[0]]
    assert [str(picture.name) for _, picture in shares[0][:3]] == ["0.jpg", "6.jpg", "10.jpg"]  # in every version
    assert shard(pictures, None) == shard(pictures, (1, 1)) == list(enumerate(pictures))


@pytest.mark.parametrize(("index", "count"), [(0, 3), (4, 3), (-1, 3), (1, 0)])
def test_unknown_shards_are_errors(index, count):
    with pytest.raises(UsageError, match=f"--shard must be I/N with I from 1 to N, got {index}/{count}"):
        shard([], (index, count))
