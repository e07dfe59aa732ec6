"""The cache gives back what was remembered under the very same key, whole, or nothing; and it does not grow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cam.heads import examine as cache
from cam.heads.examine import recall, remember


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Where the entries lie."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gapcam" / "networks"


def test_what_was_remembered_comes_back_under_its_key_alone():
    remember(b"findings", "hash", 3)
    assert recall("hash", 3) == b"findings"
    assert recall("hash", 4) is None
    assert recall("hash") is None
    remember(b"others", "hash", 3)
    assert recall("hash", 3) == b"others"


@pytest.mark.parametrize("at", [0, 31, 32, 39])
def test_a_changed_byte_anywhere_makes_an_entry_useless(folder, at):
    remember(b"findings", "key")
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    assert len(content) == 40
    content[at] ^= 1
    file.write_bytes(content)
    assert recall("key") is None


@pytest.mark.parametrize("length", [0, 5, 32, 39])
def test_a_torn_entry_is_useless(folder, length):
    remember(b"findings", "key")
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    assert recall("key") is None


def test_an_entry_under_the_name_of_another_is_useless(folder):
    remember(b"findings", "key")
    (file,) = folder.iterdir()
    remember(b"others", "other key")
    file.replace(next(path for path in folder.iterdir() if path != file))
    assert recall("other key") is None


def test_the_entries_used_last_are_kept(folder, monkeypatch):
    monkeypatch.setattr(cache, "_ENTRIES", 3)
    for number in range(3):
        remember(b"findings", number)
        (file,) = (path for path in folder.iterdir() if path.stat().st_mtime > 1000)
        os.utime(file, (number, number))
    assert recall(0) == b"findings"  # and is now the one used last
    remember(b"findings", 3)
    assert [recall(number) for number in range(4)] == [b"findings", None, b"findings", b"findings"]


def test_the_cache_does_not_outgrow_its_size(folder, monkeypatch):
    monkeypatch.setattr(cache, "_BYTES", 1000)
    for number in range(5):
        remember(bytes(400), number)
    assert len(list(folder.iterdir())) == 2
    remember(bytes(5000), "larger than all the room there is")
    assert [path.stat().st_size for path in folder.iterdir()] == [5032]


def test_a_cache_that_cannot_be_written_remembers_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember(b"findings", "key")
    assert recall("key") is None
