"""The same classifier with its maps computed by another method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import BATCH, NETWORKS
from torch import nn

import cam
from cam.errors import UsageError


@pytest.mark.parametrize("name", NETWORKS)
def test_behind_an_average_other_methods_give_the_exact_map(name, device):
    torch.manual_seed(0)
    exact = cam.wrap(NETWORKS[name]().eval().to(device), input_size=32)
    assert exact.with_method("exact") is exact
    expected = cam.explain_batch(exact, BATCH.to(device))
    for method in ("integrated",) if name == "gap-norm-linear" else ("integrated", "hirescam"):
        for one, two in zip(expected, cam.explain_batch(exact.with_method(method), BATCH.to(device)), strict=True):
            assert (one.method, two.method) == ("exact", method)
            np.testing.assert_allclose(two.cam, one.cam, rtol=1e-3, atol=1e-5)


def test_another_method_of_a_head_that_is_no_average(device):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten()
    network = nn.Sequential(*body, nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
    complete = cam.wrap(network, input_size=32)
    for method in ("gradcam", "shapley"):
        expected = cam.explain_batch(cam.wrap(network, input_size=32, method=method), BATCH.to(device))
        for one, two in zip(expected, cam.explain_batch(complete.with_method(method), BATCH.to(device)), strict=True):
            np.testing.assert_array_equal(two.cam, one.cam)
    with pytest.raises(UsageError, match="--method exact needs a head that is an average over positions"):
        complete.with_method("exact")
