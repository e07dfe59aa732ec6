from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import settings
from reports import report_with_errors
from runs import NAMES, PNG, SAMPLES

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_network
from cam.cli.main import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def separate_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use new folders for caches, not those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that take a device, for benchmarks/gpu.sh."""
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of tensors: the CPU, or CAM_TEST_DEVICE (cuda)."""
    return torch.device(os.environ.get("CAM_TEST_DEVICE", "cpu"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and photographs (ImageNet sample, CIFAR-10): next to the checkout, or in CAM_TEST_DATA."""
    folder = Path(os.environ.get("CAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real weights and photographs in {folder}")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips the test if it is not installed."""
    from browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path, list[dict[str, Any]]]:
    """A classifier, its report of a few images, and their lines of the manifest with the `truth`."""
    return report_with_errors(tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(browser: Browser, reported: tuple[Classifier, Path, list[dict[str, Any]]]) -> Iterator[Page]:
    """The report in a browser."""
    from browser import opened

    with opened(browser, reported[1]) as shown:
        yield shown


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command in this process."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="cam")
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples only."""
    folder = tmp_path_factory.mktemp("in")
    for name in NAMES:
        shutil.copy(SAMPLES / name, folder)
    return folder


@pytest.fixture
def whole(run: Callable[..., Result], folder: Path, tmp_path: Path) -> Path:
    """The results of one run over the folder."""
    result = run("explain", folder, *PNG, "-o", tmp_path / "whole")
    assert result.exit_code == 0, result.output
    return tmp_path / "whole"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Import a module of the benchmarks as `python benchmarks/...` does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small SqueezeNet."""
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(load_network("squeezenet1_1", random_weights=True).network.state_dict(), path)
    return path
