"""The sanity benchmark: randomized weights, moved images, complete maps."""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cam
from cam.evaluation.sanity import (
    compare_moved,
    evaluate_sanity,
    layers_from_logits,
    randomize,
    randomized,
    rank_correlation,
)
from cam.images.find import Picture, find_pictures
from cam.images.io import write_image

KINDS = ["logit", "contrast", "margin", "posterior"]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    rng = np.random.default_rng(0)
    for index in range(3):
        coarse = rng.integers(0, 256, (16, 16, 3), np.uint8)
        write_image(tmp_path / f"{index}.png", np.kron(coarse, np.ones((3, 4, 1), np.uint8)))
    return find_pictures([tmp_path])


def headed(*body: nn.Module, channels: int = 6) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(*body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def measure(classifier: cam.Classifier, pictures: list[Picture], kinds=KINDS, **options) -> dict[tuple, float]:
    result = evaluate_sanity(classifier, pictures, kinds, **options)
    return {(row.method, row.metric): row.value for row in result.rows}


class NegatedConv2d(nn.Conv2d):
    """Initialized to -1, so that randomizing the weight 1 changes its sign."""

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, -1)


class NegatedLinear(nn.Linear):
    def reset_parameters(self) -> None:
        self.weight.data = torch.tensor([[-1.0], [1.0]])


def by_hand() -> nn.Module:
    """The map of class 0 is the sum of the channels, that of class 1 its negative."""
    convolution, linear = NegatedConv2d(3, 1, 1, bias=False), NegatedLinear(1, 2, bias=False)
    for layer in (convolution, linear):
        layer.weight.data.neg_()
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def test_rank_correlations_of_randomized_layers_by_hand(pictures):
    classifier = cam.wrap(by_hand(), input_size=16)
    values = measure(classifier, pictures, ["logit", "contrast"], stages=2)
    for kind in ("logit", "contrast"):
        assert values[kind, "rank_correlation@3"] == pytest.approx(-1)  # the linear layer alone
        assert values[kind, "rank_correlation@all"] == pytest.approx(1)  # minus times minus
    for baseline in ("gaussian", "uniform"):
        assert values[baseline, "rank_correlation@3"] == values[baseline, "rank_correlation@all"] == pytest.approx(1)


def test_layers_are_randomized_from_the_logits_down(device):
    network = headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).to(device)
    network[1].running_mean.fill_(3)
    classifier = cam.wrap(network, input_size=16)
    states = dict(randomized(classifier, 3))
    assert list(states) == ["5", "1", "all"]
    for name, unchanged in [("5", ["0", "1"]), ("1", ["0"]), ("all", [])]:
        state = states[name].network
        for layer in ("0", "1", "5"):
            same = torch.equal(state.get_submodule(layer).weight, network.get_submodule(layer).weight)
            assert same == (layer in unchanged), (name, layer)
        torch.testing.assert_close(states[name].head.weight, state[5].weight)  # newly found
        assert state[1].running_mean.any() == ("1" in unchanged)
    assert torch.equal(states["5"].network[5].weight, states["all"].network[5].weight)


def test_the_network_of_the_caller_is_unchanged(pictures):
    network = headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5))
    network[0].train()
    network.lock = threading.Lock()  # cannot be copied
    classifier = cam.wrap(network, input_size=16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    evaluate_sanity(classifier, pictures, KINDS)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_stages_are_evenly_spaced():
    convolutions = [nn.Conv2d(3, 3, 1) for _ in range(12)]
    states = [layer for layer, _ in randomized(cam.wrap(headed(*convolutions, channels=3), input_size=8), 4)]
    assert states == ["15", "8", "4", "all"]  # 1, 5, 9 and 13 of 13 layers


class Odd(nn.Module):
    """Layers in another order than they run, one used twice, one never, and a parameter without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.unused = nn.Linear(3, 2)
        self.shared = nn.Conv2d(3, 3, 1)
        self.other = nn.Conv2d(3, 3, 1)
        self.gain = nn.Parameter(torch.randn(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear((self.gain * self.shared(self.other(self.shared(x)))).mean((2, 3)))


def test_layers_are_in_the_order_in_which_they_run():
    assert layers_from_logits(Odd(), torch.zeros(1, 3, 4, 4)) == ["linear", "shared", "other", "", "unused"]


def test_parameters_without_a_reset_keep_mean_and_deviation():
    layer = nn.Module()
    layer.gain = nn.Parameter(1 + 0.1 * torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
    layer.one = nn.Parameter(torch.tensor([7.0]))
    before = layer.gain.detach().clone()
    randomize(layer, 1)
    after = layer.gain.detach()
    assert float(after.mean()) == pytest.approx(1, abs=0.01)
    assert float(after.std()) == pytest.approx(0.1, abs=0.01)
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.05
    assert layer.one.item() == 7  # one value has no deviation


def test_the_seed_determines_the_new_weights():
    layers = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        randomize(layer, seed)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_map_of_a_network_without_padding_is_equivariant(pictures, device, channels):
    """Windows of 4 pixels, 4 apart: every cell but those at the new edge sees what its neighbor saw."""
    preprocessing = cam.Preprocessing(48, (48, 48), mean=(0.45,) * channels, std=(0.22,) * channels)
    network = headed(nn.Conv2d(channels, 6, 4, stride=4)).to(device)
    values = measure(cam.wrap(network, preprocessing=preprocessing), pictures)
    for kind in KINDS:
        assert values[kind, "equivariance_error"] <= 1e-6
        assert values[kind, "equivariance_correlation"] == pytest.approx(1, abs=1e-3)
    assert values["gaussian", "equivariance_error"] > 0.01
    assert values["uniform", "equivariance_error"] == pytest.approx(2 / 3, abs=0.05)  # E|u - v| / E u
    assert values["uniform", "equivariance_correlation"] == pytest.approx(0, abs=0.1)


def test_padding_disturbs_equivariance_near_the_edge(pictures):
    """Three convolutions of 3 pixels see 3 far; the middle half begins 2 from the edge of 8, and 8 from that of 32."""
    body = [layer for channels in (3, 6, 6) for layer in (nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU())]
    network = headed(*body[:-1])
    small, large = (measure(cam.wrap(network, input_size=size), pictures) for size in (8, 32))
    assert small["logit", "equivariance_error"] > 0.01
    assert large["logit", "equivariance_error"] <= 1e-6


def test_only_the_middle_half_is_compared():
    here = np.arange(64.0).reshape(8, 8) - 100
    there = np.roll(here, (1, 1), (0, 1))
    outer = there.copy()
    outer[:3] = outer[7:] = outer[:, :3] = outer[:, 7:] = 1e6
    assert compare_moved(here, outer, (1, 1)) == compare_moved(here, there, (1, 1)) == (0.0, pytest.approx(1))
    assert compare_moved(here, 2 * there, (1, 1)) == (pytest.approx(1), pytest.approx(1))
    assert compare_moved(here, -there, (1, 1)) == (pytest.approx(2), pytest.approx(-1))
    assert compare_moved(np.zeros((8, 8)), np.zeros((8, 8)), (1, 1)) == (0.0, 0.0)


def test_rank_correlation_by_hand():
    # ranks 1 2 3 4 against 2 1 4 3: squared differences 1 1 1 1, so 1 - 6 * 4 / (4 * 15)
    assert rank_correlation(np.array([[1, 2], [5, 9]]), np.array([[0, -7], [4, 3]])) == pytest.approx(0.6)
    assert rank_correlation(np.ones((2, 2)), np.arange(4.0).reshape(2, 2)) == 0
    assert rank_correlation(np.arange(4.0), np.zeros(4)) == 0


def test_the_embedded_model_passes():
    classifier = cam.load_classifier("digits", device="cpu")
    samples = find_pictures([Path(__file__).parents[1] / "samples" / name for name in ("five.png", "four-left.png")])
    missing = Picture(Path("missing.png"), PurePosixPath("missing.png"))
    done: list[str] = []
    result = evaluate_sanity(classifier, [*samples, missing], ["logit"], stages=2, progress=done.append)
    values = {(row.method, row.metric): row.value for row in result.rows}
    assert (result.pictures, len(result.failed), done) == (2, 1, [str(picture.path) for picture in (*samples, missing)])
    assert abs(values["logit", "rank_correlation@all"]) < 0.6
    assert values["logit", "completeness_error"] <= values["logit", "largest_completeness_error"] < 1e-5
    assert values["logit", "equivariance_error"] < 0.05
    assert values["logit", "equivariance_correlation"] > 0.98


def test_an_input_that_is_hardly_larger_than_the_stride_is_not_moved(pictures):
    preprocessing = cam.Preprocessing((20, 128), (20, 128), mean=(0.45,) * 3, std=(0.22,) * 3)
    classifier = cam.wrap(headed(nn.Conv2d(3, 6, 16, stride=16)), preprocessing=preprocessing)
    values = measure(classifier, pictures, ["logit"])
    assert ("logit", "equivariance_error") not in values
    assert values["logit", "completeness_error"] < 1e-5
