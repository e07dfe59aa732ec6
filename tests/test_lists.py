from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cam.errors import UsageError
from cam.images import find_pictures
from cam.images.tables import read_list


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (
            "a b.jpg\r\n\n  \nd/\N{CAT FACE}.png\n x,y.jpg\x0b\n\x85.jpg".encode(),
            ["a b.jpg", "d/\N{CAT FACE}.png", " x,y.jpg\x0b", "\x85.jpg"],
        ),
        (b"a\nb.jpg\0c.jpg\r\0", ["a\nb.jpg", "c.jpg\r"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),  # not UTF-8, but a name of a file
        (b"caf\xe9.jpg\0", [os.fsdecode(b"caf\xe9.jpg")]),
        ("caf\xe9.jpg\r\nb.jpg\r\n".encode("utf-8-sig"), ["caf\xe9.jpg", "b.jpg"]),
        ("caf\xe9.jpg\r\nb.jpg\r\n".encode("utf-16"), ["caf\xe9.jpg", "b.jpg"]),
    ],
)
def test_paths_end_with_the_line_or_with_nul(tmp_path, data, paths):
    assert read_list(write(tmp_path / "list.txt", data)) == paths


@pytest.mark.parametrize(
    ("suffix", "text", "paths"),
    [
        ("tsv", "n\tfile\n1\ta,b.jpg\n", ["a,b.jpg"]),
        ("CSV", "label, Image \ncat,a.jpg\ndog,b.jpg\n", ["a.jpg", "b.jpg"]),
        ("csv", "filename,path\nx,a.jpg\ny,b.jpg", ["a.jpg", "b.jpg"]),  # path comes before filename
        ("csv", "a.jpg,cat\nb.jpg,dog\n", ["a.jpg", "b.jpg"]),  # no names of columns: the first
        ("csv", 'file\n"a,b\n""c"".jpg"\n\nshort.jpg\n', ['a,b\n"c".jpg', "short.jpg"]),
        ("csv", "label,path\ncat\ndog,b.jpg\n", ["b.jpg"]),
    ],
)
def test_a_table_gives_its_column_of_paths(tmp_path, suffix, text, paths):
    assert read_list(write(tmp_path / f"list.{suffix}", text.encode())) == paths


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.jpg\0b.jpg\0")))
    assert read_list("-") == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("source", "data", "message"),
    [
        ("gone.txt", None, r"--list '.*gone\.txt' cannot be opened \(No such file or directory\)\. Check the path"),
        ("", None, r"cannot be opened \(Is a directory\)"),
        ("empty.txt", b"\n \r\n\0", r"--list '.*empty\.txt' names no image\. Write one path a line"),
        ("empty.csv", b"", "names no image"),
        ("titles.csv", b"path,label\n", "names no image"),
        ("long.csv", b"x" * 200_000, r"is not CSV \(field larger than field limit"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "is an image or an archive.* Give an image or an archive as an"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, source, data, message):
    if data is not None:
        write(tmp_path / source, data)
    with pytest.raises(UsageError, match=message):
        read_list(f"{tmp_path}/{source}")


def test_a_list_names_inputs_of_all_kinds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f/1.jpg", "f/2.jpg", "x\ny.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    paths = read_list(write(tmp_path / "list", b"f\0x\ny.jpg\0missing.jpg\0f/1.jpg\0"))
    assert [str(picture.name) for picture in find_pictures(paths)] == ["f/1.jpg", "f/2.jpg", "x\ny.jpg", "missing.jpg"]
