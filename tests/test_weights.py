"""Weights of every wrapping are loaded into a network key by key, or not at all, and hashed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from checkpoints import same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cam.classifiers.checkpoints import (
    choose_state,
    class_count,
    find_states,
    hash_file,
    load_weights,
    read_checkpoint,
)
from cam.errors import WeightsError
from cam.networks.cifar_resnet import CifarResNet
from cam.tensors import hash_tensors

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


words = st.sampled_from(["module", "model", "_orig_mod", "conv", "bn", "0"])
keys = st.lists(words, min_size=1, max_size=4).map(lambda parts: ".".join([*parts, "weight"]))
wrappings = st.lists(words.map(lambda word: word + "."), max_size=4).map("".join)


def chosen(content: object, network: nn.Module | dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    expected = network.state_dict() if isinstance(network, nn.Module) else network
    return choose_state(dict(find_states(content)), expected, "runs/best.pt")


@given(names=st.sets(keys, min_size=1, max_size=6), wrapping=wrappings)
def test_any_wrapping_of_any_network_is_stripped(names: set[str], wrapping: str) -> None:
    state = {name: torch.tensor(float(i)) for i, name in enumerate(sorted(names))}
    loaded, notes = chosen({wrapping + name: state[name] for name in state}, state)
    assert same(loaded, state)
    assert notes == ()


@given(names=st.sets(keys, min_size=1, max_size=6), expected=st.sets(keys, max_size=6))
def test_no_layer_is_lost_unless_the_checkpoint_is_refused(names: set[str], expected: set[str]) -> None:
    state = {name: torch.full((2, 2), float(i)) for i, name in enumerate(sorted(names))}
    with suppress(WeightsError):  # several sets that fit as well
        loaded, notes = chosen(state, dict.fromkeys(expected, torch.ones(2, 2)))
        lost = [key for key, value in state.items() if not any(map(value.equal, loaded.values()))]
        is_refused = loaded.keys() - expected
        assert is_refused or all(repr(key) in notes[0] for key in lost)


def test_of_two_keys_for_one_layer_that_with_the_prefix_counts() -> None:
    state = {key: torch.full((2, 2), float(i)) for i, key in enumerate(["weight", "module.weight", "module.fc.weight"])}
    for content in (state, dict(reversed(state.items()))):
        loaded, _ = chosen(content, {"weight": torch.ones(2, 2), "fc.weight": torch.ones(2, 2)})
        assert loaded["weight"].equal(state["module.weight"])


def linear() -> nn.Module:
    return nn.Sequential(OrderedDict(fc=nn.Linear(3, 2)))


def test_what_stands_beside_a_network_is_left_out_and_named() -> None:
    beside = {
        "criterion.weight": torch.ones(2),
        "train_acc.confmat": torch.ones(2, 2),
        "arc_loss.weight": torch.ones(2, 8),
        "n_averaged": torch.tensor(3),
    }
    state = {f"net.{key}": value for key, value in STATE.items()}
    loaded, notes = chosen({"epoch": 1, "state_dict": {**state, **beside}}, linear())
    assert same(loaded, STATE)
    names = "'criterion.weight', 'train_acc.confmat', 'arc_loss.weight', 'n_averaged'"
    assert notes == (f"weights: left out of best.pt: {names}",)
    del beside["n_averaged"]
    loaded, notes = chosen({**STATE, **beside}, linear())  # without a prefix, by their names
    assert same(loaded, STATE)
    assert "'train_acc.confmat'" in notes[0]


def test_a_layer_beside_the_network_is_unexpected() -> None:
    """The class scores of its head are not those of the network alone."""
    state = {f"backbone.{key}": value for key, value in STATE.items()}
    loaded, _ = chosen({**state, "head.weight": torch.ones(5, 2), "head.bias": torch.ones(5)}, linear())
    with pytest.raises(WeightsError, match=r"unexpected 'head.weight'\. "):
        load_weights(linear(), loaded, "a.pt")


def test_a_dictionary_of_layers_that_is_not_loaded_is_named() -> None:
    content = {
        "generator": {"conv.weight": torch.ones(2, 2)},
        "classifier": STATE,
        "optimizer": {"m": torch.ones(2, 2)},
    }
    loaded, notes = chosen(content, linear())
    assert same(loaded, STATE)
    assert notes == ("weights: left out of best.pt: 'generator'",)


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema"), ("net", "averaged_model")],
)
def test_averaged_weights_are_chosen_and_named(plain: str, averaged: str) -> None:
    ema = {key: value + 1 for key, value in STATE.items()}
    note = f"weights: {averaged!r} of best.pt, the averaged ones (EMA), not {plain!r}"
    for content in ({plain: STATE, averaged: ema}, {averaged: ema, plain: STATE}):
        loaded, notes = chosen(content, linear())
        assert same(loaded, ema)
        assert notes == (note,)
    flat = {f"{place}.{key}": value for place, state in content.items() for key, value in state.items()}
    loaded, notes = chosen({"state_dict": flat}, linear())  # as parts of one module
    assert same(loaded, ema)
    assert notes == (
        note.replace(averaged, f"state_dict.{averaged}").replace(f"not '{plain}", f"not 'state_dict.{plain}"),
    )


def test_several_networks_that_fit_are_refused_by_name() -> None:
    other = {key: value + 1 for key, value in STATE.items()}
    with pytest.raises(WeightsError, match="several sets of weights that fit the network: 'student', 'teacher'"):
        chosen({"student": STATE, "teacher": other}, linear())
    assert same(chosen({"student": STATE, "teacher": dict(STATE)}, linear())[0], STATE)
    more_classes = {"fc.weight": torch.ones(9, 3), "fc.bias": torch.ones(9)}
    with pytest.raises(WeightsError, match="several sets of weights"):  # the trained classes may be either's
        chosen({"pretrained": STATE, "model": more_classes}, linear())
    smaller = {"fc.weight": torch.ones(2, 2)}
    assert same(chosen({"teacher": smaller, "student": STATE}, linear())[0], STATE)  # fits better


def test_tensors_of_another_network_are_listed() -> None:
    content = {"a": {"conv.weight": torch.ones(1)}, "b": {"conv.weight": torch.ones(1), "conv.bias": torch.ones(1)}}
    with pytest.raises(WeightsError, match=r"it holds 'a' \(1 tensors\), 'b' \(2 tensors\)"):
        chosen(content, linear())


def test_a_layer_in_a_sequential_is_taken_for_the_layer_alone() -> None:
    dropout = nn.Sequential(OrderedDict(fc=nn.Sequential(nn.Dropout(), nn.Linear(3, 2))))
    inside = {key.replace("fc.", "fc.1."): value for key, value in STATE.items()}
    loaded, notes = chosen(inside, linear())
    assert same(loaded, STATE)
    assert notes == ("weights: layer 'fc.1' of best.pt is taken for 'fc'",)
    loaded, notes = chosen(STATE, dropout)
    assert same(loaded, inside)
    assert notes == ("weights: layer 'fc' of best.pt is taken for 'fc.1'",)
    two = {**inside, "fc.3.weight": torch.ones(2, 2), "fc.3.bias": torch.ones(2)}
    loaded, notes = chosen(two, linear())
    assert (set(loaded), notes) == (set(two), ())


def test_wrappers_of_averages_are_stripped() -> None:
    state, notes = chosen(AveragedModel(linear()).state_dict(), linear())
    assert set(state) == {"fc.weight", "fc.bias"}
    assert notes == ("weights: left out of best.pt: 'n_averaged'",)


def test_the_wrapper_of_several_devices_is_stripped_and_the_networks_own_prefix_stays() -> None:
    network = nn.Sequential(OrderedDict(model=nn.Linear(3, 2)))
    wrapped = nn.DataParallel(nn.DataParallel(network)).state_dict()
    assert set(wrapped) == {"module.module.model.weight", "module.module.model.bias"}
    assert same(chosen(wrapped, network)[0], network.state_dict())


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
        choose_state(read_checkpoint(shared_data / "cifar10" / "weights" / f"{name}.th"), network.state_dict(), name)[0]
        for name in ("resnet20-12fca82f", "resnet56-4bfd9763")
    ]
    assert class_count(CifarResNet(20, 3).state_dict(), states[0]) == (3, 10)
    load_weights(network, states[0], "resnet20-12fca82f.th")
    loaded = network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in states[0].items())
    with pytest.raises(WeightsError, match=r"unexpected 'layer1.3.conv1.weight', .* and 175 more"):
        load_weights(network, states[1], "resnet56-4bfd9763.th")
