"""Images in archives are read in place, as if unpacked; bad members and archives cost one error each."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import tarfile
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import check_refused, find_one, first_value, make_tar, make_zip, png, read

from cam.errors import ImageError, UsageError
from cam.images import find_pictures, write_image

NAMES = ["b/10.png", "b/2.png", "a b/c\nd.png", "\N{CAT FACE}.png", os.fsdecode(b"caf\xe9.png")]
ORDERED = ["a b/c\nd.png", "b/2.png", "b/10.png", os.fsdecode(b"caf\xe9.png"), "\N{CAT FACE}.png"]
MAKERS = [("p.tar", make_tar), ("p.zip", make_zip)]


# The same as unpacked


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_holds_the_same_images_as_its_folder(tmp_path, form):
    for value, name in enumerate(NAMES):
        write_image(tmp_path / "p" / name, np.full((3, 3, 3), value, np.uint8))
    with tarfile.open(tmp_path / "p.tar", "w", format=form) as archive:
        archive.add(tmp_path / "p", ".")
    unpacked, members = find_pictures([tmp_path / "p"]), find_pictures([tmp_path / "p.tar"])
    assert [str(member.name) for member in members] == [str(picture.name) for picture in unpacked] == ORDERED
    assert [first_value(member) for member in members] == [NAMES.index(name) for name in ORDERED]
    assert members[1].path == tmp_path / "p.tar" / "b" / "2.png"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_holds_the_same_images_as_its_folder(tmp_path, method):
    members = [(name, png(value)) for value, name in enumerate(NAMES[:4])]
    path = make_zip(tmp_path / "p.ZIP", *members, method=method)
    pictures = find_pictures([path])
    assert [str(picture.name) for picture in pictures] == [name for name in ORDERED if name in NAMES[:4]]
    assert [first_value(picture) for picture in pictures] == [2, 1, 0, 3]
    assert pictures[1].path == path / "b" / "2.png"


def test_long_names_and_sparse_files_of_the_program_tar_are_read(tmp_path):
    path = tmp_path / "p" / ("n" * 120) / "a.png"
    write_image(path, np.full((3, 3, 3), 7, np.uint8))
    with path.open("r+b") as file:
        file.truncate(10_000_000)
    subprocess.run(["tar", "-S", "-cf", "p.tar", "p"], cwd=tmp_path, check=True)
    assert (tmp_path / "p.tar").stat().st_size < 100_000
    assert str(find_one(tmp_path / "p.tar").name) == f"p/{'n' * 120}/a.png"
    assert first_value(find_one(tmp_path / "p.tar")) == 7


def test_an_archive_counts_as_a_folder_among_other_inputs(tmp_path):
    for folder in ("x", "y"):
        write_image(tmp_path / folder / "a.png", np.zeros((3, 3, 3), np.uint8))
        make_zip(tmp_path / folder / "p.zip", ("a.png", png(1)))

    def names(*inputs):
        return [str(picture.name) for picture in find_pictures(inputs)]

    x, y = tmp_path / "x", tmp_path / "y"
    assert names(x, x / "p.zip", y / "p.zip", x / "p.zip") == ["x/a.png", "x/p.zip/a.png", "y/p.zip/a.png"]
    assert names(tmp_path / "*" / "*.zip") == ["x/p.zip/a.png", "y/p.zip/a.png"]
    assert names(x) == ["a.png"]  # archives in folders are not entered


def test_members_that_are_hidden_or_not_images_are_left_out(tmp_path):
    names = ["notes.txt", "__MACOSX/._a.png", ".t/b.png"]
    members = [("a.png", png(1)), *((name, b"x") for name in names)]
    assert str(find_one(make_zip(tmp_path / "p.zip", *members, ("f.png/", b""))).name) == "a.png"
    assert str(find_one(make_tar(tmp_path / "p.tar", *members)).name) == "a.png"
    with pytest.raises(UsageError, match=r"q\.tar' holds no image"):
        find_pictures([make_tar(tmp_path / "q.tar", members[1])])


def test_the_last_member_of_a_name_counts_as_when_unpacked(tmp_path):
    assert first_value(find_one(make_tar(tmp_path / "p.tar", ("a.png", png(1)), ("./a.png", png(2))))) == 2


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_threads_read_members_of_one_archive_at_once(tmp_path, name, make):
    pictures = find_pictures([make(tmp_path / name, *((f"{n}.png", png(n, side=40)) for n in range(60)))])
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append([*map(first_value, pictures)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(60))] * 4


# Hostile members


@pytest.mark.parametrize(
    "name", ["../e.png", "/tmp/e.png", "a/../../e.png", "..\\e.png", "C:\\e.png", "\\\\host\\e.png"]
)
def test_members_outside_the_folder_are_refused_and_named_inside(tmp_path, name):
    members = [(name, png(1)), ("_/e.png", png(2)), ("a.png", png(3))]
    for path in (make_tar(tmp_path / "p.tar", *members), make_zip(tmp_path / "p.zip", *members)):
        pictures = find_pictures([path])
        assert len({picture.name for picture in pictures}) == 3
        for picture in pictures:
            assert not picture.name.is_absolute()
            assert ".." not in picture.name.parts
        (bad,) = (picture for picture in pictures if str(picture.path) == f"{path}/{name}".replace("//", "/"))
        check_refused(bad, r"leads out of the archive's folder\. Unpack the archive by hand")
        assert sorted(first_value(picture) for picture in pictures if picture != bad) == [2, 3]


def test_a_refused_member_does_not_hide_a_good_one(tmp_path):
    path = make_tar(tmp_path / "p.tar", ("__e.png", png(2)), ("../e.png", png(1)))
    assert first_value(find_one(path)) == 2


def test_links_and_devices_are_refused(tmp_path):
    entries = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        entries.append(tarfile.TarInfo(f"{len(entries)}.png"))
        entries[-1].type, entries[-1].linkname = kind, "/etc/passwd"
    for picture in find_pictures([make_tar(tmp_path / "p.tar", *((entry, b"") for entry in entries))]):
        check_refused(picture, r"is a link or a device in the archive, not a file\. Unpack")
    link = zipfile.ZipInfo("a.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    check_refused(find_one(make_zip(tmp_path / "p.zip", (link, b"/etc/passwd"))), "is a link or a device")


def test_encrypted_empty_and_unsupported_members_are_refused(tmp_path):
    path = make_zip(tmp_path / "p.zip", ("a.png", png(1)))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    check_refused(find_one(path), r"is encrypted\. Unpack the archive by hand")
    path = make_zip(tmp_path / "q.zip", ("a.png", png(1)), method=zipfile.ZIP_LZMA)
    check_refused(find_one(path), "packed by an unsupported method")
    check_refused(find_one(make_zip(tmp_path / "r.zip", ("a.png", b""))), "is empty")


@pytest.mark.parametrize(
    ("make", "declared", "message"),
    [
        (make_zip, 50_000_000, r"has 50000000 bytes, over the limit of 1000000\..*--max-bytes"),
        (make_tar, 50_000_000, r"has 50000000 bytes, over the limit of 1000000"),
        (make_zip, 1000, "is damaged or cut short"),  # declares less than it holds
    ],
)
def test_a_bomb_is_read_no_further_than_it_declares_and_the_limit_allows(tmp_path, make, declared, message):
    path = make(tmp_path / ("p.zip" if make is make_zip else "p.tar"), ("a.png", bytes(50_000_000)))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", declared)))
    tracemalloc.start()
    check_refused(find_one(path), message, max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("data", [gzip.compress(b"tar", mtime=0), b"Rar!\x1a\7\1\0", b"7z\xbc\xaf\x27\x1c"])
@pytest.mark.parametrize("name", ["p.tar", "p.zip"])
def test_other_archives_are_not_called_damaged(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    check_refused(find_one(tmp_path / name), "is a compressed archive, whose members cannot be read in place. Copy it")


def test_a_member_of_an_unsupported_kind_is_not_called_damaged(tmp_path):
    path = make_zip(tmp_path / "p.zip", ("a.png", png(1)), method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    start = data.index(b"PK\1\2") + 8  # the flags: 32 is patched data
    path.write_bytes(data[:start] + b"\x20" + data[start + 1 :])
    check_refused(find_one(path), r"is of a kind that is not supported \(compressed patched data")


def test_a_member_with_a_wrong_checksum_is_damaged(tmp_path):
    path = make_zip(tmp_path / "p.zip", ("a.png", png(1)), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    check_refused(find_one(path), r"p\.zip/a\.png' is damaged or cut short \(Bad CRC-32")


# Archives that cannot be read


@pytest.mark.parametrize("name", ["p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz", "p.TAR.GZ"])
def test_compressed_tars_are_refused_with_a_remedy(tmp_path, name):
    path = make_tar(tmp_path / "plain.tar", ("a.png", png(1)))
    with tarfile.open(tmp_path / name, {"2": "w:bz2", "z": "w:xz"}.get(name[-1], "w:gz")) as archive:
        archive.add(path, "a.png")
    picture = find_one(tmp_path / name)
    assert (str(picture.name), picture.member) == (name, None)
    check_refused(picture, r"is a compressed archive, .* or unpack it, or pack it again as a \.zip or an uncompressed")


@pytest.mark.parametrize("name", ["p.tar", "p.zip"])
@pytest.mark.parametrize("data", [b"nonsense", b"PK\3\4" + bytes(600), bytes(100), b"x" * 2000])
def test_a_file_that_is_not_an_archive_costs_one_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    write_image(tmp_path / "a.png", np.full((3, 3, 3), 9, np.uint8))
    bad, good = find_pictures([tmp_path / name, tmp_path / "a.png"])
    assert (str(bad.name), str(good.name)) == (name, "a.png")
    check_refused(bad, r"is damaged or cut short \(.+\)\. Copy it again, or unpack it")
    assert first_value(good) == 9


def test_missing_and_empty_archives_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "empty.zip").touch()
    check_refused(find_one(tmp_path / "gone.zip"), "does not exist")
    check_refused(find_one(tmp_path / "pipe.tar"), "is a pipe or a device")
    check_refused(find_one(tmp_path / "empty.zip"), "is empty")


@pytest.mark.parametrize(
    ("cut", "end"), [*((cut, b"") for cut in (100, 513, 1024, 1100, 1536, 3072)), (1024, b"?" * 512 + bytes(9000))]
)
def test_a_truncated_or_spoiled_tar_is_not_taken_for_a_shorter_one(tmp_path, cut, end):
    """Not even between two members, where tar itself sees nothing wrong."""
    path = make_tar(tmp_path / "p.tar", *((f"{n}.png", png(n)) for n in range(3)))
    path.write_bytes(path.read_bytes()[:cut] + end)
    check_refused(find_one(path), "is damaged or cut short")


def test_a_tar_with_a_member_of_negative_size_does_not_loop(tmp_path):
    path = make_tar(tmp_path / "p.tar", ("a.png", png(1)))
    entry = tarfile.TarInfo("a.png")
    entry.size = -1024
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + path.read_bytes()[512:])
    check_refused(find_one(path), "is damaged or cut short")


@pytest.mark.parametrize(("name", "make"), MAKERS)
def test_an_archive_that_changes_after_it_was_listed_costs_an_error_a_member(tmp_path, name, make):
    path = make(tmp_path / name, ("a.png", png(1, side=50)))
    picture = find_one(path)
    whole = path.read_bytes()
    assert first_value(picture) == 1
    path.write_bytes(whole[:100])
    check_refused(picture, "is damaged or cut short")
    path.unlink()
    with pytest.raises(ImageError, match=rf"{name}' does not exist"):
        read(picture)
    path.write_bytes(whole)
    assert first_value(picture) == 1


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(MAKERS),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_hostile_archives_give_images_or_image_errors(tmp_path, form, cut, flips):
    name, make = form
    data = bytearray(make(tmp_path / f"whole.{name}", *((f"d/{n}.png", png(n)) for n in range(3))).read_bytes())
    for position, mask in flips:
        data[int(position * (len(data) - 1))] ^= mask
    path = tmp_path / name
    path.write_bytes(data[: max(1, int(cut * len(data)))])
    started = time.monotonic()
    try:
        pictures = find_pictures([path])
    except UsageError:  # the flips spoiled the suffixes
        return
    assert 1 <= len(pictures) <= 3
    for picture in pictures:
        assert ".." not in picture.name.parts
        try:
            assert read(picture, max_pixels=10_000, max_bytes=100_000).shape[2] == 3
        except ImageError:
            continue
    assert time.monotonic() - started < 20
