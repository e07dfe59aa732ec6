"""Complete maps of heads that are not an average: right values, and what they add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from odd_heads.registry import INEXACT, SHAPE
from small import BATCH, NETWORKS
from torch import nn

import cam
from cam.errors import HeadError, UsageError
from cam.explanations.texts import how_computed
from cam.heads import cut
from cam.heads.copies import random_inputs
from cam.heads.cut import _layouts
from cam.heads.examine import analyze_head
from cam.heads.general import GeneralHead
from cam.heads.head import Site
from cam.heads.hooks import forward

REFUSED = {  # their outputs are no logits, or no features with positions lead to them
    "softmax": "softmax",
    "log_softmax": "softmax",
    "sigmoid_of_one_class": "sigmoid",
    "color_beside_the_features": "not-gap",
    "color_beside_the_features_under_one_norm": "nonlinear",
    "maximum_behind_an_autograd_function": "not-gap",
}


def maps_of(network, inputs, classes, **options):
    """Maps (N, T, h, w), bases (N, T) and logits (N, C) of a network."""
    head = analyze_head(network, tuple(inputs.shape[1:]), **options).head
    logits, features = forward(network, head.site, inputs)
    found = head.class_maps(features, [classes] * len(features), tuple(inputs.shape[2:]))
    return torch.stack([maps.maps for maps in found]), torch.stack([maps.base for maps in found]), logits


def flat_network(hidden=None):
    """Cells of 4 x 4 pixels, all of which count differently."""
    torch.manual_seed(0)
    body = nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten()
    if hidden is None:
        return nn.Sequential(*body, nn.Linear(32, 3))
    return nn.Sequential(*body, nn.Linear(32, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def test_flatten_and_linear_by_hand(device):
    network = flat_network().to(device)
    maps, bases, _ = maps_of(network, BATCH.to(device), [2, 0])
    with torch.no_grad():
        features = network[1](network[0](BATCH.to(device)))
        weight = network[3].weight.view(3, 2, 4, 4)
        expected = torch.stack([(features * weight[c]).sum(1) * 16 for c in (2, 0)], 1)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bases, network[3].bias[[2, 0]].detach().expand(3, 2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_behind_an_average_it_is_the_exact_map(kind, device):
    torch.manual_seed(0)
    network = NETWORKS[kind]().eval().to(device)
    inputs = BATCH.to(device)
    exact = cam.wrap(network, input_size=32)
    complete = cam.wrap(network, input_size=32, method="integrated")
    for other in cam.explain_batch(complete, inputs), cam.explain_batch(complete, inputs, evidence="contrast"):
        mine = cam.explain_batch(exact, inputs, evidence=other[0].evidence)
        for one, two in zip(mine, other, strict=True):
            assert (two.exactness, two.method, two.nodes) == ("complete", "integrated", 1)
            np.testing.assert_allclose(two.evidence_map, one.evidence_map, rtol=1e-4, atol=1e-5)
            assert two.base == pytest.approx(one.bias, abs=1e-5)
            assert two.completeness_error < 1e-5


class ScaledBias(nn.Module):
    """The normalization scales a bias, which is a channel of ones of the exact head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.project = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(nn.functional.normalize(self.project(self.conv(x).relu().mean((2, 3)))))


def test_a_bias_that_a_normalization_scales_is_the_base(device):
    network = ScaledBias().to(device)
    assert analyze_head(network, (3, 32, 32)).head.site.constant
    maps, bases, logits = maps_of(network, BATCH.to(device), [1], method="integrated")
    torch.testing.assert_close(maps.mean((2, 3)) + bases, logits[:, [1]], rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # by hand: the features' share of the normalized projection
        pooled = network.conv(BATCH.to(device)).relu().mean((2, 3))
        size = network.project(pooled).norm(dim=1)
        expected = pooled @ (network.fc.weight @ network.project.weight)[1] / size
    torch.testing.assert_close(maps[:, 0].mean((1, 2)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(INEXACT.keys() - REFUSED))
def test_every_odd_head_is_explained_completely(name, device):
    torch.manual_seed(0)
    network = INEXACT[name].build().to(device)
    maps, bases, logits = maps_of(network, random_inputs(4, SHAPE, seed=5).to(device), [0])
    missed = (maps.mean((2, 3)) + bases - logits[:, :1]).abs()
    assert float((missed / logits.abs().amax(1, keepdim=True).clamp(min=1)).max()) < 0.01
    assert float((logits[:, 0] - bases[:, 0]).abs().max()) > 10 * float(missed.max())


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_complete_map_is_refused_with_its_reason(name):
    with pytest.raises(HeadError, match=REFUSED[name]):
        analyze_head(INEXACT[name].build(), SHAPE)


def test_exact_only_is_the_refusal(device):
    with pytest.raises(HeadError, match="not-gap"):
        cam.wrap(flat_network().to(device), input_size=32, method="exact")


class Bypassed(nn.Module):
    """Part of the class scores does not go through the last layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.deep = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.side = nn.Linear(256, 3), nn.Linear(256, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.fc(self.deep(x).relu().flatten(1)) + self.side(x.flatten(1)).tanh()


def test_a_cut_that_is_bypassed_is_not_taken(device):
    network = Bypassed().to(device)
    assert analyze_head(network, (3, 32, 32)).head.site.layer == ""  # the ReLU behind the stem
    maps, bases, logits = maps_of(network, BATCH.to(device), [1])
    torch.testing.assert_close(maps.mean((2, 3)) + bases, logits[:, [1]], rtol=0.01, atol=1e-3)
    with pytest.raises(HeadError, match="--layer 'deep'"):
        analyze_head(network, (3, 32, 32), layer="deep")


class InPlace(nn.Module):
    """Writes into its tensors, also through views and into new ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4 * 81, 3)

    def forward(self, x):
        features = self.conv(x).relu_().mul(1.5)
        padded = features.new_zeros(len(x), 4, 9, 9)
        padded[:, :, 1:, 1:] = features
        rows = padded.view(len(x), 4, 81)
        rows[:, :2].add_(rows[:, 2:].clone() ** 2)
        return self.fc(padded.flatten(1))


def test_calls_that_write_are_run_again_as_they_were(device):
    network = InPlace().to(device)
    for _ in range(2):  # the second run must not see what the first wrote
        maps, bases, logits = maps_of(network, BATCH.to(device), [0, 2])
        torch.testing.assert_close(maps.mean((2, 3)) + bases, logits[:, [0, 2]], rtol=1e-3, atol=1e-4)


class SmallViT(nn.Module):
    """A class token that reads the patches in some blocks."""

    def __init__(self, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, 65, width))
        self.positions.data[:, 0] = 0.01
        layer = {"dim_feedforward": 32, "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(width, 2, **layer) for _ in range(blocks)])
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.fc(self.norm(x)[:, 0])


def test_the_patches_of_a_class_token_vit_are_a_map_without_the_token(device):
    network = SmallViT().eval().to(device)
    head = analyze_head(network, (3, 32, 32)).head
    assert isinstance(head, GeneralHead)
    assert head.site.tokens == (1, 0)
    maps, bases, logits = maps_of(network, BATCH.to(device), [3])
    assert maps.shape == (3, 1, 8, 8)
    torch.testing.assert_close(maps.mean((2, 3)) + bases, logits[:, [3]], rtol=0.01, atol=1e-3)


def test_the_patches_move_nine_tenths_of_the_scores_where_a_vit_is_cut(monkeypatch):
    shares = {"blocks.0": 0.91, "blocks.1": 0.89, "blocks.2": 0.6}
    monkeypatch.setattr(cut, "_share", lambda tape, images, site: shares.get(site.layer, 1.0))
    found = cut.find_cut(SmallViT(blocks=4).eval().requires_grad_(False), (3, 32, 32))
    assert (found.site.layer, found.share) == ("blocks.0", 0.91)


def test_an_earlier_layer_gives_a_finer_map_that_is_complete(device):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU()),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).to(device)
    assert maps_of(network, BATCH.to(device), [1], method="integrated")[0].shape[2:] == (4, 4)
    maps, bases, logits = maps_of(network, BATCH.to(device), [1], layer="0")
    assert maps.shape[2:] == (8, 8)
    torch.testing.assert_close(maps.mean((2, 3)) + bases, logits[:, [1]], rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "layer9"}, "--layer must be a layer"),
        ({"layer": "0", "method": "exact"}, "--method exact"),
        ({"method": "scorecam"}, "--method must be one of exact, integrated"),
    ],
)
def test_wrong_methods_and_layers_are_told_with_the_right_ones(options, message):
    with pytest.raises(UsageError, match=message):
        cam.wrap(flat_network(), input_size=32, **options)


def test_references_are_those_of_hooks_and_autograd(device):
    """Each by its paper, with the gradient that PyTorch's own hooks give."""
    network = flat_network(hidden=8).to(device)
    kept = []
    handle = network[1].register_forward_hook(lambda _, __, out: kept.append(out))
    inputs = BATCH.to(device).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inputs)[:, 1].sum(), kept)
    handle.remove()
    features = kept[0].detach()
    average = gradient.mean((2, 3), keepdim=True)
    by_share = (gradient * features).sum((2, 3), keepdim=True) / features.sum((2, 3), keepdim=True)
    expected = {
        "gradcam": (average * features).sum(1).relu(),
        "hirescam": (gradient * features).sum(1),
        "layercam": (gradient.clamp(min=0) * features).sum(1).relu(),
        "xgradcam": (by_share * features).sum(1).relu(),
    }
    for method, maps in expected.items():
        actual = maps_of(network, BATCH.to(device), [1], method=method)[0][:, 0]
        torch.testing.assert_close(actual, 16 * maps, rtol=1e-4, atol=1e-5)


def test_shapley_values_are_chosen_behind_a_global_maximum_only(device):
    for name, method in {
        "global_max": "shapley",
        "mlp_with_relu": "integrated",
        "flatten_linear": "integrated",
    }.items():
        assert analyze_head(INEXACT[name].build().to(device), SHAPE).head.method == method


def test_an_explanation_says_how_it_was_computed(device):
    network = flat_network(hidden=8).to(device)
    explanation = cam.explain_batch(cam.wrap(network, input_size=32), BATCH.to(device))[0]
    assert (explanation.exactness, explanation.method, explanation.base) == ("complete", "integrated", explanation.bias)
    assert explanation.nodes >= 8
    assert explanation.permutations is None
    assert explanation.completeness_error < 0.01
    assert [how_computed(replace(explanation, runs=runs)).rpartition(", ")[2] for runs in (1, 8)] == [
        "1 node",
        "8 nodes",
    ]
    record = explanation.to_dict()
    assert {"exactness": "complete", "method": "integrated", "nodes": explanation.nodes}.items() <= record.items()
    shapley = cam.explain_batch(cam.wrap(network, input_size=32, method="shapley"), BATCH.to(device))[0]
    assert (shapley.exactness, shapley.nodes) == ("complete", None)
    assert shapley.permutations >= 2
    assert shapley.completeness_error < 1e-5
    reference = cam.explain_batch(cam.wrap(network, input_size=32, method="gradcam"), BATCH.to(device))[0]
    assert reference.exactness == "reference"
    assert reference.to_dict()["completeness_error"] is None


@pytest.mark.parametrize("options", [{"evidence": "margin"}, {"evidence": "posterior"}, {"channels": 2}])
def test_what_compares_all_classes_at_a_position_needs_an_average(options):
    classifier = cam.wrap(flat_network(), input_size=32)
    with pytest.raises(UsageError, match="needs a head that is an average over positions"):
        cam.explain_batch(classifier, BATCH, **options)


def test_many_classes_come_in_parts_with_the_same_maps(device):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 40)).to(device)
    maps, bases, _ = maps_of(network, BATCH[:1].to(device), [*range(39, -1, -1), 3])
    weight = network[3].weight.detach().view(40, 2, 4, 4)
    features = network[1](network[0](BATCH[:1].to(device))).detach()
    expected = (features * weight).sum(1)[[*range(39, -1, -1), 3]] * 16
    torch.testing.assert_close(maps[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bases[0], network[3].bias.detach()[[*range(39, -1, -1), 3]], rtol=1e-4, atol=1e-6)


def test_the_contrast_of_two_classes_is_complete(device):
    classifier = cam.wrap(flat_network(hidden=8).to(device), input_size=32)
    for explanation in cam.explain_batch(classifier, BATCH.to(device), evidence="contrast"):
        base = explanation.base - explanation.against.bias
        assert explanation.evidence_map.mean() + base == pytest.approx(explanation.margin, abs=0.01)
        assert explanation.completeness_error < 0.01


def test_one_logit_is_explained_against_and_for(device):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1)).to(device)
    classifier = cam.wrap(network, input_size=32)
    against, for_it = (cam.explain_batch(classifier, BATCH[:1].to(device), [c])[0] for c in (0, 1))
    np.testing.assert_allclose(against.cam, -for_it.cam, atol=1e-6)
    assert for_it.cam.mean() + for_it.base == pytest.approx(for_it.logit, abs=1e-5)


def test_a_classifier_is_copied_and_moved_with_its_head(device):
    import copy

    classifier = cam.wrap(flat_network(hidden=8), input_size=32).to(torch.device(device))
    before = cam.explain_batch(classifier, BATCH.to(device))[0].cam
    after = cam.explain_batch(copy.deepcopy(classifier), BATCH.to(device))[0].cam
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_cached_head_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = flat_network(hidden=8)
    first = analyze_head(network, (3, 32, 32))
    monkeypatch.setattr("cam.heads.examine.find_head_in_copy", lambda *_: pytest.fail("it is searched for again"))
    second = analyze_head(network, (3, 32, 32))
    assert (second.head, second.grid, second.proof) == (first.head, first.grid, first.proof)
    assert replace(second.head, tapes=first.head.tapes) == first.head


@pytest.mark.parametrize(("shape", "is_map"), [((7, 7), True), ((7, 512), False), ((512, 7), False), ((7, 14), True)])
def test_rows_of_channels_are_no_map(shape, is_map):
    site = Site("", "relu", 0)
    assert list(_layouts(site, torch.zeros(1, *shape), (224, 224))) == [site] * is_map


@pytest.mark.parametrize(("tokens", "extra"), [(49, 0), (196, 0), (197, 1), (201, 5), (50, 1)])
def test_of_tokens_as_many_are_positions_as_fit_the_image_best(tokens, extra):
    found = [site.tokens for site in _layouts(Site("", "add", 0, channel=2), torch.zeros(1, tokens), (224, 224))]
    assert found == [(front, extra - front) for front in range(extra + 1)]


class TokenPasser(nn.Module):
    """Passes a trainable token to a layer, as PiT and CaiT do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.drop, self.linear = nn.Conv2d(3, 8, 4, 4), nn.Dropout(), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(1, 8))

    def forward(self, x):
        return self.linear(self.embed(x).amax((2, 3)) + self.drop(self.token.expand(len(x), -1)))


def test_trainable_tokens_are_no_obstacle(device):
    assert isinstance(analyze_head(TokenPasser().to(device), (3, 32, 32)).head, GeneralHead)
