"""One network of every torchvision family: what its head is, and that the maps of the exact ones add up."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from cam.heads.find import find_head
from cam.heads.prove import prove_head

EXACT = {
    "convnext_tiny": ("gap-norm-linear", 64),
    "densenet121": ("gap-linear", 64),
    "efficientnet_b0": ("gap-linear", 64),
    "efficientnet_v2_s": ("gap-linear", 64),
    "googlenet": ("gap-linear", 64),
    "inception_v3": ("gap-linear", 107),
    "mnasnet0_5": ("gap-linear", 64),
    "mobilenet_v2": ("gap-linear", 64),
    "regnet_x_400mf": ("gap-linear", 64),
    "regnet_y_400mf": ("gap-linear", 64),
    "resnet18": ("gap-linear", 64),
    "resnext50_32x4d": ("gap-linear", 64),
    "shufflenet_v2_x0_5": ("gap-linear", 64),
    "squeezenet1_0": ("conv-gap", 64),
    "swin_t": ("gap-linear", 64),
    "swin_v2_t": ("gap-linear", 64),
}
INEXACT = {
    "alexnet": ("not-gap", 64, "do not count equally"),
    "maxvit_t": ("nonlinear", 224, "not linear"),
    "mobilenet_v3_small": ("nonlinear", 64, "not linear"),
    "vgg11": ("not-gap", 64, "do not count equally"),
    "vit_b_32": ("one-token", 224, "one token"),
}


def build(name: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, num_classes=20, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a bias of zero would prove nothing
                nn.init.normal_(parameter, std=0.1)
    return network.to(device)


@pytest.mark.parametrize("name", EXACT)
def test_the_maps_of_an_exact_family_add_up(name, device):
    kind, size = EXACT[name]
    network = build(name, device)
    head_report = find_head(network, (3, size, size))
    assert (head_report.kind, head_report.reason) == (kind, "")
    assert prove_head(network, head_report.exact(), (3, size, size)).error <= 1e-5


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "maxvit_t" else ()) for name in INEXACT]
)
def test_a_family_without_exact_maps_is_refused_with_its_reason(name, device):
    kind, size, reason = INEXACT[name]
    head_report = find_head(build(name, device), (3, size, size))
    assert (head_report.kind, head_report.head) == (kind, None)
    assert reason in head_report.reason


def test_every_family_is_here():
    families = {models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert {models.get_model_builder(name).__module__ for name in EXACT | INEXACT} == families
