"""Files, folders and globs stand for images, each with a unique name."""

from __future__ import annotations

import os
import re
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cam.errors import UsageError
from cam.images import find_pictures
from cam.images.find import check_output, describe_left_out, natural_sort_key


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*inputs: str | Path, exclude: Path | None = None) -> list[str]:
    return [str(picture.name) for picture in find_pictures(inputs, exclude)]


def test_a_folder_gives_its_images_in_natural_order():
    make("p/img10.jpg", "p/img9.JPEG", "p/IMG2.png", "p/b/1.webp", "p/notes.txt", "p/b/x.json")
    assert names("p") == ["b/1.webp", "IMG2.png", "img9.JPEG", "img10.jpg"]
    assert find_pictures(["p"])[0].path == Path("p/b/1.webp")
    assert names() == []


def test_hidden_files_and_folders_are_left_out_unless_named():
    make("p/a.jpg", "p/._a.jpg", "p/.trash/b.jpg")
    assert names("p") == ["a.jpg"]
    assert names("p/.trash") == ["b.jpg"]
    assert names("**/*.jpg") == ["p/a.jpg"]


def test_a_named_file_is_taken_whatever_it_is():
    make("a.dat", "b.jpg")
    assert names("b.jpg", "missing.jpg", "a.dat") == ["b.jpg", "missing.jpg", "a.dat"]
    assert find_pictures(["./b.jpg"])[0].path == Path("b.jpg")


def test_names_are_relative_to_the_common_folder():
    make("x/a.jpg", "y/a.jpg", "y/a.png", "y/z/a.jpg")
    assert names("x/a.jpg", "y/a.jpg", "y/a.png") == ["x/a.jpg", "y/a.jpg", "y/a.png"]
    assert names("y/a.jpg", "y/a.png") == ["a.jpg", "a.png"]
    assert names("x", "y/z") == ["x/a.jpg", "y/z/a.jpg"]
    assert names("y", "y/z/a.jpg") == ["a.jpg", "a.png", "z/a.jpg"]
    assert names("y/z", "y/a.png") == ["z/a.jpg", "a.png"]


def test_the_same_image_counts_once(here):
    make("x/a.jpg", "x/b.jpg")
    Path("link").symlink_to("x")
    inputs = ["x/b.jpg", "x", here / "x" / "a.jpg", "./x/../x/a.jpg", "x/*.jpg", "link"]
    assert names(*inputs) == ["b.jpg", "a.jpg"]
    assert [str(picture.path) for picture in find_pictures(["x/b.jpg", "link"])] == ["x/b.jpg", "link/a.jpg"]


def test_dots_after_a_link_do_not_mix_up_files():
    """`link/..` is the parent of the target of the link, not of the link."""
    make("a.jpg", "far/away/c.jpg", "far/a.jpg")
    Path("link").symlink_to("far/away")
    assert names("a.jpg", "link/../a.jpg") == ["a.jpg", "far/a.jpg"]


def test_links_are_followed_and_loops_end():
    make("p/a.jpg", "q/b.jpg")
    Path("p/up").symlink_to("..")
    Path("p/self").symlink_to(".")
    Path("p/q").symlink_to("../q")
    Path("p/broken.jpg").symlink_to("nowhere.jpg")
    assert names("p") == ["a.jpg", "broken.jpg", "q/b.jpg"]
    assert sorted(names("**/*.jpg")) == ["p/a.jpg", "p/broken.jpg", "q/b.jpg"]


def test_globs():
    make("p/1.jpg", "p/2.png", "p/q/3.jpg", "p/q/r/4.jpg", "p/5.txt", "p[1]/6.jpg")
    assert names("p/*.jpg") == ["1.jpg"]
    assert names("p/**/*.jpg") == ["1.jpg", "q/3.jpg", "q/r/4.jpg"]
    assert names("p/?.*") == ["1.jpg", "2.png"]
    assert names("p/q/[34].jpg") == ["3.jpg"]
    assert names("p/*") == ["1.jpg", "2.png", "q/3.jpg", "q/r/4.jpg"]
    assert names("**") == ["p/1.jpg", "p/2.png", "p/q/3.jpg", "p/q/r/4.jpg", "p[1]/6.jpg"]
    assert names("p[1]/6.jpg") == ["6.jpg"]  # it exists, so it is not a glob
    assert names(Path.cwd() / "p" / "*.jpg") == ["1.jpg"]
    assert names("../work/p/*.jpg") == ["1.jpg"]


@pytest.mark.parametrize("source", ["empty", "p/*.png", "**/*.gif", "p[", "nowhere/*.jpg", "gone/..", "p/**a/*.jpg"])
def test_an_input_without_images_is_named_in_the_error(source):
    make("p/a.jpg", "empty/notes.txt")
    verb = "holds" if source in ("empty", "gone/..") else "matches"
    with pytest.raises(UsageError, match=re.escape(f"{source!r} {verb} no image")):
        find_pictures(["p", source])


def test_a_dash_that_is_not_a_file_is_refused_with_a_hint():
    with pytest.raises(UsageError, match=r"called '-'. Give a list of images on standard input with --list -"):
        find_pictures(["-"])
    make("-")
    assert names("-") == ["-"]


def test_a_folder_with_the_name_of_an_image():
    make("p/a.jpg", "p/x.jpg/inner.png")
    assert names("p") == names("p/*.jpg") == ["a.jpg", "x.jpg"]  # in a folder: one bad image
    assert names("p/x.jpg") == ["inner.png"]  # named: a folder


@pytest.mark.parametrize("source", ["p", "p/*", "p/**/*.jpg"])
def test_the_folder_of_results_is_left_out_unless_named(source):
    make("p/a.jpg", "p/out/a.jpg", "p/out/deep/b.jpg")
    assert names(source, exclude=Path("p/out")) == ["a.jpg"]
    assert names("p/out/a.jpg", exclude=Path("p/out")) == ["a.jpg"]


def test_names_that_are_not_utf8():
    name = os.fsdecode(b"caf\xe9.jpg")
    make(f"p/{name}")
    assert names("p") == names(f"p/{name}") == names("p/*.jpg") == [name]
    with pytest.raises(UsageError, match="matches no image"):
        find_pictures([os.fsdecode(b"\xff*")])


def test_a_folder_that_cannot_be_listed(monkeypatch):
    make("p/a.jpg", "p/locked/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"'p/locked' cannot be listed \(Permission denied\)\. Change its"):
        find_pictures(["p/locked"])
    assert names("p") == ["a.jpg", "locked"]  # so that it costs a line, not the run
    assert [str(picture.path) for picture in find_pictures(["p"], patterns=["x*.jpg"])] == ["p/locked"]


@pytest.mark.parametrize(("source", "patterns"), [("p", ()), ("p/*", ()), ("p/**", ()), (".", ("*.*",))])
def test_files_that_are_not_read_are_counted_once(source, patterns):
    make("p/a.jpg", "p/b.JXL", "p/q/c.jxl", "p/q/scan.dcm", "p/.hidden.dcm", "p/.d/e.dcm", "p/out/heat.npy")
    left_out: Counter[str] = Counter()
    find_pictures([source, "p"], Path("p/out"), patterns=patterns, left_out=left_out)
    assert left_out == {".jxl": 2, ".dcm": 1}


def test_files_that_no_pattern_asks_for_are_not_counted_as_unread():
    make("p/a.jpg", "p/b.jxl", "p/notes")
    for patterns, expected in ((("*.jpg",), {}), ((), {".jxl": 1, "no suffix": 1})):
        left_out: Counter[str] = Counter()
        find_pictures(["p"], patterns=patterns, left_out=left_out)
        assert left_out == expected


def test_an_input_of_files_that_are_not_read_says_which():
    make("p/1.dcm", "p/2.DCM")
    with pytest.raises(UsageError, match=r"'p' holds no image \(2 files left out: \.dcm 2\)\. Give another"):
        find_pictures(["p"])


def test_left_out_suffixes_are_sorted_by_count_and_cut():
    many = {f".{letter}": count for count, letter in enumerate("abcdefghij", 1)}
    assert describe_left_out(many) == "55 files left out: .j 10, .i 9, .h 8, .g 7, .f 6, .e 5, .d 4, .c 3, ..."
    assert describe_left_out({".heic": 1}) == "1 file left out: .heic 1; pip install 'gapcam[heic]' to read .heic"
    assert describe_left_out({".zip": 2}) == "2 files left out: .zip 2; give .zip as inputs themselves"


def test_thousands_of_digits_are_a_number_too():
    one, two = ("9" * 5000, "1" + "0" * 5000)
    assert sorted([f"{two}.jpg", f"{one}.jpg", "007.jpg", "10.jpg"], key=natural_sort_key) == [
        "007.jpg",
        "10.jpg",
        f"{one}.jpg",
        f"{two}.jpg",
    ]


PARTS = st.sampled_from(["a", "b", "..", ".", "c.jpg", "d.png", "x*", "**", "link", "", "/", "[", "a.jpg"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=3))
def test_names_are_unique_and_never_lead_upwards(here, inputs):
    inputs = [str(here) + path if path.startswith("/") else path for path in inputs]  # not all of the disk
    make("a/b/c.jpg", "a/b/d.png", "b/a/c.jpg", "b/a/d.png")
    if not Path("link").is_symlink():
        Path("link").symlink_to("a/b")
    try:
        pictures = find_pictures(inputs)
    except UsageError:
        return
    assert len({picture.name for picture in pictures}) == len(pictures) > 0
    for picture in pictures:
        assert not picture.name.is_absolute()
        assert picture.name.parts
        assert ".." not in picture.name.parts


def test_an_output_folder_inside_an_input_folder_is_refused():
    make("p/a.jpg", "q/b.jpg")
    Path("link").symlink_to("p")
    for out in ("p", "p/out", "./p/x/../out", "link/out"):
        with pytest.raises(UsageError, match=r"lies in the input folder 'p'\. Choose an output folder outside it"):
            check_output(["q/b.jpg", "p"], Path(out))
    with pytest.raises(UsageError, match="input folder 'link'"):
        check_output(["link"], Path("p/out"))
    for out in ("p-out", "out/p", "."):
        check_output(["p", "missing.jpg", "*.jpg"], Path(out))
    check_output(["p/a.jpg"], Path("p"))


def test_many_images_are_listed_in_seconds_and_take_little_memory():
    for folder in range(20):
        Path(f"p/{folder}").mkdir(parents=True)
        for number in range(500):
            os.close(os.open(f"p/{folder}/img_{number:05d}.jpg", os.O_CREAT | os.O_WRONLY))
    started = time.process_time()
    pictures = find_pictures(["p"])
    assert time.process_time() - started < 2
    assert len(pictures) == 10_000
    tracemalloc.start()
    pictures = find_pictures(["p"])
    assert tracemalloc.get_traced_memory()[0] < 700 * len(pictures)
    tracemalloc.stop()


def test_results_among_the_files_of_a_glob_are_not_left_out_files():
    make("p/a.jpg", "p/b.dcm", "p/out/a.npz")
    left_out: Counter[str] = Counter()
    assert len(find_pictures(["p/**/*"], Path("p/out"), left_out=left_out)) == 1
    assert left_out == {".dcm": 1}


def test_of_two_ways_to_a_folder_the_first_by_name_is_taken():
    make("p/z/1.jpg", "p/b/1.jpg")
    for link, folder in (("a", "z"), ("y", "b")):
        Path("p", link).symlink_to(folder)
    assert names("p") == ["a/1.jpg", "b/1.jpg"]
