"""The demonstration: heads worked by hand, repeatable training, and the accuracy of the shipped weights."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cam.classifiers.sources.cards
from cam.classifiers.load import load_classifier
from cam.errors import HeadError
from cam.invariance.demo.demo import accuracy_by_position, add_up_cells, move_digit, shipped_glyphs, shipped_networks
from cam.invariance.demo.scenes import uci_digits
from cam.invariance.demo.training import NETWORKS, RIGHT_HALF, is_correct, make_scenes, to_inputs, train_network
from cam.networks.small_convnet import SmallConvNet

PAGE = Path(__file__).parents[1] / "docs" / "invariance.md"
# 3x3 convolutions without bias, 3-16-32-32-64-64, and two numbers a channel of each normalization.
BODY = 9 * (3 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 32 + 64 + 64)
HEAD = {
    "gap-linear": 64 * 10 + 10,
    "flatten-linear": 64 * 4 * 8 * 10 + 10,  # 32 x 64 pixels are 4 x 8 cells
    "flatten-mlp": 64 * 4 * 8 * 64 + 64 + 2 * 64 + 64 * 10 + 10,
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", HEAD)
def test_heads_have_the_parameters_and_shapes_worked_by_hand(name):
    network = SmallConvNet(name)
    assert count(network.features) == BODY == 69968
    assert count(network.head) == HEAD[name]
    assert network.features(torch.zeros(2, 3, 32, 64)).shape == (2, 64, 4, 8)
    assert network(torch.zeros(2, 3, 32, 64)).shape == (2, 10)


def test_only_the_averaged_head_takes_another_size():
    wider = torch.zeros(2, 3, 40, 96)
    assert SmallConvNet("gap-linear")(wider).shape == (2, 10)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        SmallConvNet("flatten-linear")(wider)


def test_a_linear_layer_after_the_average_equals_a_1x1_convolution_before_it(device):
    torch.manual_seed(0)
    network = shipped_networks()["position-gap"].network.double().to(device)
    linear = network.head.linear
    convolution = nn.Conv2d(64, 10, 1).double().to(device)
    convolution.weight.data, convolution.bias.data = linear.weight.data[:, :, None, None], linear.bias.data
    images = torch.randn(3, 3, 32, 64, dtype=torch.float64, device=device)
    class_maps = convolution(network.features(images))
    assert class_maps.shape == (3, 10, 4, 8)
    assert torch.allclose(class_maps.mean((2, 3)), network(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [(0, 8), (8, 32), (16, 56)])
def test_a_shift_by_whole_cells_makes_no_difference_with_circular_padding(shift):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 64, dtype=torch.float64)
    shifted = images.roll(shift, (2, 3))
    average, flattened = (SmallConvNet(head, "circular").double().eval() for head in ("gap-linear", "flatten-linear"))
    assert torch.allclose(average(shifted), average(images), rtol=0, atol=1e-12)
    assert not torch.allclose(flattened(shifted), flattened(images), rtol=0, atol=1e-3)


def test_cells_add_up_to_the_logit_and_move_with_the_digit():
    networks = shipped_networks()
    moved = move_digit(networks, seed=0)
    np.testing.assert_array_equal(np.roll(moved.images[0], -32, 1), moved.images[1])
    np.testing.assert_array_equal(moved.boxes[0] - moved.boxes[1], [32, 0, 32, 0])
    for name, head in moved.heads.items():
        logits = networks[name].network(to_inputs(moved.images))
        np.testing.assert_allclose(head.logits, logits[:, moved.class_idx], rtol=1e-5)
        np.testing.assert_array_equal(head.predicted, logits.argmax(1))
    gap, flatten = moved.heads.values()
    assert gap.predicted.tolist() == [moved.class_idx] * 2
    assert flatten.predicted[0] == moved.class_idx != flatten.predicted[1]
    np.testing.assert_array_equal(gap.weights, np.broadcast_to(gap.weights[:, :1, :1], (64, 4, 8)))
    assert flatten.weights[..., 4:].std() > 1.5 * flatten.weights[..., :4].std()  # the left ones learned nothing
    circular = add_up_cells(networks["position-gap-circular"].network, moved.images, moved.class_idx)
    np.testing.assert_allclose(np.roll(circular.shares[0], -4, 1), circular.shares[1], atol=1e-6)


def test_seen_and_unseen_halves_are_disjoint():
    scenes, right = (make_scenes(*shipped_glyphs(), 60, area=area, seed=0) for area in (None, RIGHT_HALF))
    assert right.seen.all()
    assert scenes.seen.any()
    assert scenes.unseen.any()
    assert not (scenes.seen & scenes.unseen).any()


def test_accuracy_is_counted_by_the_centers_of_the_boxes():
    boxes = np.array([[0, 0, 4, 4], [1, 1, 3, 3], [60, 28, 64, 32], [7, 0, 9, 2]] * 10)
    correct = np.array([True, False, True, False] * 10)
    assert np.isnan(accuracy_by_position(correct[:36], boxes[:36])[7, 15])  # 9 scenes are below MIN_SCENES
    shares = accuracy_by_position(correct, boxes)
    assert shares.shape == (8, 16)
    assert (shares[0, 0], shares[7, 15], shares[0, 2]) == (0.5, 1, 0)
    assert np.isnan(shares).sum() == 8 * 16 - 3


def test_training_learns_and_is_repeatable():
    glyphs, classes = uci_digits("train")
    scenes = make_scenes(glyphs, classes, 64, area=RIGHT_HALF, seed=0)
    state = torch.get_rng_state()
    make = partial(SmallConvNet, **NETWORKS["position-flatten"])
    first, again = (train_network(make, scenes, epochs=15, seed=0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert is_correct(first, scenes).mean() > 0.9
    assert torch.equal(torch.get_rng_state(), state)


def test_shipped_networks_reach_the_documented_accuracy():
    scenes = make_scenes(*shipped_glyphs(), 1500, seed=7)
    for name, trained in shipped_networks().items():
        correct = is_correct(trained.network, scenes)
        seen, unseen = correct[scenes.seen].mean(), correct[scenes.unseen].mean()
        if name.startswith("position-gap"):
            assert seen > 0.9
            assert abs(seen - unseen) < 0.045, name  # 3 points, and sampling error of 560 scenes in each half
        else:
            assert seen > 0.8
            assert unseen < 0.2, name


def test_shipped_files_are_small_and_complete():
    assert all(map(np.array_equal, shipped_glyphs(), uci_digits("test")))
    files = list(cam.classifiers.sources.cards.FOLDER.glob("position-*.safetensors"))
    assert {file.stem for file in files} == {*NETWORKS, "position-glyphs"}
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert load_classifier("position-gap", device="cpu").head.kind == "gap-linear"
    with pytest.raises(HeadError):
        load_classifier("position-flatten", device="cpu", method="exact")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
def test_code_of_the_documentation_page_runs(block):
    names: dict[str, object] = {"__name__": "__main__"}
    exec(block, names)
    assert {"torch", "nn"} <= names.keys()
