from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from cam.builders import build, list_models, torchvision_names
from cam.cards import FOLDER, card_names, read_card
from cam.classifiers import load_classifier, pick_device
from cam.errors import CamError, ModelError, UsageError, WeightsError

ENTRY = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
NAME = Path(ENTRY.url).name


class Bomb:
    """Leaves a file behind when a pickle with it is read as code."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


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


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    own = first.state_dict()
    return own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)


def in_user_folder(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cam", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_published_weights_are_read_from_torchs_cache(checkpoints):
    network = squeezenet()
    torch.save(network.state_dict(), checkpoints / NAME)
    built = build("squeezenet1_1")
    assert same(built.network, network)
    assert built.weights == checkpoints / NAME
    assert built.labels is not None
    assert (len(built.labels), built.labels[1]) == (1000, "goldfish")
    assert built.preprocessing.resize == 256
    classifier = load_classifier("squeezenet1_1", device="cpu")
    assert classifier.head.kind == "conv-gap"
    assert classifier.weights == checkpoints / NAME


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_torchs_cache_is_refused_and_does_not_run(checkpoints, tmp_path, legacy):
    content = {"features.0.weight": torch.zeros(1), "bomb": Bomb(tmp_path / "ran")}
    torch.save(content, checkpoints / NAME, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=NAME):
        build("squeezenet1_1")
    assert not (tmp_path / "ran").exists()
    with (checkpoints / NAME).open("rb") as file:  # the bomb is a live one
        torch.load(file, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_bare_pickle_in_torchs_cache_does_not_run(checkpoints, tmp_path):
    (checkpoints / NAME).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(WeightsError, match=NAME):
        build("squeezenet1_1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("before", ["0", None])
def test_the_environment_is_as_it_was(checkpoints, monkeypatch, before):
    if before is None:
        monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    else:
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", before)
    (checkpoints / NAME).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(WeightsError, match=r"Remove the file so that it is fetched again\.$"):
        build("squeezenet1_1")
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before


@pytest.mark.parametrize("right", [True, False])
def test_a_download_is_checked_against_the_hash_in_its_name(checkpoints, tmp_path, offered_at, capfd, right):
    network = squeezenet(7)
    torch.save(network.state_dict(), tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    name = f"made-{digest if right else '00000000'}.pth"
    (tmp_path / "made.pth").rename(tmp_path / name)
    offered_at((tmp_path / name).as_uri())
    if right:
        built = build("squeezenet1_1")
        assert capfd.readouterr() == ("", "")  # standard output is for results, and nobody watches the other
        assert same(built.network, network)
        assert built.weights == checkpoints / name
    else:
        with pytest.raises(WeightsError, match="hash"):
            build("squeezenet1_1")
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
    with pytest.raises(WeightsError) as refusal:
        build("squeezenet1_1")
    assert NAME in str(refusal.value)
    assert str(checkpoints) in str(refusal.value)
    assert "-m digits" in str(refusal.value)


def test_weights_of_another_network_in_torchs_cache_are_refused(checkpoints):
    torch.save(nn.Linear(2, 2).state_dict(), checkpoints / NAME)
    with pytest.raises(WeightsError, match=r"squeezenet1_1.*cannot be used"):
        build("squeezenet1_1")


def test_a_checkpoint_says_how_many_classes(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "n")
    built = build("resnet18", weights=tmp_path / "n")
    assert same(built.network, network)
    assert built.weights == tmp_path / "n"


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state_dict", "ema", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module.model."])
def test_nests_and_prefixes_are_unwrapped(tmp_path, nest, prefix):
    network = build("cifar-resnet20", random_weights=True).network
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    torch.save({nest: state, "epoch": 3} if nest else state, tmp_path / "net.pt")
    assert same(build("cifar-resnet20", weights=tmp_path / "net.pt").network, network)


def test_cards_follow_the_checkpoint_too(tmp_path):
    from cam.networks.cifar_resnet import resnet20

    network = resnet20(num_classes=7)
    save_file(network.state_dict(), tmp_path / "seven.safetensors")
    classifier = load_classifier("cifar-resnet20", weights=tmp_path / "seven.safetensors", device="cpu")
    assert classifier.head.classes == 7
    assert classifier.labels == tuple(f"class {index}" for index in range(7))  # not CIFAR's ten


def test_keys_that_are_missing_or_left_over_are_named(tmp_path):
    state = build("cifar-resnet20", random_weights=True).network.state_dict()
    state["stray"] = state.pop("linear.bias")
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(WeightsError) as refusal:
        build("cifar-resnet20", weights=tmp_path / "net.pt")
    assert "missing 'linear.bias'" in str(refusal.value)
    assert "left over 'stray'" in str(refusal.value)


def test_a_checkpoint_with_code_runs_only_when_told_to(tmp_path):
    state = build("cifar-resnet20", random_weights=True).network.state_dict()
    torch.save({"state_dict": state, "bomb": Bomb(tmp_path / "ran")}, tmp_path / "net.pt")
    with pytest.raises(WeightsError, match="--unsafe-pickle"):
        build("cifar-resnet20", weights=tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()
    build("cifar-resnet20", weights=tmp_path / "net.pt", unsafe_pickle=True)
    assert (tmp_path / "ran").exists()


def test_a_card_without_weights_says_what_to_give():
    with pytest.raises(WeightsError, match="--weights"):
        build("cifar-resnet20")


def test_the_embedded_model_is_the_file_that_its_card_names():
    built = build("digits")
    card = read_card("digits")
    assert built.weights == card.weights
    assert built.labels == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5", "resnet50"), ("Digits", "digits"), ("cifar-resnet", "cifar-resnet20"), ("zzzzz", "digits")],
)
def test_an_unknown_model_lists_near_names(name, near):
    with pytest.raises(ModelError) as refusal:
        build(name)
    assert repr(name) in str(refusal.value)
    assert near in str(refusal.value)


def test_every_name_is_listed_once():
    names = [model["name"] for model in list_models()]
    assert len(names) == len(set(names))
    assert set(names) == set(card_names()) | set(torchvision_names())
    assert len(torchvision_names()) >= 80
    assert all((FOLDER / f"{name}.json").is_file() for name in card_names())


MYMODEL = """
import torch
from torch import nn
from models.parts import body
from cli import CLASSES

def make(num_classes=CLASSES):
    torch.manual_seed(0)
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

def fails():
    raise LookupError("no such part")

def gives_text():
    return "network"

def needs_more(classes):
    return make()

number = 3
"""


@pytest.fixture
def user_folder(tmp_path) -> Path:
    """A user's project with names like ours."""
    (tmp_path / "mymodel.py").write_text(MYMODEL)
    (tmp_path / "cli.py").write_text("CLASSES = 3\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "parts.py").write_text("from torch import nn\nbody = lambda: nn.Conv2d(3, 8, 3, 2)\n")
    (tmp_path / "broken.py").write_text("def make(:\n")
    (tmp_path / "needy.py").write_text("import not_installed\n")
    (tmp_path / "script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--epochs'])\n")
    return tmp_path


@pytest.fixture
def in_that_folder(user_folder, monkeypatch) -> Iterator[Path]:
    """That project importable, and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(user_folder))
    before = set(sys.modules)
    yield user_folder
    for name in set(sys.modules) - before:
        if str(user_folder) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


def test_a_factory_in_the_users_folder_is_found_and_not_shadowed(user_folder):
    done = in_user_folder(user_folder, "inspect", "mymodel:make", "--input-size", "32", "--json")
    assert done.returncode == 0, done.stderr
    assert '"kind": "gap-linear"' in done.stdout
    assert '"classes": 3' in done.stdout


def test_the_embedded_model_is_found_in_the_users_folder_too(user_folder):
    done = in_user_folder(user_folder, "inspect", "digits")
    assert done.returncode == 0, done.stderr
    assert "gap-linear" in done.stdout


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("mymodel:fails", "LookupError: no such part"),
        ("mymodel:gives_text", "gave a str"),
        ("mymodel:needs_more", "missing 1 required positional argument"),
        ("mymodel:number", "not callable"),
        ("mymodel:nothing", "nothing"),
        ("mymodel:", "cannot be imported"),
        (":make", "cannot be imported"),
        ("..mymodel:make", "relative import"),
        ("nowhere:make", "No module named 'nowhere'"),
        ("needy:make", "No module named 'not_installed'"),
        ("broken:make", "SyntaxError"),
        ("script:make", "SystemExit: 2"),
    ],
)
def test_a_factory_that_fails_is_told_in_a_sentence(in_that_folder, model, found):
    with pytest.raises((ModelError, UsageError)) as refusal:
        build(model)
    assert found in str(refusal.value)


def test_a_factory_takes_the_classes_of_its_checkpoint(in_that_folder):
    network = build("mymodel:make").network
    assert network[3].out_features == 3
    network[3] = nn.Linear(8, 11)
    torch.save(network.state_dict(), in_that_folder / "eleven.pt")
    assert same(build("mymodel:make", weights=in_that_folder / "eleven.pt").network, network)


@pytest.mark.parametrize(
    "name", ["nonsense", "cuda:99", "cuda:-1", "cuda:1000000", "", "meta", "cpu:3", "mps:5", "cuda:x"]
)
def test_a_device_that_is_not_there_is_a_usage_error(name):
    with pytest.raises(UsageError) as refusal:
        pick_device(name)
    assert repr(name) in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_asked_for_and_absent():
    with pytest.raises(UsageError, match=r"'cuda'.*--device auto or cpu"):
        load_classifier("digits", device="cuda")


def test_adjusted_preprocessing_reaches_the_classifier():
    classifier = load_classifier("digits", input_size=40, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), device="cpu")
    assert classifier.preprocessing.crop == (40, 40)
    assert classifier.preprocessing.mean == (0.1, 0.2, 0.3)
    with pytest.raises(UsageError, match="do not go together"):
        load_classifier("digits", mean=(0.1,), device="cpu")


def test_labels_must_be_as_many_as_the_classes():
    with pytest.raises(UsageError, match="2 labels for the 10 classes"):
        load_classifier("digits", labels=["a", "b"], device="cpu")


def test_a_model_that_takes_no_colour_is_an_error_of_ours():
    with pytest.raises(CamError, match="does not run"):
        load_classifier("digits", mean=(0.5,), std=(0.5,), device="cpu")
