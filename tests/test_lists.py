from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.images.tables import read_list


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_a_path_a_line(tmp_path: Path) -> None:
    source = written(tmp_path / "l.txt", "a b.jpg\r\n\n  \nd/\N{CAT FACE}.png\n x,y.jpg\x0b\n\x85.jpg".encode())
    assert read_list(source) == ["a b.jpg", "d/\N{CAT FACE}.png", " x,y.jpg\x0b", "\x85.jpg"]


def test_paths_that_end_with_nul_may_hold_new_lines(tmp_path: Path) -> None:
    assert read_list(written(tmp_path / "l.txt", b"a\nb.jpg\0c.jpg\r\0")) == ["a\nb.jpg", "c.jpg\r"]


def test_bytes_that_are_not_utf8_come_back_as_the_file_system_has_them(tmp_path: Path) -> None:
    for data in (b"caf\xe9.jpg\n", b"caf\xe9.jpg\0"):
        assert [os.fsencode(path) for path in read_list(written(tmp_path / "l", data))] == [b"caf\xe9.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_the_first_path(tmp_path: Path, encoding: str) -> None:
    assert read_list(written(tmp_path / "l", "caf\xe9.jpg\r\nb.jpg\r\n".encode(encoding))) == ["caf\xe9.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("path,label\na.jpg,1\nb.jpg,2\n", ["a.jpg", "b.jpg"]),
        ("label, Image \ncat,a.jpg\ndog,b.jpg\n", ["a.jpg", "b.jpg"]),
        ("id,file\n1,a.jpg\n2,b.jpg", ["a.jpg", "b.jpg"]),
        ("filename,path\nx,a.jpg\ny,b.jpg", ["a.jpg", "b.jpg"]),  # path comes before filename
        ("a.jpg,cat\nb.jpg,dog\n", ["a.jpg", "b.jpg"]),  # no names of columns: the first
        ('file\n"a,b\n""c"".jpg"\n\nshort.jpg\n', ['a,b\n"c".jpg', "short.jpg"]),
        ("label,path\ncat\ndog,b.jpg\n", ["b.jpg"]),
    ],
)
def test_the_column_of_a_table(tmp_path: Path, text: str, paths: list[str]) -> None:
    assert read_list(written(tmp_path / "l.CSV", text.encode())) == paths
    assert read_list(written(tmp_path / "l.tsv", b"n\tfile\n1\ta,b.jpg\n")) == ["a,b.jpg"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.jpg\0b.jpg\0")))
    assert read_list("-") == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("source", "saying"),
    [
        ("gone.txt", r"The list in '.*gone\.txt' cannot be read \(No such file or directory\)\. Check the path"),
        ("", r"cannot be read \(Is a directory\)"),
        ("nu\0l", r"cannot be read \(embedded null byte\)"),
        ("empty.txt", r"The list in '.*empty\.txt' names no picture\. Write a path a line"),
        ("empty.csv", "names no picture"),
        ("titles.csv", "names no picture"),
        ("long.csv", r"is no CSV \(field larger than field limit"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, source: str, saying: str) -> None:
    (tmp_path / "empty.txt").write_bytes(b"\n \r\n\0")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "titles.csv").write_text("path,label\n")
    (tmp_path / "long.csv").write_text("x" * 200_000)
    with pytest.raises(UsageError, match=saying):
        read_list(f"{tmp_path}/{source}")


def test_a_list_names_inputs_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f/1.jpg", "f/2.jpg", "x\ny.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    paths = read_list(written(tmp_path / "l", b"f\0x\ny.jpg\0missing.jpg\0f/1.jpg\0"))
    assert [str(found.name) for found in find_pictures(paths)] == ["f/1.jpg", "f/2.jpg", "x\ny.jpg", "missing.jpg"]


def test_a_picture_is_no_list(tmp_path: Path) -> None:
    for begins in (b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n", b"PK\3\4\x14\0"):
        with pytest.raises(UsageError, match=r"is a picture or an archive\. Give that as an input, without --list\."):
            read_list(written(tmp_path / "l", begins + bytes(100)))
