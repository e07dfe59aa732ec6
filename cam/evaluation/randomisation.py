"""Forgetting what a network has learned, layer after layer, to see whether its maps notice."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from cam.classifiers import Classifier
from cam.features import evaluating
from cam.head import find_head
from cam.twins import device_and_dtype, random_inputs, twin_of


def randomised(classifier: Classifier, stages: int, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """Forget what a network has learned, layer after layer from the logits to the input (Adebayo et al. 2018).

    Layers are modules with parameters of their own, in the order in which they run; those that do not run by
    themselves come last. A layer is set to how it is initialised, its running statistics too, by its
    `reset_parameters`; without one, its parameters are drawn from a normal distribution of their own mean and
    deviation.

    Args:
        classifier: it is left as it is.
        stages: how many states to give, evenly spaced among the layers.
        seed: of the new parameters.

    Returns:
        Name of the last layer randomised, "all" in the end, and a classifier of a copy of the network with a head
        found anew.

    Raises:
        HeadError: that network has no exact head.

    Example:
        >>> from cam.classifiers import wrap
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> [layer for layer, _ in randomised(wrap(network, input_size=16), 2)]
        ['3', 'all']
    """
    shape = classifier.preprocessing.input_shape
    device, dtype = device_and_dtype(classifier.network)
    network = twin_of(classifier.network, shape).to(device)
    layers = layers_from_logits(network, random_inputs(1, shape).to(device, dtype))
    ends = np.unique(np.rint(np.linspace(1, len(layers), stages)).astype(int)).tolist()
    for start, end in pairwise([0, *ends]):
        for index in range(start, end):
            randomise(network.get_submodule(layers[index]), seed + index)
        state = copy.deepcopy(network)
        head = find_head(state, shape).exact().to(device)
        yield "all" if end == len(layers) else layers[end - 1], replace(classifier, network=state, head=head)


def layers_from_logits(network: nn.Module, inputs: Tensor) -> list[str]:
    """Name the modules with parameters of their own, the last to start first; those that do not run come last.

    Example:
        >>> layers_from_logits(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
        ['2', '0']
    """
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if hasattr(module, "reset_parameters") or next(module.parameters(recurse=False), None) is not None
    ]
    started: list[str] = []
    handles = [module.register_forward_pre_hook(lambda *_, name=name: started.append(name)) for name, module in layers]
    with evaluating(network):
        network(inputs)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys([*reversed(started), *(name for name, _ in layers)]))


def randomise(layer: nn.Module, seed: int) -> None:
    """Draw a layer's own parameters anew, in place; the caller's random numbers go on as if nothing had happened.

    Example:
        >>> layer = nn.BatchNorm2d(1)
        >>> _ = layer.running_mean.fill_(5)
        >>> randomise(layer, 0)
        >>> layer.running_mean.item()
        0.0
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
            return
        for parameter in layer.parameters(recurse=False):
            parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
