"""Checkpoints of every format and nesting are read, damaged files get an error, and no code is run."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Bomb, same
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from cam.classifiers.checkpoints import hash_file, read_checkpoint
from cam.errors import WeightsError

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


class Custom:
    """An object that a training script might leave in its checkpoint."""


def tensors_of(path: Path, place: str = "", *, unsafe_pickle: bool = False) -> dict[str, torch.Tensor]:
    return read_checkpoint(path, unsafe_pickle=unsafe_pickle)[place]


def error_of(path: Path, *, unsafe_pickle: bool = False) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path, unsafe_pickle=unsafe_pickle)
    assert caught.value.problem.startswith(f"--weights {str(path)!r} ")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert same(tensors_of(tmp_path / name), STATE)


@pytest.mark.parametrize("name", ["a.pt", "a"])
@pytest.mark.parametrize("zipped", [True, False])
def test_both_torch_formats_are_read(tmp_path: Path, name: str, zipped: bool) -> None:
    content = {"model": {"name": "resnet"}, "state_dict": STATE, "epoch": 3}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(str(tmp_path / name))["state_dict"], STATE)


def test_a_pickle_protocol_that_torch_cannot_read_safely_is_an_error(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt", pickle_protocol=4)
    assert "not in the format of torch.save or safetensors" in error_of(tmp_path / "a.pt").problem
    assert same(tensors_of(tmp_path / "a.pt", unsafe_pickle=True), STATE)


@pytest.mark.parametrize("nests", [(), ("net",), ("params",), ("model_state",), ("network", "weights", "last")])
def test_every_nesting_is_unwrapped(tmp_path: Path, nests: tuple[str, ...]) -> None:
    content: dict[str, Any] = OrderedDict(STATE)
    for nest in reversed(nests):
        content = {nest: content, "epoch": 3, "best": torch.tensor(0.9), "optimizer": {"state": {0: STATE}}}
    torch.save(content, tmp_path / "nested.pt")
    assert same(tensors_of(tmp_path / "nested.pt", ".".join(nests)), STATE)


def test_parameters_come_out_as_plain_tensors(tmp_path: Path) -> None:
    torch.save({"fc.bias": nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    assert not tensors_of(tmp_path / "a.pt")["fc.bias"].requires_grad


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_by_name_and_never_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": STATE, "bomb": Bomb(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    error = error_of(path)
    assert "getattr" in error.problem
    assert "weights.pt" in error.remedy
    assert "--unsafe-pickle" in error.remedy
    assert not (tmp_path / "ran").exists()
    assert same(tensors_of(path, "state_dict", unsafe_pickle=True), STATE)
    assert (tmp_path / "ran").exists()  # the code does run if it is allowed


def test_a_pickle_named_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    torch.save(STATE, path)
    assert "damaged" in error_of(path, unsafe_pickle=True).problem


@pytest.mark.parametrize(
    ("content", "name", "place"),
    [
        (lambda module: {"state_dict": STATE, "args": Custom()}, f"{__name__}.Custom", "state_dict"),
        (lambda module: module, "torch.nn.modules.container.Sequential", ""),
        (lambda module: {"model": module}, "torch.nn.modules.container.Sequential", "model"),
    ],
    ids=["object", "module", "nested module"],
)
def test_the_class_of_an_object_is_named(tmp_path: Path, content: Any, name: str, place: str) -> None:
    module = nn.Sequential(OrderedDict(fc=nn.Linear(3, 2)))
    module.load_state_dict(STATE)
    torch.save(content(module), tmp_path / "a.pt")
    assert name in error_of(tmp_path / "a.pt").problem
    assert same(tensors_of(tmp_path / "a.pt", place, unsafe_pickle=True), STATE)


def test_a_torchscript_archive_is_a_model(tmp_path: Path) -> None:
    module = nn.Sequential(OrderedDict(fc=nn.Linear(3, 2)))
    module.load_state_dict(STATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it; people still have such files
        torch.jit.save(torch.jit.script(module), str(tmp_path / "a.pt"))
    assert "holds a whole network (TorchScript)" in error_of(tmp_path / "a.pt").problem
    assert f"--model {tmp_path / 'a.pt'}" in error_of(tmp_path / "a.pt").remedy
    assert same(tensors_of(tmp_path / "a.pt", unsafe_pickle=True), STATE)


def test_missing_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"state_dict": STATE, "args": Custom()}, tmp_path / "a.pt")
    monkeypatch.delitem(globals(), "Custom")
    error = error_of(tmp_path / "a.pt", unsafe_pickle=True)
    assert "Custom" in error.problem
    assert "cannot be imported" in error.problem
    assert "PYTHONPATH" in error.remedy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (Path.mkdir, "is a folder or a device, not a file"),
        pytest.param(
            getattr(os, "mkfifo", None),
            "is a folder or a device, not a file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here"),
        ),
        (Path.touch, "is empty, damaged"),
        (lambda path: path.write_bytes(b"x"), "not in the format"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>"), "not in the format"),
    ],
)
def test_other_files_are_not_checkpoints(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "a.pt")
    assert message in error_of(tmp_path / "a.pt", unsafe_pickle=True).problem


def test_an_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    monkeypatch.setattr(Path, "open", deny)  # permissions do not bind root, who may run the tests
    assert "cannot be opened (Permission denied)" in error_of(path).problem


def test_a_null_character_in_the_path_is_an_error() -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        read_checkpoint("a\0.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_damaged(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a.bin"
    if kind == "safetensors":
        save_file({"w": torch.ones(1000)}, path)
    else:
        torch.save({"w": torch.ones(1000)}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged" in error_of(path).problem


def repacked(source: Path, target: Path, compression: int) -> Path:
    """A copy of a zip file with another compression."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return target


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_compressed_checkpoint_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int
) -> None:
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.pt")
    small = repacked(tmp_path / "plain.pt", tmp_path / "small.pt", compression)
    assert same(tensors_of(repacked(tmp_path / "plain.pt", tmp_path / "stored.pt", 0)), {"w": torch.zeros(10**6)})
    monkeypatch.setattr("torch.load", None)
    assert small.stat().st_size < 10_000
    assert "is compressed: its contents take 4,000," in error_of(small).problem


def test_a_member_that_is_listed_many_times_is_refused(tmp_path: Path) -> None:
    """As if it was there as many times: more than the file has bytes."""
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.writestr("last", "")
        archive.filelist += [member for member in archive.filelist if member.filename.endswith("data/0")] * 9
    assert "is compressed: its contents take 4" in error_of(tmp_path / "a.pt").problem


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [([10**10], [0, 4 * 10**10]), ([10**10], [0, 4]), ([1], [4, 8]), ([2**33, 2**33], [0, 0]), ([2**62], [0, 2**64])],
)
def test_a_safetensors_header_that_lies_is_an_error(tmp_path: Path, shape: list[int], offsets: list[int]) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    for length in (len(header), 2**40):
        (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        assert "damaged" in error_of(tmp_path / "a.safetensors").problem


@given(start=st.sampled_from([b"\x80\x02", b"PK\x03\x04", b"\x40" + bytes(7) + b"{"]), rest=st.binary())
def test_random_bytes_are_an_error(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pt"
    path.write_bytes(start + rest)
    error_of(path)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ({}, ""),
        ({"net": {"w": 1}, "acc": 9}, "'net', 'acc'"),
        ([1, 2], "list"),
        ({0: torch.ones(1)}, "0"),
        (3, "int"),
    ],
)
def test_a_file_without_tensors_lists_its_keys(tmp_path: Path, content: object, keys: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    error = error_of(tmp_path / "a.pt")
    assert f"holds no weights, only {keys}" in error.problem
    assert "state_dict()" in error.remedy


def test_a_checkpoint_that_contains_itself_is_an_error(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"epoch": 3}
    loop["model"] = loop
    torch.save(loop, tmp_path / "a.pt")
    assert "holds no weights" in error_of(tmp_path / "a.pt").problem


@pytest.mark.parametrize(("name", "tensors"), [("resnet20-12fca82f", 97), ("resnet56-4bfd9763", 277)])
def test_published_cifar_checkpoints_are_read(shared_data: Path, name: str, tensors: int) -> None:
    path = shared_data / "cifar10" / "weights" / f"{name}.th"
    state = tensors_of(path, "state_dict")
    assert hash_file(path).startswith(name.partition("-")[2])
    assert len(state) == tensors
    assert all(key.startswith("module.") for key in state)
    assert not any(key.endswith("num_batches_tracked") for key in state)
