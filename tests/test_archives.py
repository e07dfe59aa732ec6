"""Archives read in place: the same pictures as unpacked, and hostile members cost their own line only."""

from __future__ import annotations

import os
import struct
import subprocess
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packed import make_tar, make_zip, only, picture, read, refused

from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.images.io import encode, write_image

NAMES = ["b/10.png", "b/2.png", "a b/c\nd.png", "\N{CAT FACE}.png", os.fsdecode(b"caf\xe9.png")]
ORDERED = ["a b/c\nd.png", "b/2.png", "b/10.png", os.fsdecode(b"caf\xe9.png"), "\N{CAT FACE}.png"]


# The same as unpacked


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_holds_the_same_pictures_as_its_folder(tmp_path: Path, form: int) -> None:
    for value, name in enumerate(NAMES):
        write_image(tmp_path / "p" / name, np.full((3, 3, 3), value, np.uint8))
    with tarfile.open(tmp_path / "p.tar", "w", format=form) as archive:
        archive.add(tmp_path / "p", ".")
    folder, members = find_pictures([tmp_path / "p"]), find_pictures([tmp_path / "p.tar"])
    assert [str(found.name) for found in members] == [str(found.name) for found in folder] == ORDERED
    assert [read(found)[0, 0, 0] for found in members] == [NAMES.index(name) for name in ORDERED]
    assert [str(found.path) for found in members][1] == f"{tmp_path}/p.tar/./b/2.png".replace("/./", "/")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_holds_the_same_pictures_as_its_folder(tmp_path: Path, method: int) -> None:
    path = make_zip(
        tmp_path / "p.ZIP", *((name, picture(value)) for value, name in enumerate(NAMES[:4])), method=method
    )
    members = find_pictures([path])
    assert [str(found.name) for found in members] == [name for name in ORDERED if name in NAMES[:4]]
    assert [read(found)[0, 0, 0] for found in members] == [2, 1, 0, 3]
    assert members[1].path == path / "b" / "2.png"


def test_what_the_programs_tar_and_zip_write_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "p" / ("n" * 120) / "a.png", np.full((3, 3, 3), 7, np.uint8))
    subprocess.run(["tar", "-cf", "p.tar", "p"], cwd=tmp_path, check=True)
    assert str(only(tmp_path / "p.tar").name) == f"p/{'n' * 120}/a.png"
    assert read(only(tmp_path / "p.tar"))[0, 0, 0] == 7


def test_archives_are_folders_among_other_inputs(tmp_path: Path) -> None:
    """A name of a file, so no folder can be called like it, and no two names meet."""
    for folder in ("x", "y"):
        write_image(tmp_path / folder / "a.png", np.zeros((3, 3, 3), np.uint8))
        make_zip(tmp_path / folder / "p.zip", ("a.png", picture(1)))
    inputs = [tmp_path / "x", tmp_path / "x" / "p.zip", tmp_path / "y" / "p.zip", tmp_path / "x" / "p.zip"]
    assert [str(found.name) for found in find_pictures(inputs)] == ["x/a.png", "x/p.zip/a.png", "y/p.zip/a.png"]
    assert [str(found.name) for found in find_pictures([tmp_path / "*" / "*.zip"])] == [
        "x/p.zip/a.png",
        "y/p.zip/a.png",
    ]
    assert [str(found.name) for found in find_pictures([tmp_path / "x"])] == ["a.png"]  # archives are not entered


def test_entries_that_are_no_pictures_are_left_out(tmp_path: Path) -> None:
    members = [
        ("a.png", picture(1)),
        ("notes.txt", b"x"),
        ("__MACOSX/._a.png", b"x"),
        (".t/b.png", b"x"),
        ("f.png/", b""),
    ]
    assert str(only(make_zip(tmp_path / "p.zip", *members)).name) == "a.png"
    assert str(only(make_tar(tmp_path / "p.tar", *members[:4])).name) == "a.png"
    with pytest.raises(UsageError, match=r"q\.tar' holds no picture"):
        find_pictures([make_tar(tmp_path / "q.tar", members[1])])


def test_the_last_of_one_name_counts_as_it_does_when_unpacked(tmp_path: Path) -> None:
    assert read(only(make_tar(tmp_path / "p.tar", ("a.png", picture(1)), ("./a.png", picture(2)))))[0, 0, 0] == 2


def test_threads_read_members_of_one_archive_at_once(tmp_path: Path) -> None:
    members = [(f"{n}.png", encode(np.full((40, 40, 3), n, np.uint8), ".png")) for n in range(60)]
    for path in (make_tar(tmp_path / "p.tar", *members), make_zip(tmp_path / "p.zip", *members)):
        pictures = find_pictures([path])
        results: list[list[int]] = []
        threads = [
            threading.Thread(target=lambda: results.append([int(read(found)[0, 0, 0]) for found in pictures]))  # noqa: B023
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [list(range(60))] * 4


# Hostile members


@pytest.mark.parametrize(
    "name", ["../e.png", "/tmp/e.png", "a/../../e.png", "..\\e.png", "C:\\e.png", "\\\\host\\e.png"]
)
def test_members_outside_the_folder_are_refused_and_named_inside(tmp_path: Path, name: str) -> None:
    members = [(name, picture(1)), ("_/e.png", picture(2)), ("a.png", picture(3))]
    for path in (make_tar(tmp_path / "p.tar", *members), make_zip(tmp_path / "p.zip", *members)):
        pictures = find_pictures([path])
        assert len({found.name for found in pictures}) == 3
        for found in pictures:
            assert not found.name.is_absolute()
            assert ".." not in found.name.parts
        (bad,) = (found for found in pictures if str(found.path) == f"{path}/{name}".replace("//", "/"))
        refused(bad, r"leads out of the archive's folder\. Unpack it by hand")
        assert sorted(int(read(found)[0, 0, 0]) for found in pictures if found != bad) == [2, 3]


def test_a_refused_member_does_not_hide_a_good_one_of_the_name_it_is_given(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar", ("../e.png", picture(1)), ("__e.png", picture(2)), ("___e.png", picture(3)))
    assert sorted(str(found.name) for found in find_pictures([path])) == ["____e.png", "___e.png", "__e.png"]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    entries = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        entries.append(tarfile.TarInfo(f"{len(entries)}.png"))
        entries[-1].type, entries[-1].linkname = kind, "/etc/passwd"
    for found in find_pictures([make_tar(tmp_path / "p.tar", *((entry, b"") for entry in entries))]):
        refused(found, r"is a link or a device in the archive, not a file\. Pack the files")
    link = zipfile.ZipInfo("a.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    refused(only(make_zip(tmp_path / "p.zip", (link, b"/etc/passwd"))), "is a link or a device")


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(10_000_000)
    subprocess.run(["tar", "-S", "-cf", "p.tar", "a.png"], cwd=tmp_path, check=True)
    refused(only(tmp_path / "p.tar"), r"is packed as a file with holes\. Pack it without --sparse")


def test_encrypted_members_and_strange_methods_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", ("a.png", picture(1)))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(only(path), r"is encrypted\. Unpack the archive with its password")
    refused(only(make_zip(tmp_path / "q.zip", ("a.png", picture(1)), method=zipfile.ZIP_LZMA)), "packed by a method")


def test_empty_members(tmp_path: Path) -> None:
    refused(only(make_zip(tmp_path / "p.zip", ("a.png", b""))), "is empty")


def test_a_bomb_that_declares_its_size_is_not_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", ("a.png", bytes(50_000_000)), ("b.png", picture(4)))
    assert path.stat().st_size < 60_000
    bomb, good = find_pictures([path])
    tracemalloc.start()
    refused(bomb, r"has 50000000 bytes, over the limit of 1000000\..*--max-bytes", max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert read(good, max_bytes=1_000_000)[0, 0, 0] == 4


def test_a_bomb_that_lies_about_its_size_is_read_no_further(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", ("a.png", bytes(50_000_000)))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 1000)))
    tracemalloc.start()
    refused(only(path), "is not as long, or not the same, as the archive says", max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_packed_size_over_the_limit_is_not_read_either(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", ("a.png", bytes(range(256)) * 40), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # the unpacked size
    path.write_bytes(data)
    refused(only(path), "has 10240 bytes, over the limit of 5000", max_bytes=5000)


def test_a_tar_member_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar", ("a.png", bytes(2000)))
    refused(only(path), "has 2000 bytes, over the limit of 1999", max_bytes=1999)


def test_the_pixel_limit_holds_in_archives(tmp_path: Path) -> None:
    found = only(make_tar(tmp_path / "p.tar", ("a.png", picture(1, side=20))))
    refused(found, "has 20 x 20 pixels, over the limit of 399", max_pixels=399)


def test_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", ("a.png", picture(1)), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    refused(only(path), "is not as long, or not the same, as the archive says")
