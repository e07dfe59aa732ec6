"""Image classifiers of Hugging Face transformers: from the hub, or a folder that save_pretrained wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, import_extra, named_errors, weights_only
from cam.classifiers.transforms import as_preprocessing
from cam.tensors import fixed_seed

_NUMBERED = re.compile(r"LABEL_[0-9]+")


def from_huggingface(name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool) -> LoadedNetwork:
    """Load a classifier with its image processor, labels and problem type: a folder, or a repository of the hub."""
    transformers = import_extra("transformers", "hf")
    remedy = "Give a folder that save_pretrained wrote, or a repository that can be downloaded or is in the cache"
    auto = transformers.AutoModelForImageClassification
    with (
        _no_progress(transformers),
        fixed_seed(),
        weights_only(),
        named_errors(f"--model 'hf:{name}' cannot be loaded", remedy),
    ):
        config = transformers.AutoConfig.from_pretrained(name)

        def build(**arguments: Any) -> nn.Module:
            if "num_classes" in arguments:
                config.num_labels = arguments["num_classes"]
            network: nn.Module = auto.from_config(config)
            return network

        own = weights is None and not random_weights
        network = auto.from_pretrained(name, config=config) if own else build()
    notes: tuple[str, ...] = ()
    if weights:
        network, notes = fill_weights(network, build, {}, weights, unsafe_pickle)
    preprocessing, declared = _preprocessing(transformers, name)
    return LoadedNetwork(network, preprocessing, labels_of(network), weights, declared=declared, notes=notes)


@contextmanager
def _no_progress(transformers: ModuleType) -> Iterator[None]:
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def name_folder(model: str) -> str:
    """Return `hf:` and a folder that transformers saved, or `timm:local-dir:` and one that timm did; else the model."""
    try:
        config = json.loads(Path(model, "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return model
    keys = {"model_type": "hf:", "architecture": "timm:local-dir:"}
    return next((prefix + model for key, prefix in keys.items() if isinstance(config, dict) and key in config), model)


def _preprocessing(transformers: ModuleType, name: str) -> tuple[Preprocessing, str]:
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError):  # it has none
        return Preprocessing(), ""
    return as_preprocessing(processor), "from its image processor"


def labels_of(network: nn.Module) -> tuple[str, ...] | None:
    """Labels that the configuration of a network of transformers has; None without, or if they are only LABEL_0, ..."""
    id2label = getattr(getattr(network, "config", None), "id2label", None)
    if not isinstance(id2label, Mapping):
        return None
    labels = tuple(str(id2label[index]) for index in sorted(id2label))
    return None if all(map(_NUMBERED.fullmatch, labels)) else labels
