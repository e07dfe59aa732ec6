"""Heads written in every way have the right kind, their known weight and bias, and maps that add up."""

from __future__ import annotations

import pytest
import torch
from odd_heads import EXACT, GRID, INEXACT, SHAPE, Network
from small import NETWORKS
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cam.errors import HeadError, ModelError
from cam.heads.copies import random_inputs
from cam.heads.find import find_head
from cam.heads.hooks import forward
from cam.heads.probe import Experiment
from cam.heads.prove import prove_head
from cam.maps.activation import class_activation_maps, completeness_error


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_head_has_its_known_weight_and_bias_and_its_maps_add_up(name, device):
    network = EXACT[name].build().to(device)
    head = find_head(network, SHAPE).exact()
    assert head.kind == EXACT[name].kind
    weight, bias = (tensor.detach().to(device) for tensor in EXACT[name].known(network))
    if head.kind == "gap-norm-linear":
        weight = weight * (head.weight.norm() / weight.norm())
    torch.testing.assert_close((head.weight, head.bias), (weight, bias), rtol=1e-5, atol=1e-6)
    logits, features = forward(network, head.site, random_inputs(3, SHAPE, seed=5).to(device))
    cams = class_activation_maps(features, head.scales(features, logits)[:, None, None] * head.weight)
    assert cams.shape == (3, head.classes, *GRID)
    assert completeness_error(cams, head.bias, logits).max() <= 1e-5
    proof = prove_head(network, head, SHAPE, in_float64=True)
    assert proof.error <= 1e-5
    assert proof.error64 <= 1e-6  # the weight is float32


@pytest.mark.parametrize("name", INEXACT)
def test_a_head_without_an_exact_map_is_refused_with_a_reason(name, device):
    head_report = find_head(INEXACT[name].build().to(device), SHAPE)
    assert head_report.kind == INEXACT[name].kind
    assert head_report.head is None
    assert len(head_report.reason) > 20
    with pytest.raises(HeadError, match="no exact class activation map"):
        head_report.exact()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["functional_relu", "network_in_network", "layer_norm", "tokens"])
def test_half_precision(name, dtype, device):
    network = EXACT[name].build().to(device, dtype)
    head = find_head(network, SHAPE).exact()
    assert head.kind == EXACT[name].kind
    proof = prove_head(network, head, SHAPE, in_float64=True)
    assert proof.error <= 3e-2
    assert proof.error64 <= 1e-6


@pytest.mark.parametrize("name", ["global_max", "mlp_with_relu", "generalized_mean", "average_plus_max"])
def test_half_precision_lets_no_inexact_head_pass(name, device):
    network = INEXACT[name].build().to(device, torch.bfloat16)
    assert find_head(network, SHAPE).kind == INEXACT[name].kind


@pytest.mark.parametrize("kind", ["gap-linear", "conv-gap"])
def test_thousands_of_classes_are_not_differentiated_if_a_parameter_is_the_weight(kind, monkeypatch, device):
    monkeypatch.setattr("cam.heads.find._jacobian", lambda *_: pytest.fail("it is differentiated"))
    assert find_head(NETWORKS[kind]().to(device), (3, 32, 32)).kind == kind


class Autocast(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.inner(x)


def test_a_network_that_casts_to_half_precision_itself(device):
    network = Autocast(EXACT["functional_relu"].build()).to(device)
    head = find_head(network, SHAPE).exact()
    assert head.kind == "gap-linear"
    assert prove_head(network, head, SHAPE).error <= 3e-2


def never(*_: object) -> None:
    raise NotImplementedError("compiled")


@pytest.mark.parametrize(
    "compile_",
    [
        lambda net: net.compile(backend=never),
        lambda net: net.inner.compile(backend=never),
        lambda net: setattr(net, "inner", torch.compile(net.inner, backend=never)),
    ],
    ids=["network in place", "part in place", "part wrapped"],
)
def test_compiled_code_runs_as_it_was_written(compile_, device):
    network = EXACT["wrapper_module"].build().to(device)
    weight, bias = EXACT["wrapper_module"].known(network)
    compile_(network)
    head = find_head(network, SHAPE).exact()
    torch.testing.assert_close((head.weight, head.bias), (weight, bias), rtol=1e-5, atol=1e-6)
    assert prove_head(network, head, SHAPE, in_float64=True).error64 <= 1e-6
    with pytest.raises(RuntimeError, match="compiled"):  # it is still compiled for its owner
        network(random_inputs(1, SHAPE).to(device))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_head_without_gradients_is_one_sentence(device):
    network = Network(
        lambda net, x: checkpoint(net.head, net.conv(x), use_reentrant=True),
        conv=nn.Conv2d(3, 6, 3),
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
    ).to(device)
    with pytest.raises(ModelError, match=r"cannot be differentiated: [^.]+use_reentrant=True.*Disable.*\.$"):
        find_head(network, SHAPE)


def test_softmax_is_named_as_the_reason():
    for name in ("softmax", "log_softmax"):
        assert "softmax" in find_head(INEXACT[name].build(), SHAPE).reason


@pytest.mark.parametrize("std", [0.1, 10], ids=["weak", "saturated"])
@pytest.mark.parametrize("sigmoid", [torch.sigmoid, F.hardsigmoid, lambda z: 1 / (1 + torch.exp(-z))])
@pytest.mark.parametrize("classes", [1, 7])
def test_sigmoid_is_named_as_the_reason(classes, sigmoid, std):
    network = Network(
        lambda net, x: sigmoid(net.fc(F.relu(net.conv(x)).mean((2, 3)))),
        conv=nn.Conv2d(3, 64, 3),
        fc=nn.Linear(64, classes),
    )
    nn.init.normal_(network.fc.weight, std=std)
    if classes == 1 and "lambda" in sigmoid.__name__:  # three numbers from 0 to 1 may be anything's
        assert find_head(network, SHAPE).kind == "nonlinear"
    else:
        assert "sigmoid" in find_head(network, SHAPE).reason


def test_a_sigmoid_is_not_named_without_one():
    assert "sigmoid" not in find_head(INEXACT["mlp_with_relu"].build(), SHAPE).reason


def test_what_the_class_scores_do_not_depend_on_is_not_searched():
    network = Network(
        lambda net, x: (net.decoder(net.conv(x)), net.fc(net.conv(x).mean((2, 3)))),
        conv=nn.Conv2d(3, 6, 3),
        decoder=nn.Sequential(*(nn.Conv2d(6, 6, 3, padding=1) for _ in range(9))),
        fc=nn.Linear(6, 5),
    ).eval()
    experiment = Experiment(network, random_inputs(3, SHAPE))
    logits, recorded = experiment.record()
    assert [site.layer for site, _ in recorded.calls] == ["conv"]
    assert {site.layer for site in recorded.unused} == {"conv"} | {f"decoder.{index}" for index in range(9)}
    with torch.no_grad():
        torch.testing.assert_close(logits, network(experiment.inputs)[1])
    assert find_head(network, SHAPE).exact().weight.equal(network.fc.weight.detach())


def test_a_network_that_leaves_torch_in_between():
    network = Network(
        lambda net, x: net.fc(torch.from_numpy(net.conv(x).relu().numpy()).mean((2, 3))).float(),
        conv=nn.Conv2d(3, 6, 3),
        fc=nn.Linear(6, 5),
    )
    torch.testing.assert_close(find_head(network, SHAPE).exact().weight, network.fc.weight.detach())


class Tripled(torch.autograd.Function):
    """Can be differentiated once, and one row at a time."""

    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 3 * gradient


@pytest.mark.parametrize("triple", [lambda x: 3 * x, Tripled.apply], ids=["twice differentiable", "once"])
@pytest.mark.parametrize("classes", [10, 100])
def test_more_classes_than_channels(classes, triple):
    network = Network(
        lambda net, x: triple(net.fc(net.conv(x).mean((2, 3)))), conv=nn.Conv2d(3, 6, 3), fc=nn.Linear(6, classes)
    )
    head = find_head(network, SHAPE).exact()
    torch.testing.assert_close((head.weight, head.bias), (3 * network.fc.weight.detach(), 3 * network.fc.bias.detach()))


def test_a_parameter_is_not_taken_for_the_weight_because_of_its_shape():
    network = Network(
        lambda net, x: net.fc(net.conv(x).mean((2, 3))),
        conv=nn.Conv2d(3, 6, 3),
        other=nn.Linear(6, 5),
        fc=nn.Linear(6, 5),
    )
    network.register_parameter("nearly", nn.Parameter(network.fc.weight.detach() * (1 + 1e-6)))
    assert find_head(network, SHAPE).exact().weight.equal(network.fc.weight.detach())


@pytest.mark.parametrize("empty", [nn.Identity, nn.Sequential])
@pytest.mark.parametrize("norm", [nn.Identity, lambda: nn.LayerNorm(6), lambda: nn.BatchNorm1d(6)])
def test_a_network_whose_classifier_was_removed_is_named(norm, empty):
    pooled = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm())
    network = Network(lambda net, x: net.fc(net.body(x)), body=pooled, fc=empty())
    with pytest.raises(ModelError, match="not a classifier: its layer 'fc' does nothing"):
        find_head(network, SHAPE)
    network.fc = nn.Sequential(nn.Linear(6, 6), empty())
    assert find_head(network, SHAPE).head is not None
    network.num_classes = 0  # as timm says it
    with pytest.raises(ModelError, match="not a classifier: its num_classes is 0"):
        find_head(network, SHAPE)


def test_there_are_enough_odd_heads():
    assert len(EXACT) >= 50
    assert len(INEXACT) >= 20
    assert all(odd.build()(random_inputs(2, SHAPE)) is not None for odd in (EXACT | INEXACT).values())


@pytest.mark.parametrize(("parts", "found"), [(2, True), (3, True), (4, False)])
def test_up_to_three_inexact_tensors_may_follow_the_features(parts, found, device):
    """Each part has some of the rows; none of them has all of the class score."""

    def run(net, x):
        features = F.relu(net.conv(x))
        strips = [features[:, :, part : part + 1 if part + 1 < parts else None] for part in range(parts)]
        return net.fc(sum(strip.sum((2, 3)) for strip in strips) / features[0, 0].numel())

    torch.manual_seed(0)
    network = Network(run, conv=nn.Conv2d(3, 6, 3, 2), fc=nn.Linear(6, 5)).to(device)
    report = find_head(network, SHAPE)
    assert (report.kind, report.site.operation) == (("gap-linear", "relu") if found else ("not-gap", "__getitem__"))


@pytest.mark.parametrize("turn", [lambda x: x, lambda x: x.flip(3), lambda x: 2 * x])
def test_pixels_are_no_features(turn, device):
    network = Network(lambda net, x: net.fc(turn(x).flatten(1)), fc=nn.Linear(3 * SHAPE[1] * SHAPE[2], 5))
    report = find_head(network.to(device), SHAPE)
    assert (report.kind, report.site) == ("not-gap", None)
    assert report.reason.startswith("no features with more than one position lead to the class scores")
