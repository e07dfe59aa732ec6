"""How often a batch waits for its device, counted without a GPU.

Tensors that come from the network are of a class of their own: what makes the CPU read one is a wait.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small import engine_parts, photo, wrapped
from torch import Tensor

from cam.engines.checked import make_engine
from cam.explanations.explain import explain_images
from cam.explanations.options import ExplainOptions, TopClasses
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.runs.batches import explain_batch, paint_batch
from cam.runs.options import RunOptions

READS = "cpu", "item", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__contains__"


class OnDevice(Tensor):
    """A tensor that counts when the CPU needs its values; results of operations on it are such tensors, too."""

    waits: ClassVar[Counter[str]] = Counter()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        name = getattr(func, "__name__", "")
        by_mask = name == "__getitem__" and any(isinstance(key, Tensor) and key.dtype == torch.bool for key in args[1:])
        if name in READS or by_mask or (name == "to" and "cpu" in map(str, args[1:])):
            cls.waits[name] += 1
            return result.as_subclass(Tensor) if isinstance(result, Tensor) else result
        return result


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count waits from here on; copies to the CPU that do not wait are plain tensors."""
    counts: Counter[str] = Counter()
    monkeypatch.setattr(OnDevice, "waits", counts)
    for module in ("explanations.compute", "runs.batches"):
        monkeypatch.setattr(f"cam.{module}.to_cpu", lambda tensor: tensor.as_subclass(Tensor))
    for module in ("explanations.explain", "runs.batches"):
        monkeypatch.setattr(f"cam.{module}.synchronize", lambda device: counts.update(["synchronize"]))
    monkeypatch.setattr("cam.runs.batches.to_device", lambda array, device: torch.tensor(array).as_subclass(OnDevice))
    return counts


def on_device(kind: str = "gap-linear") -> Any:
    classifier = wrapped(kind)
    eager = make_engine("eager", *engine_parts(classifier))

    def engine(inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.as_subclass(OnDevice) for tensor in eager(inputs))

    return replace(classifier, engine=engine)


def test_reading_a_result_of_the_network_is_counted(waits: Counter[str]) -> None:
    values = torch.tensor([1.0, 2.0]).as_subclass(OnDevice)
    total = (2 * values).sum() + torch.ones(1)
    assert isinstance(total, OnDevice)
    assert not waits
    assert [total.item(), float(total), bool(total > 1), (values > 1).nonzero().shape] == [7, 7, True, (1, 1)]
    assert type(values.cpu()) is type(values.to("cpu")) is type(values[values > 1]) is Tensor
    assert sum(waits.values()) == 7


@pytest.mark.parametrize("evidence", ["logit", "contrast", "margin", "posterior"])
@pytest.mark.parametrize("kind", ["gap-linear", "conv-gap", "gap-norm-linear"])
def test_a_batch_waits_for_its_scores_and_for_its_maps(waits: Counter[str], kind: str, evidence: Any) -> None:
    images, targets = [photo(40, 48, seed) for seed in range(6)], [[TopClasses(2)]] * 6
    results = list(explain_images(on_device(kind), images, targets, ExplainOptions(evidence, channels=2)))
    assert waits == {"cpu": 1, "synchronize": 1}
    assert all(np.isfinite(result.explanations[0].cam).all() for result in results)


def test_a_batch_of_a_run_waits_three_times(waits: Counter[str], tmp_path: Path) -> None:
    for seed in range(6):
        write_image(tmp_path / f"{seed}.png", photo(40, 48, seed))
    options = RunOptions(targets=(TopClasses(2),))
    outcomes = explain_batch(on_device(), find_pictures([tmp_path]), options)
    painted = list(paint_batch(outcomes, torch.device("cpu"), options))
    assert waits == {"cpu": 1, "synchronize": 2}
    assert [len(images) for _, images in painted] == [2] * 6
