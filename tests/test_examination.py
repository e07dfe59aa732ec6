"""What is remembered of a network is what was found, is proved again, and is never used for another network."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import NETWORKS
from torch import Tensor, nn

from cam.classifiers.inspection import inspect_model
from cam.classifiers.load import load_classifier, wrap
from cam.errors import HeadError
from cam.heads import examine as examination
from cam.heads.examine import Findings, examine, recall, remember

SHAPE = (3, 32, 32)
LOOKS = {"input_size": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Nothing is remembered yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def searches(monkeypatch) -> list[nn.Module]:
    """The networks whose head was looked for."""
    seen: list[nn.Module] = []
    find = examination.find_head
    monkeypatch.setattr(examination, "find_head", lambda network, shape: seen.append(network) or find(network, shape))
    return seen


def made(kind: str = "gap-linear", device: torch.device | str = "cpu") -> nn.Module:
    torch.manual_seed(3)
    network = NETWORKS[kind]()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return network.to(device)


def same(one: Findings, other: Findings) -> bool:
    heads = one.head.weight.equal(other.head.weight) and one.head.bias.equal(other.head.bias)
    rest = [replace(each, head=replace(each.head, weight=None, bias=None)) for each in (one, other)]
    return heads and rest[0] == rest[1] and repr(one.head.site) == repr(other.head.site)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_second_examination_gives_the_same_to_the_last_bit(kind, mode, searches, device):
    first = examine(made(kind, device), SHAPE)
    with mode():
        second = examine(made(kind, device), SHAPE)
    assert len(searches) == 1
    assert same(first, second)
    assert not second.head.weight.is_inference()
    assert second.head.weight.device.type == device.type


def test_tokens_and_channels_of_a_site_come_back(searches):
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).flatten(2).transpose(1, 2).relu().mean(1))

    torch.manual_seed(0)
    network = Tokens()
    first, second = examine(network, SHAPE), examine(network, SHAPE)
    assert len(searches) == 1
    assert (first.head.site.channel, first.head.site.tokens) == (2, (0, 0))
    assert same(first, second)


def changed_weight(network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6


def changed_stride(network: nn.Module) -> None:
    network[0].stride = (4, 4)


def changed_buffer(network: nn.Module) -> None:
    network[1].running_mean += 0.01


def changed_precision(network: nn.Module) -> None:
    network.double()


@pytest.mark.parametrize("change", [changed_weight, changed_stride, changed_buffer, changed_precision])
def test_another_network_is_examined_anew(change, searches):
    examine(made(), SHAPE)
    network = made()
    change(network)
    findings = examine(network, SHAPE)
    assert len(searches) == 2
    assert findings.grid.stride == ((4, 4) if change is changed_stride else (2, 2))


@pytest.mark.parametrize("name", ["VERSION", "_VERSION"])
def test_another_version_or_input_is_examined_anew(name, searches, monkeypatch):
    examine(made(), SHAPE)
    examine(made(), (3, 48, 48))
    assert len(searches) == 2
    monkeypatch.setattr(examination, name, "another")
    examine(made(), SHAPE)
    assert len(searches) == 3


class Scaled(nn.Module):
    """Of a scale that neither its weights nor its description tell."""

    def __init__(self, scale: float, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5)
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        features = (self.conv(x) + self.shift).relu()
        return self.scale * self.fc(features.mean((2, 3)))


@pytest.mark.parametrize("other", [Scaled(2.0), Scaled(1.0, 0.3)], ids=["head", "features"])
def test_code_that_changed_under_the_same_weights_is_noticed(other, searches):
    before = examine(Scaled(1.0), SHAPE)
    after = examine(other, SHAPE)
    assert len(searches) == 2
    assert after.tensors_sha256 == before.tensors_sha256
    torch.testing.assert_close(after.head.weight, other.scale * other.fc.weight.detach())
    assert examine(other, SHAPE).head.weight.equal(after.head.weight)
    assert len(searches) == 2


def test_an_entry_whose_head_is_a_little_wrong_is_thrown_away(searches, cache):
    network = made()
    true = examine(network, SHAPE)
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    key = examination._key(network, SHAPE, true.tensors_sha256)
    wrong = replace(true, head=replace(true.head, bias=true.head.bias + 0.1))
    remember(examination._to_bytes(wrong, torch.zeros(5)), *key)
    assert file.read_bytes()[32:] == recall(*key)
    assert same(examine(network, SHAPE), true)
    assert len(searches) == 2
    assert same(examine(network, SHAPE), true)
    assert len(searches) == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"{}\n", b"null\n12345678", b"\xff\n", b'{"kind": "gap-linear"}\nx'])
def test_an_entry_that_makes_no_sense_is_thrown_away(data, searches):
    network = made()
    true = examine(network, SHAPE)
    remember(data, *examination._key(network, SHAPE, true.tensors_sha256))
    assert same(examine(network, SHAPE), true)
    assert len(searches) == 2


def test_a_head_that_is_refused_is_not_remembered(cache):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    with pytest.raises(HeadError, match="not-gap"):
        examine(network, SHAPE)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_network_of_one_size_is_remembered_with_its_grid_measured_again(searches):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 2))
    first, second = examine(network, SHAPE), examine(network, SHAPE)
    assert len(searches) == 1
    assert first.grid.method == "stretched"
    assert same(first, second)


def test_a_network_whose_layers_wait_for_their_first_input(searches):
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    assert wrap(network, **LOOKS).head.weight.shape == (2, 4)
    assert wrap(network, **LOOKS).head.weight.shape == (2, 4)
    assert len(searches) == 1


def test_a_network_inspected_is_one_remembered_and_its_float64_proof_stays_with_the_inspection(searches):
    inspected = inspect_model("cifar-resnet20", random_weights=True).classifier
    loaded = load_classifier("cifar-resnet20", random_weights=True, device="cpu")
    assert not searches  # the inspection looks for itself
    assert inspected.head.weight.equal(loaded.head.weight)
    assert inspected.grid == loaded.grid
    assert inspected.proof.error64 < 1e-6
    assert loaded.proof == replace(inspected.proof, error64=None)


@pytest.mark.parametrize("model", ["cifar-resnet20", "squeezenet1_1"])
def test_random_weights_are_the_same_each_time_and_leave_the_random_numbers_alone(model):
    before = torch.get_rng_state()
    one, other = (load_classifier(model, random_weights=True, input_size=64, device="cpu") for _ in range(2))
    assert one.tensors_sha256 == other.tensors_sha256
    assert torch.get_rng_state().equal(before)


def test_models_that_are_not_torchvisions_do_not_wait_for_it(cache):
    program = "import sys, cam; cam.load_classifier('digits', device='cpu'); print('torchvision' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
