"""timm's classifiers, with the preprocessing and the labels that timm declares for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from cam.classifiers.checkpoints import fill_weights
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork, import_extra, named_errors, weights_only
from cam.classifiers.transforms import as_preprocessing
from cam.tensors import fixed_seed


def from_timm(
    name: str, weights: Path | None, random_weights: bool, unsafe_pickle: bool, channels: int | None = None
) -> LoadedNetwork:
    """Build one of timm's classifiers: a name, `hf-hub:NAME` or `local-dir:FOLDER`; for so many input channels."""
    timm = import_extra("timm", "timm")

    def build(**arguments: Any) -> nn.Module:
        remedy = "Use a name that timm.list_models() gives; --weights or --no-weights need no download"
        with fixed_seed(), weights_only(), named_errors(f"--model 'timm:{name}' cannot be built or downloaded", remedy):
            network: nn.Module = timm.create_model(name, in_chans=channels or 3, **arguments)
        return network

    network = build(pretrained=weights is None and not random_weights)
    preprocessing, declared = declared_by_timm(network) or (Preprocessing(), "")
    labels = _labels(timm, network)
    notes: tuple[str, ...] = ()
    if weights:
        network, notes = fill_weights(network, build, {}, weights, unsafe_pickle)
    return LoadedNetwork(network, preprocessing, labels, weights, "softmax", declared, notes=notes)


def declared_by_timm(network: object) -> tuple[Preprocessing, str] | None:
    """The preprocessing of a network that timm made, and where it comes from; None for other networks."""
    if not isinstance(getattr(network, "pretrained_cfg", None), dict):
        return None
    data = import_extra("timm", "timm").data
    config = data.resolve_model_data_config(network)
    preprocessing = as_preprocessing(data.create_transform(**config, is_training=False))
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if np.allclose(mean + std, preprocessing.mean + preprocessing.std):  # which are measured, to six digits
        preprocessing = replace(preprocessing, mean=mean, std=std)
    return preprocessing, "from timm's pretrained_cfg"


def _labels(timm: ModuleType, network: nn.Module) -> tuple[str, ...] | None:
    """The labels it declares, or ImageNet's: the first name of each class, or all its names where that is another's."""
    config: Any = network.pretrained_cfg
    if config.get("label_names"):
        return tuple(map(str, config["label_names"]))
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = timm.data.ImageNetInfo(subset)
    names = [info.index_to_description(index) for index in range(info.num_classes())]
    first = Counter(name.partition(",")[0] for name in names)
    return tuple(short if first[short := name.partition(",")[0]] == 1 else name for name in names)
