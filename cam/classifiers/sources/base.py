"""What every model source shares."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from torch import nn

from cam.classifiers.activations import Activation
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError, reason_of


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its preprocessing; labels, file of the weights and activation, if there are any.

    `declared` says where the preprocessing comes from; it is empty if nothing declares one. `own_weights` is False if
    preprocessing, labels and activation are those of other weights; `notes` say what was assumed.
    """

    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    weights: Path | None = None
    activation: Activation | None = None
    declared: str = ""
    own_weights: bool = True
    notes: tuple[str, ...] = ()


def import_callable(name: str) -> Callable[..., nn.Module]:
    """Import `package.module:callable` or `folder/file.py:callable`."""
    file, _, attribute = name.rpartition(":")  # after the drive of Windows
    remedy = "Give file.py:callable, or package.module:callable, where installed modules come first"
    with named_errors(f"--model {name!r} cannot be imported", remedy):
        if file.endswith(".py"):
            module = sys.modules[file] = ModuleType(file)  # dataclasses look themselves up there
            module.__file__ = file
            SourceFileLoader(file, file).exec_module(module)
            function: Callable[..., nn.Module] = attrgetter(attribute)(module)
        else:
            function = pkgutil.resolve_name(name)
    return function


@contextmanager
def named_errors(problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever a user's code raises, which may be anything, into a ModelError; except Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a script exits
        raise ModelError(f"{problem}: {type(error).__name__}: {reason_of(error)}", remedy) from error


def import_extra(package: str, extra: str, option: str = "--model") -> ModuleType:
    """Import a package of an extra; ModelError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModelError(f"{option} needs {package}: {error}", f"Run pip install 'gapcam[{extra}]'") from error


@contextmanager
def weights_only() -> Iterator[None]:
    """Forbid code in the pickles that a library reads, whose builders do not pass `weights_only` on."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
