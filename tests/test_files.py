"""A file with a network is a model, whatever it is; other files and names get an answer that leads on."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED

import pytest
import torch
from recorded import Net, WithSizes, check_like, export, rewritten, script
from refusals import check_message, refused
from runs import FIVE
from safetensors.torch import save_file
from torch import nn

import cam
from cam.classifiers.load import load_network
from cam.errors import ModelError, WeightsError


@pytest.mark.parametrize("kind", ["exported", "TorchScript", "pickle"])
def test_a_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch, kind):
    network = Net(classes=200_000)
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    if kind == "pickle":
        torch.save(network.state_dict(), tmp_path / "net")
    make = {"exported": partial(export, side=32), "TorchScript": script}.get(kind, lambda _, file: file)
    file = rewritten(make(network, tmp_path / "net"), tmp_path / "small", lambda _, content: content, ZIP_DEFLATED)
    monkeypatch.setattr("cam.classifiers.sources.torchscript._MAX_CODE", 1_000_000)
    for name in ("torch.load", "torch.jit.load", "torch.frombuffer"):
        monkeypatch.setattr(name, None)
    assert file.stat().st_size < 400_000
    with pytest.raises(WeightsError, match=r"is compressed: its contents take [67],"):
        cam.load_classifier(file, device="cpu")


@pytest.mark.parametrize("content", [lambda network: network, lambda network: {"model": network, "epoch": 3}])
def test_a_pickled_network_is_read_only_if_that_is_allowed(tmp_path, content):
    network = Net()
    torch.save(content(network), tmp_path / "whole.pt")
    with pytest.raises(
        (ModelError, WeightsError), match=f"Net.* runs code when it is read|needs '{Net.__module__}.Net'"
    ) as error:
        cam.load_classifier(tmp_path / "whole.pt", device="cpu", input_size=32)
    assert "--unsafe-pickle" in error.value.remedy
    check_like(cam.load_classifier(tmp_path / "whole.pt", device="cpu", input_size=32, unsafe_pickle=True), network, 32)


def test_of_pickled_networks_the_averaged_one_is_taken(tmp_path):
    averaged = Net()
    nn.init.ones_(averaged.fc.bias)
    torch.save({"model": Net(), "ema": averaged, "criterion": nn.CrossEntropyLoss()}, tmp_path / "last.pt")
    loaded = load_network(tmp_path / "last.pt", unsafe_pickle=True)
    assert loaded.network.fc.bias.tolist() == [1] * 4
    assert loaded.notes == ("network: 'ema' of last.pt, the averaged one (EMA), not 'model'",)
    torch.save({"student": Net(), "teacher": averaged}, tmp_path / "two.pt")
    with pytest.raises(ModelError, match="holds several networks: 'student', 'teacher'"):
        load_network(tmp_path / "two.pt", unsafe_pickle=True)


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_checkpoint_asks_for_its_network_with_a_factory_to_write(run, tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save(Net(classes=7).state_dict(), Path("best.pt"))
    result = run("explain", FIVE, "-m", "best.pt", "-o", "out")
    message, *lines = result.stderr.splitlines()
    assert result.exit_code == 1
    check_message(message.removeprefix("Error: "))
    assert "holds weights, 4 tensors with 'fc.weight' (7, 8), but no network" in message
    assert "-m resnet18 --weights best.pt, or give your own with -m net.py:make --weights best.pt" in message
    code = "\n".join(lines).replace("my_project", __name__).replace("Network", "Net")
    Path("net.py").write_text(code)
    assert load_network("net.py:make", weights="best.pt").network.fc.out_features == 7


@pytest.mark.parametrize(
    ("model", "problem", "remedy"),
    [
        ("timm/resnet18", "is not known", "Write timm:resnet18."),
        ("microsoft/resnet-50", "is not known", "Write hf:microsoft/resnet-50 if it is"),
        ("", "is a folder", "Give a file in it"),
        (".", "is a folder", "Give a file in it"),
        ("a" * 300, "is not known", "Give a name"),
        ("a\0", "is not known", "Give a name"),
        ("mine", "names 'mine.py', but not what builds the network", "Give mine.py:make or mine.py:Net."),
        ("mine.py", "names 'mine.py', but not what builds the network", "Give mine.py:make or mine.py:Net."),
        ("nowhere", "is not known", "Give a name that cam models lists, timm:NAME, hf:REPO, or file.py:callable"),
        ("resnet5", "is not known", "Give one of resnet50, "),
        ("runs", "is a folder", "Give a file in it, such as runs/best.pt."),
        ("empty", "is a folder", "Give a file in it."),
        ("lost.pt", "does not exist", "Check the path."),
        ("text.pt", "is empty, damaged, or not in the format of torch.save", "Copy or download it again"),
        ("broken.pt2", "cannot be read as a network (pt2): BadZipFile", "Copy it again"),
        ("cut.pt2", "cannot be read as a network (export): ", "Copy it again"),
        ("numbers.pt", "holds a list, and no network or weights", "Save network.state_dict()."),
    ],
)
def test_other_files_and_names_get_an_answer_that_leads_on(run, tmp_path, monkeypatch, model, problem, remedy):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def conv(x): ...\ndef make(n=3): ...\nclass Net: ...\ndef _hidden(): ...\n")
    Path("runs").mkdir()
    Path("empty").mkdir()
    Path("runs", "best.pt").touch()
    Path("text.pt").write_text("text")
    Path("broken.pt2").write_bytes(b"PK\x03\x04")
    rewritten(export(Net(), tmp_path / "net.pt2", side=32), Path("cut.pt2"), lambda _, content: content[:-9])
    torch.save([1, 2], "numbers.pt")
    refused(run("explain", FIVE, "-m", model, "-o", "out"), 1, problem, remedy)


def test_a_file_with_a_network_takes_no_weights(run, tmp_path):
    file = export(Net(), tmp_path / "net.pt2", side=32)
    refused(run("explain", FIVE, "-m", file, "--no-weights", "-o", tmp_path / "out"), 2, "without --weights")


def test_a_file_is_explained_by_the_command(run, tmp_path):
    file = export(Net(), tmp_path / "net.pt2", 1, side=32)
    result = run("explain", FIVE, "-m", file, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "input 32x32, center crop of the image resized to shorter side 32" in result.stderr


class EqualWeights(Net):
    """Two biases are equal, which is written once."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU())
        nn.init.zeros_(self.body[0].bias)
        nn.init.zeros_(self.body[2].bias)


@pytest.mark.parametrize("by_graph", [True, False], ids=["dynamo", "traced"])
@pytest.mark.parametrize("network", [Net, WithSizes, EqualWeights])
def test_an_onnx_file_is_like_its_source(tmp_path, network, by_graph):
    pytest.importorskip("onnx2pytorch")
    source, file = network().eval(), tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(source, (torch.zeros(1, 3, 32, 32),), file, dynamo=by_graph, verbose=False)
    classifier = cam.load_classifier(file, device="cpu")
    assert classifier.preprocessing.crop == (32, 32)
    check_like(classifier, source, 32)


def test_an_onnx_file_that_is_converted_wrong_is_refused(tmp_path, monkeypatch):
    converter = pytest.importorskip("onnx2pytorch")
    torch.onnx.export(Net().eval(), (torch.zeros(1, 3, 32, 32),), tmp_path / "net.onnx", dynamo=True, verbose=False)
    monkeypatch.setattr(converter, "ConvertModel", lambda model: Net(classes=4, seed=1))
    with pytest.raises(ModelError, match="computes something else when it is converted"):
        cam.load_classifier(tmp_path / "net.onnx", device="cpu")
    monkeypatch.delattr(converter, "ConvertModel")
    with pytest.raises(ModelError, match="cannot be converted: AttributeError"):
        cam.load_classifier(tmp_path / "net.onnx", device="cpu")


def test_the_converter_is_an_extra(run, tmp_path, monkeypatch):
    (tmp_path / "net.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnx2pytorch", None)
    result = run("explain", FIVE, "-m", tmp_path / "net.onnx", "-o", tmp_path / "out")
    refused(result, 1, "--model needs onnx2pytorch", "Run pip install 'gapcam[onnx]'.")
