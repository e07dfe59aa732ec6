"""Bootstrap intervals, and values as JSON takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Statistic: TypeAlias = Callable[[NDArray[Any]], Any]  # samples (N, ...) -> a number

RESAMPLES = 1000


def interval(samples: NDArray[Any], statistic: Statistic = np.mean, *, seed: int) -> tuple[float, float, float]:
    """Compute a statistic of samples (N, ...) and its 95 % interval: value, low, high.

    The percentile bootstrap (Efron 1979) with 1000 resamples. The same seed and N draw the same resamples.
    """
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
