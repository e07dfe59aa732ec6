from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from browser import chromium, opened
from click.testing import CliRunner, Result
from hypothesis import settings
from playwright.sync_api import Browser, Page
from reports import report_with_errors
from runs import NAMES, PNG, SAMPLES

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_network
from cam.cli.main import main

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's caches out of the tests, and the tests out of the user's caches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where tensors are: the CPU, or what CAM_TEST_DEVICE says (cuda)."""
    return torch.device(os.environ.get("CAM_TEST_DEVICE", "cpu"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and photographs (ImageNet sample, CIFAR-10): beside the checkout, or where CAM_TEST_DATA says."""
    folder = Path(os.environ.get("CAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real weights and photographs in {folder}")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path, list[dict[str, Any]]]:
    """A classifier, its report of a few pictures, and their lines of the manifest with the `truth`."""
    return report_with_errors(tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(browser: Browser, reported: tuple[Classifier, Path, list[dict[str, Any]]]) -> Iterator[Page]:
    """That report, opened."""
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
    """The samples, in a folder of their own."""
    folder = tmp_path_factory.mktemp("in")
    for name in NAMES:
        shutil.copy(SAMPLES / name, folder)
    return folder


@pytest.fixture
def whole(run: Callable[..., Result], folder: Path, tmp_path: Path) -> Path:
    """What one run over the folder leaves."""
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
