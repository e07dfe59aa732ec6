"""A name becomes a network: cards, torchvision's builders, and factories in the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import same
from runs import SAMPLES
from safetensors.torch import save_file
from torch import nn

from cam.classifiers.load import list_models, load_classifier, load_network
from cam.classifiers.sources.cards import FOLDER, card_names, read_card
from cam.classifiers.sources.torchvision import torchvision_names
from cam.errors import ModelError, WeightsError
from cam.networks.cifar_resnet import CifarResNet


def test_the_checkpoint_determines_the_number_of_classes(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "n")
    loaded = load_network("resnet18", weights=tmp_path / "n")
    assert same(loaded.network.state_dict(), network.state_dict())
    assert loaded.weights == tmp_path / "n"


def test_the_labels_of_a_card_do_not_name_another_number_of_classes(tmp_path):
    save_file(CifarResNet(20, 7).state_dict(), tmp_path / "seven.safetensors")
    classifier = load_classifier("cifar-resnet20", weights=tmp_path / "seven.safetensors", device="cpu")
    assert classifier.labels == tuple(f"class {index}" for index in range(7))  # not CIFAR's ten


def test_labels_and_activation_of_a_card_are_only_assumed_for_other_weights(tmp_path):
    save_file(CifarResNet(20, 10).state_dict(), tmp_path / "ten.safetensors")
    classifier = load_classifier("cifar-resnet20", weights=tmp_path / "ten.safetensors", device="cpu")
    assert classifier.labels == tuple(read_card("cifar-resnet20")["labels"])
    declared, labels, activation = classifier.notes
    assert declared.endswith("std 0.229,0.224,0.225: from its card, assumed for ten.safetensors")
    assert labels == "labels: those of cifar-resnet20, assumed for ten.safetensors; --labels gives others"
    assert activation == "activation: softmax, that of cifar-resnet20, assumed for ten.safetensors"
    given = {"labels": [str(n) for n in range(10)], "activation": "sigmoid"}
    loaded = load_classifier("cifar-resnet20", weights=tmp_path / "ten.safetensors", device="cpu", **given)
    assert loaded.notes == (declared,)
    (note,) = load_classifier("digits", device="cpu").notes
    sizes = "input 72x72, whole image resized to shorter side 72, bilinear"
    assert note == f"{sizes}, mean 0.5,0.5,0.5, std 0.25,0.25,0.25: from its card"


def test_a_card_without_weights_needs_some():
    with pytest.raises(WeightsError, match="--weights"):
        load_network("cifar-resnet20")


def test_the_embedded_model_has_the_weights_and_labels_of_its_card():
    loaded = load_network("digits")
    assert loaded.weights == FOLDER / read_card("digits")["weights"]
    assert loaded.labels == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5", "resnet50"), ("Digits", "digits"), ("cifar-resnet", "cifar-resnet20"), ("zzzzz", "cam models lists")],
)
def test_an_unknown_model_lists_near_names(name, near):
    with pytest.raises(ModelError) as caught:
        load_network(name)
    assert repr(name) in str(caught.value)
    assert near in str(caught.value)


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
from settings import CLASSES

def make(num_classes=CLASSES):
    torch.manual_seed(0)
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

def fixed():
    return make()

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
    """A user's project, with a package called `models`."""
    (tmp_path / "mymodel.py").write_text(MYMODEL)
    (tmp_path / "settings.py").write_text("CLASSES = 3\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "parts.py").write_text("from torch import nn\nbody = lambda: nn.Conv2d(3, 8, 3, 2)\n")
    (tmp_path / "broken.py").write_text("def make(:\n")
    (tmp_path / "needy.py").write_text("import not_installed\n")
    (tmp_path / "script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--epochs'])\n")
    return tmp_path


@pytest.fixture
def in_user_folder(user_folder, monkeypatch) -> Iterator[Path]:
    """That project as the working directory; its modules are unloaded afterwards."""
    monkeypatch.chdir(user_folder)
    before = set(sys.modules)
    yield user_folder
    for name in set(sys.modules) - before:
        if str(user_folder) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("options", [["-P"], []], ids=["as the installed program", "with python -m"])
def test_a_factory_in_the_working_directory_is_found_but_shadows_no_library(user_folder, options):
    for name in ("cv2", "torch", "json", "onnxruntime"):
        (user_folder / f"{name}.py").write_text("raise SystemExit('imported from the working directory')\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, *options, "-m", "cam", "inspect", "mymodel:make", "--input-size", "32", "--json"]
    result = subprocess.run(command, cwd=user_folder, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert '"kind": "gap-linear"' in result.stdout
    assert '"classes": 3' in result.stdout


def test_the_working_directory_is_on_the_path_only_while_a_factory_is_used(in_user_folder):
    before = list(sys.path)
    assert str(in_user_folder) not in before
    load_network("digits")
    load_network("mymodel:make")
    with pytest.raises(ModelError):
        load_network("mymodel:fails")
    assert sys.path == before


@pytest.mark.parametrize("folder", ["", "{}/"], ids=["working directory", "absolute"])
def test_a_factory_may_be_given_by_its_file(in_user_folder, folder):
    assert load_network(f"{folder.format(in_user_folder)}mymodel.py:make").network[3].out_features == 3


def test_a_deleted_working_directory_is_one_sentence(tmp_path, monkeypatch, run):
    (tmp_path / "deleted").mkdir()
    monkeypatch.chdir(tmp_path / "deleted")
    (tmp_path / "deleted").rmdir()
    for arguments in (("inspect", "mymodel:make"), ("explain", SAMPLES, "-m", "digits", "-o", tmp_path / "out")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "Error: The working directory no longer exists. Change to another directory.\n"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mymodel:fails", "LookupError: no such part"),
        ("mymodel:gives_text", "must return a torch.nn.Module, got str"),
        ("mymodel:needs_more", "missing 1 required positional argument"),
        ("mymodel:number", "not callable"),
        ("mymodel:nothing", "nothing"),
        ("mymodel:", "not callable"),
        (":make", "cannot be imported"),
        ("..mymodel:make", "cannot be imported"),
        ("nowhere:make", "No module named 'nowhere'"),
        ("needy:make", "No module named 'not_installed'"),
        ("broken:make", "SyntaxError"),
        ("script:make", "SystemExit: 2"),
    ],
)
def test_a_factory_that_fails_is_one_sentence(in_user_folder, model, message):
    with pytest.raises(ModelError, match=message):
        load_network(model)


@pytest.mark.parametrize("factory", ["make", "fixed"])
def test_a_factory_needs_num_classes_only_for_a_checkpoint_with_other_classes(in_user_folder, factory):
    network = load_network(f"mymodel:{factory}").network
    assert network[3].out_features == 3
    torch.save(network.state_dict(), in_user_folder / "three.pt")
    loaded = load_network(f"mymodel:{factory}", weights=in_user_folder / "three.pt")
    assert same(loaded.network.state_dict(), network.state_dict())
    network[3] = nn.Linear(8, 11)
    torch.save(network.state_dict(), in_user_folder / "eleven.pt")
    if factory == "make":
        loaded = load_network("mymodel:make", weights=in_user_folder / "eleven.pt")
        assert same(loaded.network.state_dict(), network.state_dict())
    else:
        with pytest.raises(WeightsError, match=r"eleven\.pt' has 11 classes, and the network 3\. .*take `num_classes`"):
            load_network("mymodel:fixed", weights=in_user_folder / "eleven.pt")
