"""What a benchmark comes to: one row a method and metric, each with its bootstrap interval."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.errors import ImageError, ModelError, UsageError
from cam.images.find import Picture

Statistic = Callable[[NDArray[Any]], float]

RESAMPLES = 1000


def mean(samples: NDArray[Any]) -> float:
    """Average over all samples: what most metrics of a data set are.

    Args:
        samples: (N,).

    Example:
        >>> mean(np.array([0.0, 1.0]))
        0.5
    """
    return float(samples.mean())


@dataclass(frozen=True)
class Row:
    """One metric of one method.

    Attributes:
        method: whose maps were measured.
        metric: what was measured.
        value: over all samples; not a number where it has none.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        count: samples it rests on.
    """

    method: str
    metric: str
    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, method: str, metric: str, samples: NDArray[Any], statistic: Statistic = mean, *, seed: int) -> Row:
        """Sum samples up.

        Args:
            method: whose maps were measured.
            metric: what was measured.
            samples: one a picture (or mosaic, ...), (N, ...).
            statistic: takes such samples to one number; their mean by default.
            seed: of the bootstrap.

        Raises:
            UsageError: there is no sample.

        Example:
            >>> Row.of("logit", "pointing", np.array([1.0, 1.0]), seed=0)
            Row(method='logit', metric='pointing', value=1.0, low=1.0, high=1.0, count=2)
        """
        return cls(method, metric, *interval(samples, statistic, seed=seed), len(samples))


@dataclass(frozen=True)
class Evaluation:
    """The result of one benchmark.

    Attributes:
        benchmark: its name.
        model: the classifier whose maps were measured.
        seed: of everything random, the bootstrap included.
        pictures: how many were measured.
        settings: what else decides the numbers, by name.
        rows: one a method and metric.
        failed: pictures that could not be measured, and why.
    """

    benchmark: str
    model: str
    seed: int
    pictures: int
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it as JSON, in the order of the fields; what is not a number is null, what is no JSON is its text.

        Example:
            >>> result = Evaluation("grid", "digits", 0, 2, {}, (Row("logit", "share", math.nan, 0.0, 1.0, 2),))
            >>> json.loads(result.to_json())["rows"][0]["value"] is None
            True
        """
        return json.dumps(plain(asdict(self)), indent=2, allow_nan=False) + "\n"


@contextmanager
def collect_errors(failed: dict[str, str], picture: Picture) -> Iterator[None]:
    """Note what is wrong with a picture instead of raising it, so that the others are measured.

    Args:
        failed: notes, by path.
        picture: that is measured inside.

    Example:
        >>> from pathlib import Path, PurePosixPath
        >>> failed: dict[str, str] = {}
        >>> with collect_errors(failed, Picture(Path("a.jpg"), PurePosixPath("a.jpg"))):
        ...     raise ImageError("'a.jpg' is empty", "Take it away")
        >>> failed["a.jpg"]
        "'a.jpg' is empty. Take it away."
    """
    try:
        yield
    except (ImageError, ModelError) as error:
        failed[str(picture.path)] = str(error)


def some_measured(samples: Sequence[Any], failed: Mapping[str, str]) -> None:
    """Check that there is a sample.

    Raises:
        UsageError: there is none; it says why not of the first picture.
    """
    if not samples:
        why = next(iter(failed.values()), "There is no picture.")
        raise UsageError(f"Nothing was measured. {why.removesuffix('.')}", "Give at least one picture that can be")


def interval(samples: NDArray[Any], statistic: Statistic = mean, *, seed: int) -> tuple[float, float, float]:
    """Estimate a statistic and its 95 % interval: the percentile bootstrap (Efron 1979), 1000 resamples.

    Memory is bounded by one resample.

    Args:
        samples: one independent sample an entry of the first axis, (N, ...).
        statistic: takes such samples, (N, ...), to one number; it is worked out anew for each resample.
        seed: decides the resamples; the same seed and N draw the same, whatever the samples.

    Returns:
        The statistic, and the lower and the upper end of its interval; all the same for a single sample.

    Raises:
        UsageError: there is no sample.

    Example:
        >>> value, low, high = interval(np.array([0.0, 1.0] * 50), seed=0)
        >>> value, 0.38 < low < 0.42, 0.58 < high < 0.62
        (0.5, True, True)
    """
    count = len(samples)
    if count == 0:
        raise UsageError("Nothing was measured, so there is no value", "Give at least one picture that can be read")
    rng = np.random.default_rng(seed)
    resampled = [statistic(samples[rng.integers(count, size=count)]) for _ in range(RESAMPLES)]
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return float(statistic(samples)), low, high


def plain(value: Any) -> Any:
    """Put a value in the types of JSON: what is not finite is null, what JSON does not know is its text.

    Example:
        >>> plain({"place": np.array([1, 2]), "spread": math.nan})
        {'place': [1, 2], 'spread': None}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else str(value)
