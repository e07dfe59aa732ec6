"""Torchvision's own weights are cached or downloaded, checked by their hash, and never run as code."""

from __future__ import annotations

import hashlib
import os
import pickle
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import Bomb, same
from torch import nn

from cam.classifiers.load import load_classifier, load_network
from cam.errors import WeightsError

ENTRY = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
NAME = Path(ENTRY.url).name


@pytest.fixture
def checkpoints(tmp_path, monkeypatch) -> Path:
    """Torch's own cache of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offered_at() -> Iterator[Callable[[str], None]]:
    """Let torchvision's weights be had from somewhere else."""
    url = ENTRY.value.url
    yield lambda address: object.__setattr__(ENTRY.value, "url", address)
    object.__setattr__(ENTRY.value, "url", url)


def squeezenet(seed: int = 0, **arguments) -> nn.Module:
    torch.manual_seed(seed)
    return torchvision.models.squeezenet1_1(weights=None, **arguments).eval()


def test_published_weights_are_read_from_torchs_cache(checkpoints):
    network = squeezenet()
    torch.save(network.state_dict(), checkpoints / NAME)
    built = load_network("squeezenet1_1")
    assert same(built.network.state_dict(), network.state_dict())
    assert built.weights == checkpoints / NAME
    assert built.labels is not None
    assert (len(built.labels), built.labels[1]) == (1000, "goldfish")
    assert built.preprocessing.resize == 256
    classifier = load_classifier("squeezenet1_1", device="cpu")
    assert classifier.head.kind == "conv-gap"
    assert classifier.weights == checkpoints / NAME


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
def test_code_in_torchs_cache_is_refused_and_does_not_run(checkpoints, tmp_path, kind):
    if kind == "bare pickle":
        (checkpoints / NAME).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    else:
        content = {"features.0.weight": torch.zeros(1), "bomb": Bomb(tmp_path / "ran")}
        torch.save(content, checkpoints / NAME, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError, match=NAME):
        load_network("squeezenet1_1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("before", [{"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "0"}, {}])
def test_the_environment_is_restored(checkpoints, monkeypatch, before):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    environment = dict(os.environ)
    (checkpoints / NAME).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(WeightsError, match="Remove the file so that it is downloaded again"):
        load_network("squeezenet1_1")
    assert dict(os.environ) == environment


@pytest.mark.parametrize("right", [True, False])
def test_a_download_is_checked_against_the_hash_in_its_name(checkpoints, tmp_path, offered_at, capfd, right):
    network = squeezenet(7)
    torch.save(network.state_dict(), tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    name = f"made-{digest if right else '00000000'}.pth"
    (tmp_path / "made.pth").rename(tmp_path / name)
    offered_at((tmp_path / name).as_uri())
    if right:
        built = load_network("squeezenet1_1")
        assert capfd.readouterr() == ("", "")  # standard output is for results, and nobody watches the other
        assert same(built.network.state_dict(), network.state_dict())
        assert built.weights == checkpoints / name
    else:
        with pytest.raises(WeightsError, match="hash"):
            load_network("squeezenet1_1")
        assert not list(checkpoints.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route to host"),
        urllib.error.HTTPError("there", 503, "busy", None, None),  # type: ignore[arg-type]
        ConnectionResetError("reset"),
        TimeoutError("slow"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_network_names_the_file_and_the_folder(checkpoints, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(WeightsError) as caught:
        load_network("squeezenet1_1")
    assert NAME in str(caught.value)
    assert str(checkpoints) in str(caught.value)
    assert "-m digits" in str(caught.value)


def test_weights_of_another_network_in_torchs_cache_are_refused(checkpoints):
    torch.save(nn.Linear(2, 2).state_dict(), checkpoints / NAME)
    with pytest.raises(WeightsError, match=r"squeezenet1_1.*cannot be used"):
        load_network("squeezenet1_1")
