"""Weights of every wrapping are loaded into a network key by key, or not at all, and hashed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from checkpoints import same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cam.classifiers.checkpoints import (
    PREFIXES,
    class_count,
    hash_file,
    load_weights,
    read_checkpoint,
    strip_prefixes,
)
from cam.errors import WeightsError
from cam.networks.cifar_resnet import CifarResNet
from cam.tensors import hash_tensors

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


words = st.sampled_from(["module", "model", "_orig_mod", "conv", "bn", "0"])
keys = st.lists(words, min_size=1, max_size=4).map(lambda parts: ".".join([*parts, "weight"]))
wrappings = st.lists(st.sampled_from(PREFIXES), max_size=4).map("".join)


@given(names=st.sets(keys, min_size=1, max_size=6), wrapping=wrappings)
def test_any_wrapping_of_any_network_is_stripped(names: set[str], wrapping: str) -> None:
    state = {name: torch.tensor(float(i)) for i, name in enumerate(sorted(names))}
    assert same(strip_prefixes({wrapping + name: state[name] for name in state}, names), state)


@given(names=st.sets(keys, min_size=1, max_size=6), expected=st.sets(keys, max_size=6))
def test_stripping_loses_no_tensor(names: set[str], expected: set[str]) -> None:
    state = {name: torch.tensor(float(i)) for i, name in enumerate(sorted(names))}
    stripped = strip_prefixes(state, expected)
    assert [value.item() for value in stripped.values()] == [value.item() for value in state.values()]


def test_a_prefix_stays_if_some_keys_lack_it_or_two_would_become_one() -> None:
    for keys in (["module.a.weight", "loss.weight"], ["weight", "module.weight", "module.fc.weight"]):
        state = {key: torch.ones(1) for key in keys}
        assert same(strip_prefixes(state, ["a.weight", "weight", "fc.weight"]), state)


def test_the_counter_of_an_averaged_model_is_unexpected() -> None:
    network = nn.Sequential(OrderedDict(fc=nn.Linear(3, 2)))
    state = strip_prefixes(AveragedModel(network).state_dict(), network.state_dict().keys())
    assert set(state) == {"fc.weight", "fc.bias", "n_averaged"}
    with pytest.raises(WeightsError, match="unexpected 'n_averaged'\\. "):
        load_weights(network, state, "averaged.pt")


def test_the_wrapper_of_several_devices_is_stripped_and_the_networks_own_prefix_stays() -> None:
    network = nn.Sequential(OrderedDict(model=nn.Linear(3, 2)))
    wrapped = nn.DataParallel(nn.DataParallel(network)).state_dict()
    assert set(wrapped) == {"module.module.model.weight", "module.module.model.bias"}
    assert same(strip_prefixes(wrapped, network.state_dict().keys()), network.state_dict())


@pytest.mark.parametrize("classes", [1, 7, 1000])
def test_class_count_follows_the_checkpoint(classes: int) -> None:
    counts = (10, classes)
    assert class_count(CifarResNet(20, 10).state_dict(), CifarResNet(20, classes).state_dict()) == counts


def test_class_count_with_auxiliary_heads() -> None:
    shapes = {"conv.weight": (8, 3, 1, 1), "fc.weight": (5, 8), "fc.bias": (5,), "aux.weight": (5, 4, 1, 1)}
    network = {key: torch.ones(shape) for key, shape in shapes.items()}
    state = {"fc.weight": torch.ones(3, 8), "fc.bias": torch.ones(3), "aux.weight": torch.ones(3, 4, 1, 1)}
    assert class_count(network, state) == (5, 3)
    assert class_count(network, {**state, "aux.weight": torch.ones(4, 4, 1, 1)}) is None  # two counts
    assert class_count(network, {**state, "aux.weight": torch.ones(3, 9, 1, 1)}) is None  # another width
    assert class_count(network, {**state, "fc.bias": torch.ones(3, 1)}) is None  # another rank
    assert class_count(network, {**state, "fc.bias": torch.tensor(3.0)}) is None
    assert class_count(network, {**state, "conv.weight": torch.ones(4, 3, 1, 1)}) is None  # another network
    assert class_count(network, {"other": torch.ones(2)}) is None
    assert class_count(network, network) is None  # the same number


def test_loading_copies_every_value() -> None:
    source, network = CifarResNet(20), CifarResNet(20)
    load_weights(network, source.state_dict(), "a.pt")
    assert same(network.state_dict(), source.state_dict())
    with torch.no_grad():
        source.get_parameter("linear.bias").add_(1)
    assert not same(network.state_dict(), source.state_dict())


def test_loading_keeps_the_dtype_of_the_network() -> None:
    network = nn.Linear(3, 2).to(torch.float64)
    load_weights(network, {key[3:]: value.half() for key, value in STATE.items()}, "a.pt")
    assert network.weight.dtype == torch.float64
    assert network.weight.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_old_checkpoints_without_batch_counters_load() -> None:
    network = nn.BatchNorm2d(2)
    state = {name: torch.tensor([3.0, 4.0]) for name in ("weight", "bias", "running_mean", "running_var")}
    load_weights(network, state, "a.pt")
    assert network.state_dict()["running_var"].tolist() == [3, 4]
    assert network.state_dict()["num_batches_tracked"].item() == 0


def test_modules_that_need_their_version_load() -> None:
    from torchvision.models import mnasnet0_5

    network, other = mnasnet0_5(), mnasnet0_5()
    load_weights(network, dict(other.state_dict()), "a.safetensors")
    assert same(network.state_dict(), other.state_dict())


ONES = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(2, 3)}, "missing 'bias'"),
        ({**ONES, "scale": torch.ones(1)}, "unexpected 'scale'"),
        ({**ONES, "bias": torch.ones(5)}, "of another shape or dtype 'bias' float32 (5,) for float32 (2,)"),
        ({**ONES, "bias": torch.ones(2, dtype=torch.int8)}, "'bias' int8 (2,) for float32 (2,)"),
        ({**ONES, "weight": torch.ones(2, 3).to_sparse()}, "of another shape or dtype 'weight'"),
        (
            {"w": torch.ones(2, 3), "bias": torch.ones(1)},
            "missing 'weight'; unexpected 'w'; of another shape or dtype 'bias'",
        ),
    ],
    ids=["missing", "unexpected", "shape", "integers", "sparse", "all"],
)
def test_a_checkpoint_that_does_not_fit_is_named_and_changes_nothing(state: dict[str, Tensor], message: str) -> None:
    network = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, state, "runs/best.pt")
    assert message in caught.value.problem
    assert "'runs/best.pt'" in caught.value.problem
    assert "this model" in caught.value.remedy
    assert same(network.state_dict(), before)


def test_hash_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_hash_tensors_is_the_hash_of_names_dtypes_shapes_and_bytes() -> None:
    state = {"b": torch.tensor(1, dtype=torch.uint8), "a": torch.tensor([[1.0, -2.0]])}
    written = b'["a", "torch.float32", [1, 2]]' + bytes([0, 0, 128, 63, 0, 0, 0, 192])
    written += b'["b", "torch.uint8", []]' + bytes([1])
    assert hash_tensors(state) == hashlib.sha256(written).hexdigest()
    assert hash_tensors(dict(reversed(state.items()))) == hash_tensors(state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
def test_hash_tensors_sees_every_change(dtype: torch.dtype) -> None:
    weight = torch.tensor([[0, 1], [1, 1]], dtype=dtype)
    states = [
        {"w": weight},
        {"v": weight},
        {"w": weight.t().flip(0)},
        {"w": weight.reshape(4)},
        {"w": weight.to(torch.float32)},
        {"w": weight[:0]},
        {"w": weight, "v": weight},
        {},
    ]
    assert len({hash_tensors(state) for state in states}) == len(states)
    assert hash_tensors({"w": weight.t()}) == hash_tensors({"w": weight.t().contiguous()})  # strides do not count


def test_hash_tensors_does_not_depend_on_the_device(device: torch.device) -> None:
    assert hash_tensors({key: value.to(device) for key, value in STATE.items()}) == hash_tensors(STATE)


def test_published_checkpoints_load_only_into_their_own_network(shared_data: Path) -> None:
    network = CifarResNet(20)
    states = [
        strip_prefixes(read_checkpoint(shared_data / "cifar10" / "weights" / f"{name}.th"), network.state_dict())
        for name in ("resnet20-12fca82f", "resnet56-4bfd9763")
    ]
    assert class_count(CifarResNet(20, 3).state_dict(), states[0]) == (3, 10)
    load_weights(network, states[0], "resnet20-12fca82f.th")
    loaded = network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in states[0].items())
    with pytest.raises(WeightsError, match=r"unexpected 'layer1.3.conv1.weight', .* and 175 more"):
        load_weights(network, states[1], "resnet56-4bfd9763.th")
