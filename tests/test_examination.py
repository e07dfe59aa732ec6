"""A cached head analysis is the one that was found, is proved again, and is never used for another network."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from odd_heads import EXACT
from small import NETWORKS
from torch import Tensor, nn

from cam.classifiers.inspection import inspect_model
from cam.classifiers.load import load_classifier, wrap
from cam.errors import HeadError
from cam.heads import examine
from cam.heads.examine import HeadAnalysis, analyze_head

SHAPE = (3, 32, 32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Folder of the cache, still missing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gapcam" / "networks"


@pytest.fixture
def searches(monkeypatch) -> list[nn.Module]:
    """The networks whose head was searched for."""
    networks: list[nn.Module] = []
    find = examine.find_head_in_copy

    def counting(network, shape):
        networks.append(network)
        return find(network, shape)

    monkeypatch.setattr(examine, "find_head_in_copy", counting)
    return networks


def small_network(kind: str = "gap-linear", device: torch.device | str = "cpu") -> nn.Module:
    torch.manual_seed(3)
    network = NETWORKS[kind]()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return network.to(device)


def same(one: HeadAnalysis, other: HeadAnalysis) -> bool:
    heads = one.head.weight.equal(other.head.weight) and one.head.bias.equal(other.head.bias)
    rest = [replace(analysis, head=replace(analysis.head, weight=None, bias=None)) for analysis in (one, other)]
    return heads and rest[0] == rest[1] and repr(one.head.site) == repr(other.head.site)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_cached_analysis_is_bitwise_the_same(kind, mode, searches, device):
    first = analyze_head(small_network(kind, device), SHAPE)
    with mode():
        second = analyze_head(small_network(kind, device), SHAPE)
    assert len(searches) == 1
    assert same(first, second)
    assert not second.head.weight.is_inference()
    assert second.head.weight.device.type == device.type


def test_tokens_and_channels_of_a_site_are_cached(searches):
    first, second = (analyze_head(EXACT["tokens"].build(), (3, 16, 24)) for _ in range(2))
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


@pytest.mark.parametrize("change", [changed_weight, changed_stride, changed_buffer, nn.Module.double])
def test_another_network_is_analyzed_again(change, searches):
    analyze_head(small_network(), SHAPE)
    network = small_network()
    change(network)
    analysis = analyze_head(network, SHAPE)
    assert len(searches) == 2
    assert analysis.grid.stride == ((4, 4) if change is changed_stride else (2, 2))


@pytest.mark.parametrize("name", ["VERSION", "_CACHE_VERSION"])
def test_another_version_or_input_is_analyzed_again(name, searches, monkeypatch):
    analyze_head(small_network(), SHAPE)
    analyze_head(small_network(), (3, 48, 48))
    assert len(searches) == 2
    monkeypatch.setattr(examine, name, "another")
    analyze_head(small_network(), SHAPE)
    assert len(searches) == 3


class Scaled(nn.Module):
    """Has a scale that neither its weights nor its description show."""

    def __init__(self, scale: float, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5)
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        features = (self.conv(x) + self.shift).relu()
        return self.scale * self.fc(features.mean((2, 3)))


@pytest.mark.parametrize("other", [Scaled(2.0), Scaled(1.0, 0.3)], ids=["head", "features"])
def test_changed_code_with_the_same_weights_is_noticed(other, searches):
    before = analyze_head(Scaled(1.0), SHAPE)
    after = analyze_head(other, SHAPE)
    assert len(searches) == 2
    assert after.tensors_sha256 == before.tensors_sha256
    torch.testing.assert_close(after.head.weight, other.scale * other.fc.weight.detach())
    assert analyze_head(other, SHAPE).head.weight.equal(after.head.weight)
    assert len(searches) == 2


class Ordered(nn.Module):
    """Tokens in an order that neither its weights nor its description nor its scores show."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.mix, self.fc = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 6), nn.Linear(6, 5)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mix(self.conv(x).flatten(2).mT[:, self.order]).relu().mean(1))


def test_the_same_cells_in_another_order_are_noticed(searches):
    rows = torch.arange(16).view(4, 4)
    assert not analyze_head(Ordered(rows.flatten().tolist()), SHAPE).head.site.transposed
    assert analyze_head(Ordered(rows.T.flatten().tolist()), SHAPE).head.site.transposed
    with pytest.raises(HeadError, match="not places"):
        analyze_head(Ordered(rows.roll(2, 0).flatten().tolist()), SHAPE, "exact")
    assert len(searches) == 3


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"text", "cut short", "other bias", "other scores", "no grid"])
def test_a_damaged_or_wrong_entry_is_replaced(damage, searches, cache):
    analysis = analyze_head(small_network(), SHAPE)
    (file,) = cache.iterdir()
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    elif damage == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        entry = torch.load(file, weights_only=True)
        if damage == "no grid":
            del entry["grid"]
        else:
            (entry["head"]["bias"] if damage == "other bias" else entry["scores"]).add_(0.1)
        torch.save(entry, file)
    for _ in range(2):
        assert same(analyze_head(small_network(), SHAPE), analysis)
    assert len(searches) == 2


def test_the_entries_used_last_stay(cache, searches, monkeypatch):
    monkeypatch.setattr(examine, "_MAX_ENTRIES", 2)
    for seconds, kind in enumerate(("gap-linear", "conv-gap")):
        analyze_head(small_network(kind), SHAPE)
        (newest,) = (path for path in cache.iterdir() if path.stat().st_mtime > 1000)
        os.utime(newest, (seconds, seconds))
    analyze_head(small_network("gap-linear"), SHAPE)  # now the one used last
    analyze_head(small_network("one-logit"), SHAPE)
    assert len(list(cache.iterdir())) == 2
    analyze_head(small_network("gap-linear"), SHAPE)
    assert len(searches) == 3
    analyze_head(small_network("conv-gap"), SHAPE)
    assert len(searches) == 4


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path, monkeypatch, searches):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert same(analyze_head(small_network(), SHAPE), analyze_head(small_network(), SHAPE))
    assert len(searches) == 2


def test_a_refused_head_is_not_cached(cache):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    with pytest.raises(HeadError, match="not-gap"):
        analyze_head(network, SHAPE, "exact")
    assert not cache.exists()


def test_a_stretched_grid_is_cached(searches):
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(16),
        nn.Conv2d(3, 4, 4, 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    first, second = analyze_head(network, SHAPE), analyze_head(network, SHAPE)
    assert len(searches) == 1
    assert first.grid.method == "stretched"
    assert same(first, second)


def test_lazy_layers_are_initialized(searches):
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    for _ in range(2):
        assert wrap(network, input_size=32).head.weight.shape == (2, 4)
    assert len(searches) == 1


def test_an_inspection_fills_the_cache_and_keeps_its_float64_proof(searches):
    inspected = inspect_model("cifar-resnet20", random_weights=True).classifier
    loaded = load_classifier("cifar-resnet20", random_weights=True, device="cpu")
    assert len(searches) == 1
    assert inspected.head.weight.equal(loaded.head.weight)
    assert inspected.grid == loaded.grid
    assert inspected.proof.error64 < 1e-6
    assert loaded.proof == replace(inspected.proof, error64=None)


@pytest.mark.parametrize("model", ["cifar-resnet20", "squeezenet1_1"])
def test_random_weights_are_reproducible_and_leave_the_random_state_alone(model):
    before = torch.get_rng_state()
    one, other = (load_classifier(model, random_weights=True, input_size=64, device="cpu") for _ in range(2))
    assert one.tensors_sha256 == other.tensors_sha256
    assert torch.get_rng_state().equal(before)


def test_torchvision_is_imported_only_for_its_own_models():
    program = "import sys, cam; cam.load_classifier('digits', device='cpu'); print('torchvision' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
