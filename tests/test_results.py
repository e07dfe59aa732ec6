"""Rows, intervals and their JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from cam.errors import UsageError
from cam.evaluation.benchmark import Evaluation, Row
from cam.evaluation.statistics import interval


def test_the_interval_of_two_samples_is_known():
    # A resample of 0 and 1 has the mean 0, 1/2 or 1 with probability 1/4, 1/2 and 1/4.
    assert interval(np.array([0, 1]), seed=0) == (0.5, 0.0, 1.0)


def test_the_interval_is_that_of_scipy():
    samples = np.random.default_rng(0).gamma(2, size=80)
    expected = bootstrap((samples,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0))
    low, high = expected.confidence_interval
    width = high - low
    assert interval(samples, seed=0) == pytest.approx((samples.mean(), low, high), abs=0.06 * width)


def test_the_interval_of_a_share_is_nearly_the_normal_one():
    samples = np.arange(400) < 100
    value, low, high = interval(samples, seed=3)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)  # 0.042
    assert value == 0.25
    assert low == pytest.approx(0.25 - half, abs=0.005)
    assert high == pytest.approx(0.25 + half, abs=0.005)


@pytest.mark.parametrize("samples", [np.array([0.3]), np.array([0.3] * 5), np.array([[0.3]])])
def test_no_spread_gives_no_width_and_no_warning(samples):
    assert interval(samples, seed=0) == (0.3, 0.3, 0.3)


def test_no_sample_is_said_so():
    with pytest.raises(UsageError, match="Nothing was measured"):
        interval(np.empty((0, 4)), seed=0)


def test_a_statistic_is_worked_out_anew_for_every_resample():
    # The best column is the left one on the first half of the pictures and the right one on the other half: a
    # resample that has more of one half does better than 1/2, so the whole lies at the lower end.
    hits = np.repeat([[1, 0], [0, 1]], 50, axis=0)
    value, low, high = interval(hits, lambda some: float(some.mean(0).max()), seed=0)
    assert value == 0.5
    assert 0.5 <= low < 0.51
    assert 0.58 < high < 0.64


def test_samples_of_a_picture_stay_together():
    pairs = np.stack([np.arange(30.0), -np.arange(30.0)], axis=1)
    assert interval(pairs, lambda some: float(some.sum()), seed=0) == (0, 0, 0)


def test_the_seed_decides():
    samples = np.random.default_rng(0).random(50)
    assert interval(samples, seed=1) == interval(samples, seed=1)
    assert interval(samples, seed=1) != interval(samples, seed=2)


def test_an_evaluation_is_plain_json_in_the_order_of_its_fields():
    settings = {"ious": (0.3, 0.5), "kinds": ("a", "b"), "count": np.int64(2), "at": Path("a"), "low": -np.inf}
    rows = (Row("logit", "energy", np.float64(0.5), math.nan, 1.0, 2),)
    text = Evaluation("boxes", "digits", 7, 2, settings, rows).to_json()
    assert list(json.loads(text).items()) == [
        ("benchmark", "boxes"),
        ("model", "digits"),
        ("seed", 7),
        ("pictures", 2),
        ("settings", {"ious": [0.3, 0.5], "kinds": ["a", "b"], "count": 2, "at": "a", "low": None}),
        (
            "rows",
            [{"method": "logit", "metric": "energy", "value": 0.5, "low": None, "high": 1.0, "count": 2}],
        ),
        ("failed", {}),
    ]
