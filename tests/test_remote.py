"""Inputs and results at addresses, with the file systems of fsspec that need no network."""

from __future__ import annotations

import json
import os
import pickle
import re
import threading
import time
from pathlib import Path, PurePosixPath

import fsspec
import fsspec.implementations.memory
import pytest
from runs import DIGITS, NAMES, SAMPLES, CutError, assert_same_results, cut_after, explain_into, lines

from cam.classifiers.load import load_classifier
from cam.errors import ImageError, OutputError, UsageError, hide_passwords
from cam.files import open_whole, write_whole
from cam.images.content import read_content
from cam.images.find import check_output, find_pictures
from cam.remote import Address, as_path
from cam.runs.folder import RunFolder


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def photos(memory) -> str:
    """The samples, and files beside them that are left out."""
    for name in NAMES:
        memory.pipe_file(f"/bucket/photos/{'sub/' * (name > 'q')}{name}", (SAMPLES / name).read_bytes())
    memory.pipe_file("/bucket/photos/notes.txt", b"text")
    memory.pipe_file("/bucket/photos/.hidden/a.png", b"text")
    return "memory://bucket/photos"


def download(memory, path: str, folder: Path) -> Path:
    memory.get(path, str(folder), recursive=True)
    return folder


def test_an_address_is_a_path():
    address = Address("memory://bucket/a b/c.png")
    assert str(address) == f"{address}" == "memory://bucket/a b/c.png"
    assert (address.name, address.suffix, str(address.parent)) == ("c.png", ".png", "memory://bucket/a b")
    assert str(Address("memory://bucket") / "x") == "memory://bucket/x"
    assert address.is_absolute()
    copy = pickle.loads(pickle.dumps(address))
    assert (type(copy), copy, str(copy), hash(copy)) == (Address, address, str(address), hash(address))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://me:se:cret@host:21/a@b.jpg", "ftp://me:***@host:21/a@b.jpg"),
        ("S3://key:se/cr+et=@bucket/a.jpg", "S3://key:***@bucket/a.jpg"),
        ("http://host:8080/a@b.jpg", "http://host:8080/a@b.jpg"),
        ("sftp://me@host/a.jpg", "sftp://me@host/a.jpg"),
        ("s3://bucket/a:b.jpg", "s3://bucket/a:b.jpg"),
    ],
)
def test_an_address_is_shown_without_its_password(text, shown):
    address = as_path(text)
    assert (os.fspath(address), str(address), repr(address)) == (text, shown, f"Address({shown!r})")
    assert str(address.parent / "c.jpg") == f"{shown.rpartition('/')[0]}/c.jpg"
    error = UsageError(f"{text!r} is wrong", f"Do not write {text}")
    assert str(error) == f"{shown!r} is wrong. Do not write {shown}."
    assert str(ImageError(repr(str(Path(text))), "")).startswith(
        repr(str(Path(shown)))
    )  # an option that takes files only
    assert os.fspath(pickle.loads(pickle.dumps(address))) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dask+s3://key:se/cret@b", "dask+s3://key:***@b"),
        (repr("\ns3://key:se/cret@b"), repr("\ns3://key:***@b")),
        ("_https://me:secret@host/a", "_https://me:***@host/a"),
        (f"ftp://me:{2000 * 'x'}@host", "ftp://me:***@host"),
    ],
)
def test_passwords_are_hidden_wherever_an_address_begins(text, shown):
    assert hide_passwords(text) == shown


@pytest.mark.parametrize("part", ["x", "s3:/a:", "ab:/"])
def test_the_search_for_passwords_grows_with_a_text_not_with_its_square(part):
    def seconds(length: int) -> float:
        text = part * (length // len(part))
        times = []
        for _ in range(3):
            start = time.thread_time()
            assert hide_passwords(text) == text
            times.append(time.thread_time() - start)
        return min(times)

    assert seconds(200_000) < 20 * seconds(40_000)  # the square would be 25


def test_no_password_is_written_or_printed(run, memory, tmp_path):
    """The file system in memory takes the whole address for the name."""
    photos, out = "memory://me:secret@bucket/photos", "memory://me:secret@bucket/out"
    for name in ("five.png", "sevens.png"):
        memory.pipe_file(f"/me:secret@bucket/photos/{name}", (SAMPLES / name).read_bytes())
    (tmp_path / "truth.csv").write_text(f"{photos}/five.png,5\n{photos}/sevens.png,8\n")
    (tmp_path / "list.txt").write_text(f"{photos}/none.png\n")
    inputs = photos, "--list", tmp_path / "list.txt", "--truth", tmp_path / "truth.csv"
    results = [run("explain", *inputs, *DIGITS, "-o", out, "--csv", f"{out}/table.csv") for _ in range(2)]
    assert [result.exit_code for result in results] == [3, 3]
    assert "memory://me:***@bucket/photos/none.png' does not exist" in results[0].stderr
    assert "2 explained, 1 failed (2 explained by an earlier run): memory://me:***@bucket/out" in results[1].stdout
    files = {path: memory.cat_file(path) for path in memory.find("/me:secret@bucket/out")}
    assert {path.rpartition("/")[2] for path in files} > {"manifest.jsonl", "run.json", "table.csv"}
    assert not [path for path, data in files.items() if b"secret" in data]
    records = [json.loads(line) for line in files["/me:secret@bucket/out/manifest.jsonl"].splitlines()]
    assert [record["correct"] for record in records] == [True, False, None]
    wrong = (
        run("explain", f"{photos}/list.csv", *DIGITS, "-o", out),
        run("explain", f"{photos}/no/*", *DIGITS, "-o", out),
    )
    empty = run("explain", photos, *DIGITS, "-o", "memory://me:secret@bucket//out")
    assert [result.exit_code for result in (*wrong, empty)] == [2, 2, 2]
    assert empty.stderr.startswith("Error: 'memory://me:***@bucket//out' has an empty part (// or /./). ")
    assert "secret" not in "".join(result.output for result in (*results, *wrong, empty))


@pytest.mark.parametrize("text", ["s3://b//a", "hdfs:///user/a", "s3://b/./a", "s3://b/a//", "s3://"])
def test_an_address_with_an_empty_part_is_refused(text):
    """A path would lose it, and name another file."""
    with pytest.raises(UsageError, match=f"{re.escape(repr(text))} has an empty part"):
        find_pictures([text])


@pytest.mark.parametrize(
    ("text", "path"),
    [("photos", Path("photos")), ("file:///a/b", Path("/a/b")), ("C:/x", Path("C:/x")), ("a//b", Path("a/b"))],
)
def test_other_text_is_a_path_of_this_machine(text, path):
    assert (type(as_path(text)), as_path(text)) == (type(path), path)


def test_a_protocol_that_nothing_knows_is_refused():
    with pytest.raises(UsageError, match=r"'nonsense://a' cannot be opened \(Protocol not known: nonsense\)\. Install"):
        find_pictures(["nonsense://a"])


def test_folders_files_and_globs_are_listed(photos):
    found = find_pictures([photos])
    assert [str(picture.name) for picture in found] == [f"{'sub/' * (name > 'q')}{name}" for name in NAMES]
    assert str(found[0].path) == f"{photos}/five.png"
    assert found[0].current_fingerprint().bytes == (SAMPLES / "five.png").stat().st_size
    assert found[0].current_fingerprint().modified > 1.7e9
    assert [picture.name for picture in find_pictures([f"{photos}/four-*.png"])] == [
        PurePosixPath(name) for name in NAMES if name.startswith("four-")
    ]
    (single,) = find_pictures([f"{photos}/five.png"])
    assert single.name == PurePosixPath("five.png")
    listed = find_pictures([], listed=[f"{photos}/five.png", SAMPLES / "sevens.png"])
    assert [picture.name.name for picture in listed] == ["five.png", "sevens.png"]
    assert [p.name.name for p in find_pictures([photos], exclude=as_path(f"{photos}/sub"))] == [
        name for name in NAMES if name <= "q"
    ]


def test_wrong_addresses_are_refused(memory, photos):
    memory.pipe_file("/bucket/empty/notes.txt", b"text")
    memory.pipe_file("/bucket/a.zip", b"PK")
    with pytest.raises(UsageError, match=r"'memory://bucket/empty' holds no image \(1 file left out: \.txt 1\)"):
        find_pictures(["memory://bucket/empty"])
    with pytest.raises(UsageError, match=r"'memory://bucket/a\.zip' is an archive at an address"):
        find_pictures(["memory://bucket/a.zip"])
    with pytest.raises(UsageError, match="lies in the input folder 'memory://bucket'"):
        check_output(["memory://bucket"], as_path("memory://bucket/out"))
    check_output(["memory://bucket/photos"], as_path("memory://bucket/out"))


def test_limits_hold(photos):
    content = read_content(as_path(f"{photos}/five.png"))
    assert content == (SAMPLES / "five.png").read_bytes()
    with pytest.raises(OSError, match="over the limit of 10"):
        read_content(as_path(f"{photos}/five.png"), 10)
    with pytest.raises(OSError, match=r"'memory://bucket/photos/none\.png' does not exist"):
        read_content(as_path(f"{photos}/none.png"))


def test_a_run_reads_and_writes_addresses(memory, photos, folder, tmp_path):
    classifier, out = load_classifier("digits"), as_path("memory://bucket/out")
    summary = explain_into(out, classifier, photos, save=frozenset({"overlay", "heat", "cam"}))
    assert (summary.explained, str(summary.manifest)) == (10, "memory://bucket/out/manifest.jsonl")
    local = download(memory, "/bucket/photos", tmp_path / "photos")
    explain_into(tmp_path / "local", classifier, local, save=frozenset({"overlay", "heat", "cam"}))
    ours = download(memory, "/bucket/out", tmp_path / "ours")
    text = (ours / "manifest.jsonl").read_text().replace(photos, str(local))
    modified = {line["name"]: line["modified"] for line in lines(tmp_path / "local")}
    records = [{**line, "modified": modified[line["name"]]} for line in map(json.loads, text.splitlines())]
    (ours / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert_same_results(ours, tmp_path / "local")


def test_a_run_at_an_address_goes_on(memory, photos):
    classifier, out = load_classifier("digits"), as_path("memory://bucket/out")
    with pytest.raises(CutError):
        explain_into(out, classifier, photos, report=cut_after(4), batch_size=2)
    first = memory.cat_file("/bucket/out/manifest.jsonl").splitlines()
    assert 4 <= len(first) < 10
    assert explain_into(out, classifier, photos).earlier == len(first)
    memory.rm_file("/bucket/out/five.png.5-5.png")
    assert explain_into(out, classifier, photos).earlier == 9  # its results are missing
    memory.pipe_file("/bucket/photos/five.png", (SAMPLES / "sevens.png").read_bytes())
    assert explain_into(out, classifier, photos).earlier == 9  # it has changed
    with pytest.raises(UsageError, match="'memory://bucket/out' holds results with other settings"):
        explain_into(out, classifier, photos, opacity=0.5)
    assert explain_into(out, classifier, photos, opacity=0.5, overwrite=True).earlier == 0


def test_the_manifest_is_uploaded_during_the_run(memory, monkeypatch):
    monkeypatch.setattr("cam.runs.folder._UPLOAD_EVERY", 0.01)
    uploaded = threading.Event()
    put_file = type(memory).put_file
    monkeypatch.setattr(type(memory), "put_file", lambda *args, **kwargs: [put_file(*args, **kwargs), uploaded.set()])
    with RunFolder(as_path("memory://bucket/out")).staged() as staged:
        staged.manifest.write_bytes(b"line\n")
        assert uploaded.wait(10)
        assert memory.cat_file("/bucket/out/manifest.jsonl") == b"line\n"


def test_what_is_not_complete_is_not_uploaded(memory):
    def parts():
        yield b"half"
        raise CutError

    with pytest.raises(CutError):
        write_whole(as_path("memory://bucket/a.bin"), parts())
    assert not memory.exists("/bucket/a.bin")


def test_errors_of_a_file_system_are_errors_of_files(memory, monkeypatch):
    class NoCredentialsError(Exception):
        pass

    def refuse(*arguments, **settings):
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(type(memory), "put_file", refuse)
    with (
        pytest.raises(OutputError, match=r"'memory://b/a' cannot be written \(Unable to locate credentials\)"),
        open_whole(as_path("memory://b/a")),
    ):
        pass
    monkeypatch.setattr(type(memory), "cat_file", refuse)
    monkeypatch.setattr(type(memory), "open", refuse)
    with (
        pytest.raises(OutputError, match=r"'memory://b/out' cannot be read \(Unable to locate credentials\)"),
        RunFolder(as_path("memory://b/out")).staged(),
    ):
        pass
    monkeypatch.setattr(type(memory), "info", refuse)
    monkeypatch.setattr(type(memory), "glob", refuse)
    with pytest.raises(UsageError, match=r"'memory://b/\*' cannot be listed \(Unable to locate credentials\)"):
        find_pictures(["memory://b/*"])
    with pytest.raises(OSError, match=r"cannot be opened \(Unable to locate credentials\)"):
        read_content(as_path("memory://b/a"))


def test_the_command_takes_addresses(run, photos, memory):
    out = "memory://bucket/out"
    result = run("explain", photos, *DIGITS, "-o", out, "--csv", "memory://bucket/table.csv")
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"10 explained, 0 failed: {out}\n")
    rows = memory.cat_file("/bucket/table.csv").decode().splitlines()
    assert len(rows) == 11
    assert rows[1].startswith(f"{photos}/five.png,five.png,ok,")
    assert rows[1].endswith(f"{out}/five.png.5-5.jpg")
    result = run("explain", photos, *DIGITS, "-o", out, "--report")
    assert result.exit_code == 2
    assert "--report reads the results in a folder, and --out is 'memory://bucket/out'." in result.output
    result = run("explain", photos, *DIGITS, "-o", "nonsense://bucket")
    assert result.exit_code == 2
    assert result.output.startswith(
        "Error: 'nonsense://bucket' cannot be opened (Protocol not known: nonsense). Install"
    )


def test_an_error_of_the_store_while_a_file_is_read_costs_that_file(photos, monkeypatch):
    """Libraries of stores raise errors that are no OSError."""

    def fail(self, size):
        raise RuntimeError("the store answered 503")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "read", fail)
    with pytest.raises(ImageError, match=r"'memory://.+five\.png' cannot be read \(the store answered 503\)"):
        read_content(as_path(f"{photos}/five.png"))
