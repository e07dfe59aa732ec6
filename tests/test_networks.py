"""The network architectures: shapes, numbers of parameters, and published weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cam.classifiers.load import load_network
from cam.errors import UsageError
from cam.networks.cifar_resnet import CifarResNet
from cam.networks.network_in_network import NetworkInNetwork

MODELS = Path(__file__).resolve().parent.parent / "models"
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def published_weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    (path,) = folder.glob(f"{name}-*.th")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return {key.removeprefix("module."): value for key, value in checkpoint["state_dict"].items()}


def cifar_images(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    files = [(path, label) for label, name in enumerate(CIFAR_CLASSES) for path in sorted((folder / name).iterdir())]
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in files]))
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return ((pixels / 255 - mean) / std).permute(0, 3, 1, 2), torch.tensor([label for _, label in files])


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_numbers_of_parameters_match_table_6_of_the_paper(depth, millions):
    network = load_network(f"cifar-resnet{depth}", random_weights=True).network
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_weights_fit_and_reach_the_accuracy_of_the_card(shared_data, depth):
    network = CifarResNet(depth).eval()
    network.load_state_dict(published_weights(shared_data / "cifar10/weights", f"resnet{depth}"), strict=True)
    images, labels = cifar_images(shared_data / "cifar10/images")
    with torch.no_grad():
        accuracy = (network(images).argmax(1) == labels).float().mean().item()
    assert len(labels) == 500
    assert accuracy >= 0.75
    card = json.loads((MODELS / f"cifar-resnet{depth}.json").read_text())
    assert accuracy == pytest.approx(card["figures"]["accuracy"], abs=0.005)
    assert card["labels"] == list(CIFAR_CLASSES)


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (96, 64), (8, 8)])
def test_logits_average_the_maps_at_any_image_size(device, size):
    network = CifarResNet(20, num_classes=7).to(device).eval()
    images = torch.randn(2, 3, *size, device=device)
    with torch.no_grad():
        features = network.features(images)
        cams = torch.einsum("ck,nkhw->nchw", network.linear.weight, features)
        logits = network(images)
    assert features.shape == (2, 64, -(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(cams.mean((2, 3)) + network.linear.bias, logits, rtol=1e-5, atol=1e-4)


def test_a_stride_of_2_in_the_stem_halves_the_map():
    assert CifarResNet(8, width=4, stem_stride=2).features(torch.zeros(1, 3, 64, 48)).shape == (1, 16, 8, 6)


@pytest.mark.parametrize("depth", [2, 7, 18, 52])
def test_a_depth_that_is_not_6n_plus_2_is_an_error(depth):
    with pytest.raises(UsageError, match=f"depth must be 6n \\+ 2 with n >= 1, got {depth}"):
        CifarResNet(depth)


def test_the_shortcut_takes_every_second_position_and_pads_channels_with_zeros():
    block = CifarResNet(8, width=2).layer2[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = block(x)
    assert out[0, 1].tolist() == [[0.0, 2.0], [8.0, 10.0]]
    assert out[0, 2].tolist() == [[16.0, 18.0], [24.0, 26.0]]
    assert out[0, (0, 3)].abs().sum() == 0


def test_network_in_network_averages_its_rectified_class_maps(device):
    network = NetworkInNetwork(num_classes=5).to(device).eval()
    torch.nn.init.constant_(network.block3[-2].bias, -0.1)
    images = torch.randn(2, 3, 32, 48, device=device)
    with torch.no_grad():
        maps, logits = network.features(images), network(images)
    assert maps.shape == (2, 5, 8, 12)
    assert maps.min() == 0
    torch.testing.assert_close(logits, maps.flatten(2).mean(2))
    assert not any(isinstance(module, torch.nn.Linear) for module in network.modules())
