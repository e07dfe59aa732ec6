"""What follows the features is run again as the network's own code would run it, whatever that is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from small import BATCH
from torch import nn
from torch.nn import functional as F

import cam
from cam.errors import HeadError, ModelError
from cam.heads.examine import analyze_head
from cam.heads.hooks import forward

SHAPE = (3, 32, 32)


class Net(nn.Module):
    """Features of 8 x 8 cells, and a head that a test gives."""

    def __init__(self, head, **parts) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.head = head
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.head(self, self.conv(x).relu())


def missed(network, **options):
    """What the maps of the predicted classes miss, over max(1, |logit|)."""
    explanations = cam.explain_batch(cam.wrap(network, input_size=32, **options), BATCH)
    return max(explanation.completeness_error for explanation in explanations)


def test_a_root_of_a_dead_channel_has_no_slope_there():
    def head(net, x):
        return net.fc(x.square().mean((2, 3)).sqrt()).tanh()

    network = Net(head)
    with torch.no_grad():
        network.conv.bias[0] = -100  # a channel that is zero everywhere
    assert missed(network) < 0.01
    classifier = cam.wrap(network, input_size=32)
    flat = cam.explain(classifier, np.zeros((32, 32, 3), np.uint8))  # all channels are constant
    assert np.isfinite(flat.cam).all()


def test_a_head_whose_maps_do_not_add_up_is_refused():
    def head(net, x):
        return net.fc(x.flatten(1).sign() @ net.jump) + net.fc(x.mean((2, 3)))

    torch.manual_seed(1)
    with pytest.raises(HeadError, match="miss the class scores"):
        cam.wrap(Net(head, jump=nn.Parameter(20 * torch.randn(512, 8))), input_size=32)


def test_a_number_that_python_computes_costs_the_image_that_has_another():
    def head(net, x):
        flat = x.flatten(1) if float(x.max()) > 0.5 else -3 * x.flatten(1)
        return net.fc(flat @ net.mix)

    torch.manual_seed(1)
    classifier = cam.wrap(Net(head, mix=nn.Parameter(torch.randn(512, 8))), input_size=32)
    with pytest.raises(ModelError, match="miss the class scores"):
        cam.explain_batch(classifier, BATCH[:1] * 1e-3)


def test_views_of_parameters_may_enter_a_layer():
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.query = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
            self.attention, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 5)

        def forward(self, x):
            tokens = self.conv(x).relu().flatten(2).mT
            return self.fc(self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0])

    assert missed(Pool()) < 0.01


def test_detached_features_are_explained():
    network = Net(lambda net, x: net.fc(x.detach().flatten(1) @ net.mix), mix=nn.Parameter(torch.randn(512, 8)))
    assert missed(network) < 1e-4


def test_writing_through_a_view_alone_is_a_refusal():
    def head(net, x):
        padded = torch.zeros(len(x), 8, 9, 9)
        padded.narrow(2, 1, 8).narrow(3, 1, 8).copy_(x)
        return net.fc(padded.flatten(1) @ net.mix)

    with pytest.raises(HeadError, match="not-gap"):
        cam.wrap(Net(head, mix=nn.Parameter(torch.randn(648, 8))), input_size=32)


def test_nothing_is_left_on_the_networks_own_tensors():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv2d(3, 2, 8, 8), nn.Linear(32, 5)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            y = self.conv(x).relu()
            self.seen += y.detach().sum()
            return self.fc(y.flatten(1))

    network = Counting()
    analyze_head(network, SHAPE)
    copy.deepcopy(network)
    pickle.dumps(network.seen)


def layer_norm_by_hand(x):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)


def rms_norm_by_hand(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    ("by_hand", "as_torch"),
    [
        (layer_norm_by_hand, lambda x: F.layer_norm(x, x.shape[-1:])),
        (rms_norm_by_hand, lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6)),
    ],
)
def test_normalizations_of_tokens_written_by_hand_are_held_like_those_of_torch(by_hand, as_torch):
    def network(norm):
        def head(net, x):
            return net.fc((norm(x.flatten(2).mT) @ net.mix).tanh().flatten(1) @ net.last)

        torch.manual_seed(1)
        return Net(head, mix=nn.Parameter(torch.randn(8, 4)), last=nn.Parameter(0.2 * torch.randn(256, 8)))

    both = [cam.wrap(network(norm), input_size=32, layer="conv") for norm in (by_hand, as_torch)]
    one, two = (cam.explain_batch(classifier, BATCH) for classifier in both)
    for mine, other in zip(one, two, strict=True):
        np.testing.assert_allclose(mine.cam, other.cam, rtol=1e-3, atol=1e-4)
        assert mine.base == pytest.approx(other.base, abs=1e-4)


def test_references_differentiate_the_network_as_it_is():
    """Nothing is held: the gradient is that of PyTorch behind a LayerNorm."""

    def head(net, x):
        return net.fc(F.layer_norm(x.flatten(1), (512,)) @ net.mix)

    torch.manual_seed(1)
    network = Net(head, mix=nn.Parameter(torch.randn(512, 8)))
    report = analyze_head(network, SHAPE, method="gradcam")
    features = forward(network, report.head.site, BATCH)[1]
    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(head(network, leaf)[:, 2].sum(), leaf)
    expected = 64 * (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()
    found = report.head.class_maps(features, [[2]] * len(features), (32, 32))
    actual = torch.cat([maps.maps for maps in found])
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_shapley_values_state_their_sampling_error():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    few, many = (
        cam.explain_batch(_with_permutations(cam.wrap(network, input_size=32, method="shapley"), n), BATCH)[0]
        for n in (8, 512)
    )
    distance = float(np.linalg.norm(few.cam - many.cam) / np.linalg.norm(many.cam))
    assert 0.3 * distance < few.sampling_error < 3 * distance
    assert many.sampling_error < 0.5 * few.sampling_error
    assert few.to_dict()["sampling_error"] == few.sampling_error


def _with_permutations(classifier, count):
    from dataclasses import replace

    return replace(classifier, head=replace(classifier.head, permutations=count))
