"""Heat blended in batches on the device, against what a core draws picture by picture."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from small import engine_parts, photo, wrapped

import cam
from cam.engines.checked import make_engine
from cam.errors import ImageError
from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.explanation import Explanation
from cam.explanations.forward import run_forward
from cam.explanations.options import ExplainOptions, TopClasses
from cam.images.find import Picture, find_pictures
from cam.images.io import read_image, shrink, write_image
from cam.runs import batches
from cam.runs.batches import paint_batch, paint_on_device
from cam.runs.manifest import read_records
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

SIZES = [(40, 48), (64, 40), (40, 48), (33, 200), (40, 48)]
STYLE = {"vmax": None, "opacity": 0.5, "colormap": "signed", "photo": "gray"}


def explanations(evidence: str = "logit", fit: str = "crop") -> list[Explanation]:
    images = [photo(*size, seed=seed) for seed, size in enumerate(SIZES)]
    question = ExplainOptions(evidence, fit=fit)
    found = explain_images(wrapped(), images, [[TopClasses(2)]] * len(images), question)
    return [each for result in found for each in result.explanations]


def assert_same(drawn: np.ndarray, expected: np.ndarray) -> None:
    """Where a value lies half-way between two colors, either will do."""
    assert drawn.shape == expected.shape
    assert (np.abs(drawn.astype(int) - expected) > 2).any(-1).mean() <= 0.01


@pytest.mark.parametrize("fit", ["crop", "whole"])
@pytest.mark.parametrize(
    ("evidence", "style"),
    [
        ("logit", {}),
        ("contrast", {"vmax": 0.7, "opacity": 0.3}),
        ("posterior", {"vmax": 1.0, "colormap": "viridis", "opacity": 1.0}),
        ("margin", {"vmax": 0.0, "opacity": 0.0, "photo": "color"}),
    ],
)
def test_blended_heat_is_that_of_the_overlay(evidence, style, fit, device):
    images = explanations(evidence, fit)
    style = {**STYLE, **style}
    for explanation, blended in zip(images, paint_on_device(images, device, **style), strict=True):
        x0, y0, x1, y1 = explanation.frame.seen
        style["contours"] = False
        expected = explanation.overlay(**style)
        assert_same(blended, expected[y0:y1, x0:x1])
        marked = np.full_like(blended, 77)
        drawn = explanation.overlay(**style, painted=marked)
        assert (drawn[y0:y1, x0:x1] == 77).all()
        drawn[y0:y1, x0:x1] = expected[y0:y1, x0:x1]
        assert np.array_equal(drawn, expected)


def test_images_of_one_size_are_blended_at_once(device, monkeypatch):
    sizes: list[int] = []
    paint_group = batches._paint_group
    monkeypatch.setattr(
        batches, "_paint_group", lambda group, *args: sizes.append(len(group)) or paint_group(group, *args)
    )
    paint_on_device(explanations(), device, **STYLE)
    assert sizes == [6, 2, 2]


def outcomes() -> list[tuple[Picture, ImageResult | ImageError]]:
    names = [Picture(Path(f"{n}.jpg"), PurePosixPath(f"{n}.jpg")) for n in range(4)]
    images = [photo(*size, seed=seed) for seed, size in enumerate(SIZES[:3])]
    first, *others = explain_images(wrapped(), images, [[TopClasses(2)]] * len(images))
    return list(zip(names, [first, ImageError("'1.jpg' is empty", "Take it away"), *others], strict=True))


def test_failed_images_keep_their_errors(device):
    batch = list(paint_batch(outcomes(), device, RunOptions(max_side=32, scale=2.0)))
    assert [len(blended) for _, blended in batch] == [2, 0, 2, 2]
    for (_, outcome), blended in batch:
        for each, heat in zip(outcome.explanations if isinstance(outcome, ImageResult) else [], blended, strict=True):
            assert each.image.shape[1] >= 280  # enlarged for the legend
            assert_same(each.overlay(vmax=2.0, painted=heat, legend=True), each.overlay(vmax=2.0, legend=True))


def test_a_smaller_image_is_blended(device):
    (large, *_) = explanations()
    (blended,) = paint_on_device([replace(large, image=shrink(large.image, 24))], device, **STYLE)
    small = replace(large, image=shrink(large.image, 24))
    assert_same(small.overlay(painted=blended, opacity=0.5), large.overlay(max_side=24, opacity=0.5))


def test_few_large_images_are_held_at_once(device, monkeypatch):
    monkeypatch.setattr(batches, "_PAINTED_PIXELS", 2 * 240 * 288)
    taken: list[Picture] = []

    def some():
        for outcome in outcomes():
            taken.append(outcome[0])
            yield outcome

    seen = [len(taken) for _ in paint_batch(some(), device, RunOptions())]
    assert seen == [1, 3, 3, 4]


def test_without_gpu_memory_the_cpu_draws(monkeypatch):
    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batches, "_paint_group", full)
    batch = list(paint_batch(outcomes(), torch.device("cpu"), RunOptions()))
    assert [blended for _, blended in batch] == [[], [], [], []]


def test_a_run_blended_on_the_gpu_is_that_of_the_cpu(tmp_path, monkeypatch):
    for seed, size in enumerate(SIZES):
        write_image(tmp_path / "in" / f"{seed}.png", photo(*size, seed=seed))
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")

    def run(out: str) -> list[dict]:
        options = RunOptions(targets=(TopClasses(2),), format="png", max_side=45)
        done = explain_folder(wrapped(), find_pictures([tmp_path / "in"]), tmp_path / out, options)
        return list(read_records(done.manifest))

    expected = run("by-cores")
    of_the_gpu = torch.device("cuda")
    devices: list[object] = []

    def on_the_cpu(outcomes, device, *rest):
        devices.append(device)
        return paint_batch(outcomes, torch.device("cpu"), *rest)

    monkeypatch.setattr("cam.runs.batches.device_and_dtype", lambda _: (of_the_gpu, torch.float32))
    monkeypatch.setattr("cam.runs.batches.paint_batch", on_the_cpu)
    assert run("in-batches") == expected
    assert set(devices) == {of_the_gpu}
    for record in expected:
        for target in record["targets"]:
            drawn, expected_image = (
                read_image(tmp_path / out / target["files"]["overlay"]) for out in ("in-batches", "by-cores")
            )
            assert_same(drawn, expected_image)


@contextmanager
def waits() -> Iterator[list[warnings.WarningMessage]]:
    """Record when the CPU waits for the GPU implicitly."""
    with warnings.catch_warnings(record=True, action="always") as seen:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("evidence", ["logit", "contrast", "margin", "posterior"])
def test_the_cpu_waits_for_the_gpu_once(device, evidence):
    if device.type != "cuda":
        pytest.skip("waiting can be seen on CUDA only (CAM_TEST_DEVICE=cuda)")
    classifier = cam.load_classifier("digits", device="cuda")
    classifier = replace(classifier, engine=make_engine("eager", *engine_parts(classifier)))
    images = [photo(72, 72, seed=seed) for seed in range(8)]
    targets = [[TopClasses(1)]] * len(images)
    for _ in range(2):  # the first time memory is taken and kernels are loaded
        with waits() as of_the_pass:
            run_forward(classifier, images, classifier.preprocessing)
        with waits() as of_all:
            results = list(explain_images(classifier, images, targets, ExplainOptions(evidence)))
            found = [result.explanations[0] for result in results]
        with waits() as of_blending:
            paint_on_device(found, device, **STYLE)
    assert len(of_the_pass) == len(of_all) == 1
    assert not of_blending
