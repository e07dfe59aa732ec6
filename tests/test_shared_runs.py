"""Images of a batch share runs of a head that is no average, and each has the maps that it has alone."""

from __future__ import annotations

import pytest
import torch
from small import BATCH
from torch import nn

import cam
from cam.errors import ModelError
from cam.explanations.explain import explain_inputs
from cam.explanations.options import ExplainOptions, OneClass
from cam.heads.examine import analyze_head
from cam.heads.hooks import forward
from cam.heads.tape import Tape

SIZE = (32, 32)
LOUD = BATCH * torch.tensor([1.0, 20.0, 0.1]).view(3, 1, 1, 1)  # so that normalizations divide by different scales


class Root(nn.Module):
    def forward(self, x):
        return (x * (x > 0)).sqrt()


def normalized_network():
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*body, nn.LayerNorm(64), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 20))


@pytest.mark.parametrize("method", ["integrated", "shapley", "gradcam"])
def test_each_image_has_the_maps_that_it_has_alone(method, device):
    network = normalized_network().to(device)
    head = analyze_head(network, (3, *SIZE), method=method).head
    logits, features = forward(network, head.site, LOUD.to(device))
    classes = [[3, 1, 3], [0], list(range(20))]  # 20 come in two parts
    for number, found in enumerate(head.class_maps(features, classes, SIZE)):
        (alone,) = head.class_maps(features[[number]], [classes[number]], SIZE)
        assert found.runs == alone.runs
        torch.testing.assert_close(found.maps, alone.maps, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.base, alone.base, rtol=1e-4, atol=1e-4)
        if method != "gradcam":
            missed = found.maps.mean((1, 2)) + found.base - logits[number, classes[number]]
            assert float(missed.abs().max()) < 0.05


def test_images_share_runs(monkeypatch, device):
    classifier = cam.wrap(normalized_network().to(device), input_size=32)
    rows, run = [], Tape.rows
    monkeypatch.setattr(
        Tape, "rows", lambda tape, features, scales=(): rows.append(len(features)) or run(tape, features, scales)
    )
    explanations = cam.explain_batch(classifier, BATCH.to(device), [0, 1, 2])
    assert [explanation.nodes for explanation in explanations] == [8, 8, 8]
    assert rows == [6, 24]  # both ends of three paths, and their nodes


def test_an_image_without_finite_slopes_costs_itself_only(device):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 2, 8, 8), nn.Flatten(), nn.Linear(32, 4)
    network = nn.Sequential(*body, Root(), nn.Linear(4, 3)).to(device)
    with torch.no_grad():
        network[0].weight.abs_()
        network[2].weight.abs_().mul_(0.1)
        network[2].bias.fill_(5)
    inputs = BATCH.clone()
    inputs[1] = -100  # all units are below 0, where the slope is 0 times infinity
    classifier = cam.wrap(network, input_size=32)
    results = list(explain_inputs(classifier, inputs.to(device), [[OneClass(1)]] * 3, ExplainOptions()))
    assert isinstance(results[1], ModelError)
    assert "are not finite for this image" in str(results[1])
    for number in (0, 2):
        expected = cam.explain_batch(classifier, inputs[[number]].to(device), [1])[0].cam
        torch.testing.assert_close(torch.from_numpy(results[number].explanations[0].cam), torch.from_numpy(expected))
