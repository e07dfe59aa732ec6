"""What torch.export and TorchScript recorded is explained like its source, and none of its code is run."""

from __future__ import annotations

import io
import itertools
import json
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from checkpoints import Bomb
from recorded import PHOTO, Net, WithSizes, check_like, export, rewritten, script
from torch import Tensor, nn

import cam
from cam.errors import ModelError, WeightsError

BATCHES = {"one": 1, "two": 2, "any": None}


@cache
def source(name: str) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=10).eval()


NETWORKS = "resnet18", "mobilenet_v2", "squeezenet1_1"
KINDS = "traced", "scripted", "frozen"
ONE_OF_EACH = set(zip(NETWORKS, KINDS, strict=True))  # all nine take a minute


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_is_like_its_source(tmp_path, name, batch):
    file = export(source(name), tmp_path / "net.pt2", BATCHES[batch])
    classifier = cam.load_classifier(file, device="cpu")
    assert classifier.preprocessing.crop == (64, 64)
    assert classifier.weights == file
    assert not any("batch" in note for note in classifier.notes)  # its operations take any number
    check_like(classifier, source(name))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*pair, marks=() if pair in ONE_OF_EACH else pytest.mark.slow)
        for pair in itertools.product(NETWORKS, KINDS)
    ],
)
def test_torchscript_is_like_its_source(tmp_path, name, kind):
    file = script(source(name), tmp_path / "net.pt", kind)
    check_like(cam.load_classifier(file, device="cpu", input_size=64), source(name))


def test_modules_of_torch_export_and_torchscript_can_be_wrapped(tmp_path):
    network = Net()
    exported = torch.export.load(export(network, tmp_path / "net.pt2", 1, side=32)).module()
    classifier = cam.wrap(exported)
    assert classifier.preprocessing.crop == (32, 32)
    check_like(classifier, network, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.load(script(network, tmp_path / "net.pt"))
    assert cam.wrap(scripted, input_size=32).name == "Net"
    check_like(cam.wrap(scripted, input_size=32), network, 32)


class Normalized(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.body(x).mean((2, 3))))


class Loops(Net):
    """Control flow and lists, which TorchScript keeps."""

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.body(x)]
        for step in range(x.shape[1] + 2):
            if step < 2:
                maps.append(maps[-1] * 2)
        first, last = maps[0], maps[len(maps) - 1]
        if x.dim() != 4:
            raise ValueError("images")
        return self.fc(torch.cat([first, last], 2).mean((2, 3)))


def test_operations_with_the_batch_in_them_run_one_image_at_a_time(tmp_path):
    network = WithSizes()
    classifier = cam.load_classifier(export(network, tmp_path / "net.pt2", 1, side=32), device="cpu")
    assert "batch: one image at a time, as the network was recorded" in classifier.notes
    check_like(classifier, network, 32)
    photos = [PHOTO, PHOTO[:, ::-1], PHOTO[::-1]]
    together = [explanation.logit for explanation in cam.explain_all(classifier, photos, 2)]
    alone = [cam.explain(cam.wrap(network, input_size=32), np.ascontiguousarray(photo), 2).logit for photo in photos]
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_a_network_that_needs_several_images_is_refused(tmp_path):
    with pytest.raises(
        ModelError, match=r"recorded with 2 images, and runs with that number only\. Record it with one"
    ):
        cam.load_classifier(export(WithSizes(), tmp_path / "net.pt2", 2, side=32), device="cpu")


def test_what_the_network_records_is_what_it_runs(tmp_path):
    assert cam.load_classifier(script(Loops(), tmp_path / "loops.pt"), device="cpu", input_size=32).head.classes == 4
    check_like(cam.load_classifier(script(Loops(), tmp_path / "loops.pt"), device="cpu", input_size=32), Loops(), 32)


class Named(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x).mean((2, 3))
        return {"features": features[:, :4], "logits": self.fc(features)}


class WithoutGradients(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.body(x)
        return self.fc(features.mean((2, 3)))


def both_ways(file: Path) -> list[Callable[[], cam.Classifier]]:
    return [lambda: cam.load_classifier(file, device="cpu"), lambda: cam.wrap(torch.export.load(file).module())]


def test_outputs_keep_their_names(tmp_path):
    for load in both_ways(export(Named(), tmp_path / "net.pt2", side=32)):
        assert load().head.weight.equal(Net().fc.weight)


def test_an_operation_that_cannot_be_run_is_named(tmp_path):
    for load in both_ways(export(WithoutGradients(), tmp_path / "net.pt2", side=32)):
        with pytest.raises(
            ModelError, match=r"has the operation .*wrap_with_set_grad_enabled, which is not supported\."
        ):
            load()


@pytest.mark.parametrize("decomposed", [False, True])
def test_normalizations_are_exact_for_each_image(tmp_path, decomposed):
    program = torch.export.export(Normalized().eval(), (torch.zeros(1, 3, 32, 32),))
    torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "net.pt2")
    classifier = cam.load_classifier(tmp_path / "net.pt2", device="cpu")
    assert classifier.head.kind == "gap-norm-linear"
    check_like(classifier, Normalized(), 32)


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def hostile_graph(trace: Path, name: str, content: bytes) -> bytes:
    """Code wherever torch.export.load runs some: expressions of sizes, guards, names, and pickled examples."""
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    if name.endswith("sample_inputs/model.pt"):
        return pickled(Bomb(trace))
    if name.endswith("models/model.json"):
        graph = json.loads(re.sub(rb'"Symbol\([^"]*\)"', json.dumps(code).encode(), content))
        assert code in json.dumps(graph).replace('\\"', '"')
        graph["guards_code"] = [code]
        graph["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [f"x={code}"]
        return json.dumps(graph).encode()
    return content


def test_no_code_of_an_exported_file_is_run(tmp_path):
    file, trace = export(Net(), tmp_path / "net.pt2", side=32), tmp_path / "ran"
    hostile = rewritten(file, tmp_path / "hostile.pt2", partial(hostile_graph, trace))
    check_like(cam.load_classifier(hostile, device="cpu"), Net(), 32)
    assert not trace.exists()
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        torch.export.load(hostile)
    assert trace.exists()  # the code is run by torch


def pickle_weight(value: object, name: str, content: bytes) -> bytes:
    if name.endswith("weights/weight_0"):
        return pickled(value)
    return (
        content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        if name.endswith("weights_config.json")
        else content
    )


def test_a_pickle_in_an_exported_file_is_read_only_if_that_is_allowed(tmp_path):
    network = Net()
    file, trace = export(network, tmp_path / "net.pt2", side=32), tmp_path / "ran"
    hostile = rewritten(file, tmp_path / "hostile.pt2", partial(pickle_weight, Bomb(trace)))
    with pytest.raises(ModelError, match=r"has 'body\.0\.weight' as a pickle\. Pass --unsafe-pickle if you trust it\."):
        cam.load_classifier(hostile, device="cpu")
    assert not trace.exists()
    plain = rewritten(file, tmp_path / "plain.pt2", partial(pickle_weight, network.body[0].weight))
    check_like(cam.load_classifier(plain, device="cpu", unsafe_pickle=True), network, 32)


@pytest.mark.parametrize(
    "operation",
    ["torch.ops.aten.from_file.default", "torch.ops.load_library", "_operator.attrgetter", "torch.load", "os.system"],
)
def test_other_operations_than_those_of_tensors_are_refused(tmp_path, operation):
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b'"torch.ops.aten.relu.default"', json.dumps(operation).encode())

    hostile = rewritten(export(Net(), tmp_path / "net.pt2", side=32), tmp_path / "hostile.pt2", change)
    with pytest.raises(ModelError, match=r"The network has the operation .*, which is not supported"):
        cam.load_classifier(hostile, device="cpu")


class WritesFile(Net):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "ran")
        return self.fc(self.body(x).mean((2, 3)))


class ReadsFile(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3))) + torch.from_file("ran", True, 4, dtype=torch.float32)


class SetsState(Net):
    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.fc.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.training = state[1]
        torch.save(state[0], "ran")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (WritesFile, "aten::save"),
        (ReadsFile, "aten::from_file"),
        (SetsState, "runs code when it is read: __setstate__"),
    ],
)
def test_torchscript_that_would_touch_files_is_refused(tmp_path, monkeypatch, network, message):
    monkeypatch.chdir(tmp_path)
    file = script(network(), tmp_path / "net.pt")
    with pytest.raises((ModelError, WeightsError), match=message):
        cam.load_classifier(file, device="cpu", input_size=32)
    assert not Path("ran").exists()
