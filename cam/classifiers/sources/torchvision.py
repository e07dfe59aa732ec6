"""torchvision's classification builders."""

from __future__ import annotations

import importlib
import io
import sys
import urllib.error
import warnings
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, weights_only
from cam.errors import WeightsError
from cam.tensors import fixed_seed

_DECLARED = "from torchvision's weights"


def torchvision_names() -> list[str]:
    """Names of torchvision's classification builders."""
    models = _torchvision_models()
    names: list[str] = models.list_models(module=models)
    return names


def from_torchvision(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> LoadedNetwork:
    """Build one of torchvision's classifiers."""
    entry = _torchvision_models().get_model_weights(name).DEFAULT
    preset = entry.transforms()
    preprocessing = Preprocessing(
        preset.resize_size[0],
        (preset.crop_size[0], preset.crop_size[0]),
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )
    labels = tuple(entry.meta["categories"])
    if weights is None and not random_weights:
        file = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
        return LoadedNetwork(_pretrained(name, entry, file), preprocessing, labels, file, "softmax", _DECLARED)
    network, build, notes = _untrained(name), partial(_untrained, name), tuple[str, ...]()
    if weights is not None:
        network, notes = fill_weights(network, build, {}, weights, unsafe_pickle)
    return LoadedNetwork(network, preprocessing, labels, weights, "softmax", _DECLARED, notes=notes)


def _torchvision_models() -> Any:
    """Imported only when needed: it takes as long as torch itself."""
    return importlib.import_module("torchvision.models")


def _untrained(name: str, **arguments: Any) -> nn.Module:
    with fixed_seed(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet and inception_v3 announce a new initialization
        network: nn.Module = _torchvision_models().get_model(name, weights=None, **arguments)
    return network


def _pretrained(name: str, entry: Any, file: Path) -> nn.Module:
    """Let torchvision download, check and load its weights; a file in its cache is not changed."""
    terminal = sys.stderr.isatty()
    try:
        with weights_only(), redirect_stdout(sys.stderr if terminal else io.StringIO()):  # stdout is for results
            network: nn.Module = _torchvision_models().get_model(name, weights=entry, progress=terminal)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        problem = f"The weights of {name!r} cannot be downloaded ({getattr(error, 'reason', error)})"
        remedy = f"Put {file.name} into {str(file.parent)!r} (below TORCH_HOME), or use the embedded model: -m digits"
        raise WeightsError(problem, remedy) from error
    except Exception as error:  # permissions, a wrong hash, a truncated file, code in a pickle, or other keys
        problem = f"The weights of {name!r} in {str(file)!r} cannot be used: {error}"
        remedy = "Remove the file so that it is downloaded again, or set TORCH_HOME to a folder that you may write to"
        raise WeightsError(problem, remedy) from error
    return network
