"""Archives that are compressed, cut short, changed or none: one line each, and never taken for shorter ones."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import make_tar, make_zip, only, picture, read, refused

from cam.errors import ImageError, UsageError
from cam.images.archives import Member, read_member
from cam.images.find import find_pictures
from cam.images.io import write_image


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
        refused(found, "changed since it was listed")
        path.unlink()
        with pytest.raises(ImageError, match=rf"{name}' does not exist"):
            read(found)
        make(path, ("a.png", picture(1, side=50)))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
