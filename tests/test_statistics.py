"""Intervals, the loop of the benchmarks, and the JSON of its result."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from cam.errors import ImageError, UsageError
from cam.evaluation.benchmark import Evaluation, Row, interval, run_benchmark


def test_the_interval_of_two_samples_is_known():
    # A resample of 0 and 1 has the mean 0, 1/2 or 1 with probability 1/4, 1/2 and 1/4.
    assert interval(np.array([0, 1]), seed=0) == (0.5, 0.0, 1.0)


def test_the_interval_matches_scipy():
    samples = np.random.default_rng(0).gamma(2, size=80)
    expected = bootstrap((samples,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0))
    low, high = expected.confidence_interval
    assert interval(samples, seed=0) == pytest.approx((samples.mean(), low, high), abs=0.06 * (high - low))


def test_constant_samples_have_an_interval_without_width():
    assert interval(np.array([0.3] * 5), seed=0) == (0.3, 0.3, 0.3)
    assert interval(np.array([0.3]), seed=0) == pytest.approx((0.3, math.nan, math.nan), nan_ok=True)


def test_a_statistic_is_computed_for_every_resample():
    # The best column is the left one on the first half of the images and the right one on the other half: a resample
    # with more of one half does better than 1/2, so the value lies at the lower end.
    hits = np.repeat([[1, 0], [0, 1]], 50, axis=0)
    value, low, high = interval(hits, lambda samples: float(samples.mean(0).max()), seed=0)
    assert value == 0.5
    assert 0.5 <= low < 0.51
    assert 0.58 < high < 0.64


def test_the_seed_determines_the_interval():
    samples = np.random.default_rng(0).random(50)
    assert interval(samples, seed=1) == interval(samples, seed=1) != interval(samples, seed=2)


def test_a_benchmark_summarizes_samples_and_lists_failures():
    def measure(value):
        if value < 0:
            raise ImageError("It is negative", "Give another")
        return [{"logit": {"mean": value, "largest": value}}] * value

    done: list[str] = []
    items = [("bad", -1), ("empty", 0), ("one", 1), ("three", 3)]
    statistics = {"largest": lambda samples: float(samples.max())}
    result = run_benchmark("demo", "digits", items, measure, {}, seed=0, statistics=statistics, progress=done.append)
    assert [(row.metric, row.value, row.count) for row in result.rows] == [("mean", 2.5, 4), ("largest", 3, 4)]
    assert (result.pictures, result.failed) == (2, {"bad": "It is negative. Give another."})
    assert done == ["bad", "empty", "one", "three"]
    with pytest.raises(UsageError, match=r"Nothing was measured\. It is negative. Give another"):
        run_benchmark("demo", "digits", items[:1], measure, {}, seed=0)
    with pytest.raises(UsageError, match=r"Nothing was measured\. Give larger objects"):
        run_benchmark("demo", "digits", items[:2], measure, {}, seed=0, remedy="Give larger objects")


def test_an_evaluation_is_plain_json_in_the_order_of_its_fields():
    settings = {"ious": (0.3, 0.5), "count": np.int64(2), "at": Path("a"), "low": -np.inf}
    rows = (Row("logit", "energy", np.float64(0.5), math.nan, 1.0, 2),)
    text = Evaluation("boxes", "digits", 7, 2, settings, rows).to_json()
    assert list(json.loads(text).items()) == [
        ("benchmark", "boxes"),
        ("model", "digits"),
        ("seed", 7),
        ("pictures", 2),
        ("settings", {"ious": [0.3, 0.5], "count": 2, "at": "a", "low": None}),
        ("rows", [{"method": "logit", "metric": "energy", "value": 0.5, "low": None, "high": 1.0, "count": 2}]),
        ("failed", {}),
        ("unrecognized", 0),
    ]
