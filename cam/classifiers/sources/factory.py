"""Networks from `package.module:callable`, which may be in the working directory, or `file.py:callable`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, import_callable, named_errors
from cam.classifiers.sources.files import as_program
from cam.classifiers.sources.timm import declared_by_timm
from cam.classifiers.transforms import as_preprocessing
from cam.errors import ModelError
from cam.files import same_directory
from cam.heads.copies import check_network
from cam.heads.outputs import unwrap


def from_factory(model: str, weights: Path | None, unsafe_pickle: bool) -> LoadedNetwork:
    """Import a user's factory and call it."""
    with _isolated("" if ".py:" not in model else str(Path(model).parent)):
        factory = import_callable(model)
        preprocessing: object = None

        @wraps(factory)
        def build(**arguments: Any) -> nn.Module:
            nonlocal preprocessing
            with named_errors(f"{model!r} failed", "Fix the factory"):
                network = factory(**arguments)
            if isinstance(network, tuple) and len(network) == 2:
                network, preprocessing = network
            if not isinstance(network, nn.Module):
                raise ModelError(
                    f"{model!r} must return a torch.nn.Module, got {type(network).__name__}",
                    "Let it take no arguments and return the network, or the network and its preprocessing",
                )
            return as_program(unwrap(network))

        network, notes = build(), tuple[str, ...]()
        check_network(network)
        if weights:
            network, notes = fill_weights(network, build, {}, weights, unsafe_pickle)
        if preprocessing is not None:
            known, declared = as_preprocessing(preprocessing), "from the factory"
        else:
            known, declared = declared_by_timm(network) or (Preprocessing(), "")
    return LoadedNetwork(network, known, weights=weights, declared=declared, notes=notes)


@contextmanager
def _isolated(folder: str) -> Iterator[None]:
    """Import from this folder too, and undo what a factory changes for the whole process.

    The folder comes last: a file of the name of a library never replaces the library.
    """
    known, dtype, device = folder in sys.path, torch.get_default_dtype(), torch.get_default_device()
    if not known:
        sys.path.append(folder)
    try:
        with same_directory():
            yield
    finally:
        if not known and folder in sys.path:
            sys.path.remove(folder)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
