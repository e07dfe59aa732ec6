"""An engine that misses what the network gives is found out on its first batch, and not used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import BATCH, engine_parts, wrapped

from cam.engines.checked import CheckedEngine
from cam.engines.eager import EagerEngine
from cam.heads.copies import random_inputs


@pytest.mark.parametrize(
    ("fast", "reason"),
    [
        (lambda logits, features: (logits + 0.01, features), "misses the logits by 0.01"),
        (lambda logits, features: (logits + 2e-3, features), "misses the logits by 0.002"),
        (lambda logits, features: (logits, 1.01 * features), "misses the features by 0.01"),
        (lambda logits, features: (logits * torch.nan, features), "misses the logits by nan"),
        (lambda logits, features: (logits, features[:, :, 1:]), "gives features of the shape"),
        (lambda logits, features: 1 / 0, "fails (ZeroDivisionError: division by zero)"),
    ],
)
def test_an_engine_that_is_wrong_is_not_used(fast, reason, device):
    eager = EagerEngine(*engine_parts(wrapped(device=device)))
    engine = CheckedEngine("hasty", eager, lambda: lambda inputs: fast(*eager(inputs)))
    for _ in range(2):
        assert all(map(torch.equal, engine(BATCH), eager(BATCH)))
    assert engine.reason.startswith("hasty " + reason)
    assert engine.reason.endswith("for inputs of 32 x 32")


@pytest.mark.parametrize("other", [0.0, 0.5])
def test_maps_must_be_right_and_not_only_features(other, device):
    """A channel that no class looks at may be so large that what the others miss is nothing beside it."""

    class Wide(EagerEngine):
        def __call__(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, features = super().__call__(inputs)
            return logits, torch.cat([1e6 + features[:, :1], features[:, 1:]], 1)

    eager = Wide(*engine_parts(wrapped(device=device)))
    weight = eager.head.weight.clone()
    weight[:, 0] = 0
    eager.head = replace(eager.head, weight=weight)
    nudge = torch.full((weight.shape[1], 1, 1), other, device=device)
    nudge[0] = 1
    engine = CheckedEngine("hasty", eager, lambda: lambda inputs: (eager(inputs)[0], eager(inputs)[1] + nudge))
    engine(BATCH)
    assert engine.reason.startswith("hasty misses the maps by") == bool(engine.reason) == (other > 0)


def test_near_ties_must_be_won_by_the_same_class(device):
    classifier = wrapped(device=device)
    eager = EagerEngine(*engine_parts(classifier))
    with torch.no_grad():
        eager.network[-1].weight[1] = eager.network[-1].weight[0]
        eager.network[-1].bias[:2] = 100
        eager.network[-1].bias[1] += 5e-4
    nudge = torch.tensor([8e-4, 0, 0, 0, 0], device=device)
    engine = CheckedEngine("hasty", eager, lambda: lambda inputs: (eager(inputs)[0] + nudge, eager(inputs)[1]))
    engine(BATCH)
    assert engine.reason == "hasty predicts other classes for inputs of 32 x 32"


def test_an_engine_that_cannot_be_made_leaves_all_to_eager(device):
    eager = EagerEngine(*engine_parts(wrapped(device=device)))
    engine = CheckedEngine("hasty", eager, lambda: [][0])
    assert torch.equal(engine(BATCH)[0], eager(BATCH)[0])
    assert engine.reason == "hasty cannot translate the network (IndexError: list index out of range)"


def test_a_good_engine_is_checked_once_a_size(device):
    eager, calls = EagerEngine(*engine_parts(wrapped(device=device))), []
    engine = CheckedEngine("swift", eager, lambda: lambda inputs: calls.append(inputs.shape) or eager(inputs))
    for inputs in (BATCH, BATCH, random_inputs(2, (3, 40, 32)), BATCH):
        engine(inputs)
    assert [shape[2] for shape in calls] == [32, 32, 32, 40, 40, 32]
    assert engine.reason == ""
