"""What all benchmarks share: the loop over images, bootstrap intervals, and the result as JSON."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from cam.errors import ImageError, ModelError, UsageError

Sample: TypeAlias = Mapping[str, Mapping[str, Any]]  # method -> metric -> value, as its statistic takes it
Statistic: TypeAlias = Callable[[NDArray[Any]], Any]  # samples (N, ...) -> a number
Progress: TypeAlias = Callable[[str], None] | None  # called with the name of each item that is done
Item = TypeVar("Item")
Result = TypeVar("Result")
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One metric of one method: its value, the ends of its 95 % interval, and the number of samples."""

    method: str
    metric: str
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """The result of one benchmark."""

    benchmark: str
    model: str
    seed: int  # of everything random, including the bootstrap
    pictures: int  # how many were measured
    settings: Mapping[str, Any]  # what else decides the numbers, by name
    rows: tuple[Row, ...]  # one for each method and metric
    failed: Mapping[str, str] = field(default_factory=dict)  # images that could not be measured, and why
    unrecognized: int = 0  # images left out because the model does not recognize them

    def to_json(self) -> str:
        """Format it as JSON, in the order of the fields."""
        return json.dumps(plain(asdict(self)), indent=2, allow_nan=False) + "\n"


def measure_items(
    items: Iterable[tuple[str, Item]], measure: Callable[[Item], Result], progress: Progress = None
) -> tuple[list[Result], dict[str, str]]:
    """Measure named items in turn; return the results, and why the others failed, by name."""
    results, failed = [], {}
    for name, item in items:
        try:
            results.append(measure(item))
        except (ImageError, ModelError) as error:
            failed[name] = str(error)
        if progress:
            progress(name)
    return results, failed


def run_benchmark(
    benchmark: str,
    model: str,
    items: Iterable[tuple[str, Item]],
    measure: Callable[[Item], Sequence[Sample]],
    settings: Mapping[str, Any],
    *,
    seed: int,
    statistics: Mapping[str, Statistic] = {},
    remedy: str = "Give at least one image",
    progress: Progress = None,
) -> Evaluation:
    """Measure named items and summarize their samples, with one row for each method and metric.

    An item without samples is left out; `remedy` says what to do if all are. `statistics` are those of the metrics that
    are not averages.
    """
    results, failed = measure_items(items, measure, progress)
    measured = [samples for samples in results if samples]
    if not measured:
        reason = next(iter(failed.values())) if failed and not results else remedy
        raise UsageError("Nothing was measured", reason.removesuffix("."))
    values: defaultdict[str, defaultdict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for sample in chain.from_iterable(measured):
        for method, metrics in sample.items():
            for metric, value in metrics.items():
                values[method][metric].append(value)
    rows = tuple(
        Row(method, metric, *interval(np.array(numbers), statistics.get(metric, np.mean), seed=seed), len(numbers))
        for method, metrics in values.items()
        for metric, numbers in metrics.items()
    )
    return Evaluation(benchmark, model, seed, len(measured), settings, rows, failed, len(results) - len(measured))


def interval(samples: NDArray[Any], statistic: Statistic = np.mean, *, seed: int) -> tuple[float, float, float]:
    """Compute a statistic of samples (N, ...) and its 95 % interval: value, low, high.

    The percentile bootstrap (Efron 1979) with 1000 resamples. The same seed and N draw the same resamples. One sample
    has no interval: low and high are NaN.
    """
    if len(samples) == 1:
        return float(statistic(samples)), math.nan, math.nan
    rng, count = np.random.default_rng(seed), len(samples)
    resampled = [statistic(samples[rng.integers(count, size=count)]) for _ in range(RESAMPLES)]
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return float(statistic(samples)), low, high


def plain(value: Any) -> Any:
    """Convert a value to the types of JSON; non-finite numbers become null, unknown types their text."""
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(member) for member in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else str(value)
