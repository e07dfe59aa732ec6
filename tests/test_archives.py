"""Archives read in place: the same pictures as unpacked, and hostile ones cost their own line only."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cam.archives import Member, read_member
from cam.errors import ImageError, UsageError
from cam.images import encode, write_image
from cam.inputs import Picture, find_pictures
from cam.reading import Limits, read_picture

NAMES = ["b/10.png", "b/2.png", "a b/c\nd.png", "\N{CAT FACE}.png", os.fsdecode(b"caf\xe9.png")]
ORDERED = ["a b/c\nd.png", "b/2.png", "b/10.png", os.fsdecode(b"caf\xe9.png"), "\N{CAT FACE}.png"]


def picture(value: int, side: int = 3) -> bytes:
    return encode(np.full((side, side, 3), value, np.uint8), ".png")


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in members:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, method)
    return path


def read(found: Picture, **limits: int) -> np.ndarray:
    return read_picture(found, Limits(**limits)).image


def refused(found: Picture, saying: str, **limits: int) -> None:
    with pytest.raises(ImageError, match=saying) as caught:
        read(found, **limits)
    assert repr(str(found.path)) in str(caught.value)


def only(path: Path) -> Picture:
    (found,) = find_pictures([path])
    return found


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


# Archives that cannot be read


@pytest.mark.parametrize("name", ["p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz", "p.TAR.GZ", "p.tar"])
def test_compressed_tars_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / "plain.tar", ("a.png", picture(1)))
    with tarfile.open(tmp_path / name, {"2": "w:bz2", "z": "w:xz"}.get(name[-1], "w:gz")) as archive:
        archive.add(path, "a.png")
    found = only(tmp_path / name)
    assert (str(found.name), found.member) == (name, None)
    refused(found, r"is a compressed archive, .* Unpack it, or pack it again as a \.zip or an uncompressed \.tar\.")


@pytest.mark.parametrize("name", ["p.tar", "p.zip"])
@pytest.mark.parametrize("data", [b"nonsense", b"PK\3\4" + bytes(600), bytes(100), b"x" * 2000])
def test_an_archive_that_is_none_costs_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    write_image(tmp_path / "a.png", np.full((3, 3, 3), 9, np.uint8))
    bad, good = find_pictures([tmp_path / name, tmp_path / "a.png"])
    assert (str(bad.name), str(good.name)) == (name, "a.png")
    refused(bad, r"is damaged or cut short \(.+\)\. Copy or pack it again")
    assert read(good)[0, 0, 0] == 9


def test_archives_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "empty.zip").touch()
    refused(only(tmp_path / "gone.zip"), "does not exist")
    refused(only(tmp_path / "pipe.tar"), "is a pipe or a device")
    refused(only(tmp_path / "empty.zip"), "is empty")


@pytest.mark.parametrize("cut", [100, 513, 1024, 1100, 1536, 2200, 3072])
def test_a_tar_that_is_cut_short_is_not_taken_for_a_short_one(tmp_path: Path, cut: int) -> None:
    """Not even between two members, where tar itself sees nothing wrong."""
    path = make_tar(tmp_path / "p.tar", *((f"{n}.png", picture(n)) for n in range(3)))
    assert len(find_pictures([path])) == 3
    path.write_bytes(path.read_bytes()[:cut])
    refused(only(path), "is damaged or cut short")


def test_a_tar_with_nonsense_in_the_middle_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar", *((f"{n}.png", picture(n)) for n in range(3)))
    data = path.read_bytes()
    path.write_bytes(data[:1024] + b"?" * 512 + data[1536:])
    refused(only(path), r"cut short \(there is neither a member nor the end at byte 1024\)")


def test_an_archive_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    for make, name in ((make_tar, "p.tar"), (make_zip, "p.zip")):
        path = make(tmp_path / name, ("a.png", picture(1, side=50)))
        found = only(path)
        path.write_bytes(path.read_bytes()[:40])
        refused(found, "damaged or cut short|not as long")
        path.unlink()
        with pytest.raises(ImageError, match=rf"{name}' does not exist"):
            read(found)
        make(path, ("a.png", picture(1, side=50)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["tar", "zip"]),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_hostile_archives_give_pictures_or_image_errors(
    tmp_path: Path, form: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    make = {"tar": make_tar, "zip": make_zip}[form]
    data = bytearray(make(tmp_path / f"whole.{form}", *((f"d/{n}.png", picture(n)) for n in range(3))).read_bytes())
    for place, mask in flips:
        data[int(place * (len(data) - 1))] ^= mask
    path = tmp_path / f"p.{form}"
    path.write_bytes(data[: max(1, int(cut * len(data)))])
    started = time.monotonic()
    try:
        pictures = find_pictures([path])
    except UsageError:  # the flips spoiled the suffixes
        return
    assert 1 <= len(pictures) <= 3
    for found in pictures:
        assert isinstance(found.name, PurePosixPath)
        assert ".." not in found.name.parts
        try:
            assert read(found, max_pixels=10_000, max_bytes=100_000).shape[2] == 3
        except ImageError:
            continue
    assert time.monotonic() - started < 20


def test_a_tar_whose_members_run_in_a_circle_ends(tmp_path: Path) -> None:
    """A size below zero leads back to the header that declares it."""
    path = make_tar(tmp_path / "p.tar", ("a.png", picture(1)))
    data = bytearray(path.read_bytes())
    entry = tarfile.TarInfo("a.png")
    entry.size = -1024
    data[:512] = entry.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(data)
    refused(only(path), "is damaged or cut short")


@pytest.mark.parametrize(("offset", "size"), [(2**63, 5), (-1, 5), (0, -1), (0, -(2**40))])
def test_places_that_cannot_be_are_an_error_of_their_own(tmp_path: Path, offset: int, size: int) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(1000))
    with pytest.raises(ImageError, match=r"a\.tar/1\.jpg"):
        read_member(Member(archive, offset, size), "a.tar/1.jpg", 100)
