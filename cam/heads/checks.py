"""A network must give class scores: the same for the same image, again and whatever else is in the batch."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from cam.errors import ModelError
from cam.heads.hooks import eval_mode
from cam.heads.outputs import find_logits
from cam.tensors import no_tf32

_CLASSIFIERS = {"fc", "_fc", "classifier", "head", "heads", "linear", "last_linear", "logits", "output"}  # usual names
_RUNS = 8  # of a network that draws random numbers: how often it may use them is unknown
_SAME = 0.03  # of the tolerance, within which two runs on the same input are the same


def check_repeatable(network: nn.Module, inputs: Tensor, logits: Tensor, tolerance: float) -> None:
    """Raise a ModelError if a network answers differently twice, or differently alone and in a batch.

    Args:
        network: in evaluation mode.
        inputs: different images, (N, channels, H, W).
        logits: what it gave for them, (N, C).
        tolerance: relative error of the lowest precision that it computes in.
    """
    if tolerance == 1e-3:  # of an exact head in float32; batches of other sizes differ by less
        tolerance = 1e-4
    limit = tolerance * float(logits.abs().max())
    with eval_mode(network), no_tf32():
        before = _random_state(inputs.device)
        # The first and the last image: each may be the one that the others follow.
        alone = torch.cat([find_logits(network(image), 1) for image in (inputs[:1], inputs[-1:])])
        difference = float((alone - logits[[0, -1]]).abs().max())
        if _random_state(inputs.device) == before and difference <= limit:
            return
        for _ in range(_RUNS):
            change = float((find_logits(network(inputs[-1:]), 1) - alone[1]).abs().max())
            if change > _SAME * limit:
                problem = f"The network gives the same image other class scores each time, by {change:.2g}"
                remedy = "Turn off in evaluation mode what is random, such as with F.dropout(x, p, self.training)"
                raise ModelError(problem, remedy)
    if difference > limit:
        layers = [name for name, module in network.named_modules() if getattr(module, "running_mean", 0) is None]
        layer = f" (layer {layers[0]!r} has no running statistics)" if layers else ""
        raise ModelError(
            f"The class scores of an image depend on the other images of the batch, by {difference:.2g}{layer}",
            "Let the network compute each image alone in evaluation mode; normalize by running statistics, "
            "such as with BatchNorm2d(track_running_stats=True)",
        )


def _random_state(device: torch.device) -> list[object]:
    """States of the generators of random numbers that a network on a device may use."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [*(state.numpy().tobytes() for state in states), random.getstate(), repr(np.random.get_state())]


def check_has_classifier(network: nn.Module) -> None:
    """Raise a ModelError if a network was built without a classifier, as timm does with num_classes=0."""
    if getattr(network, "num_classes", None) == 0:
        raise _no_classifier("its num_classes is 0")


def check_classifier_was_not_removed(network: nn.Module, inputs: Tensor) -> None:
    """Raise a ModelError if the outputs are what an empty layer with the name of a classifier passes on."""
    for name, module in network.named_modules():
        is_empty = isinstance(module, nn.Identity) or (type(module) is nn.Sequential and len(module) == 0)
        if not (is_empty and _CLASSIFIERS & set(name.split("."))):
            continue
        passed: list[object] = []
        handle = module.register_forward_hook(lambda _, args, __, passed=passed: passed.extend(args))
        with eval_mode(network):
            logits = find_logits(network(inputs[:1]), 1)
        handle.remove()
        if any(isinstance(tensor, Tensor) and tensor.data_ptr() == logits.data_ptr() for tensor in passed):
            raise _no_classifier(f"its layer {name!r} does nothing")


def _no_classifier(reason: str) -> ModelError:
    return ModelError(
        f"The network is not a classifier: {reason}, so that its outputs are features, not class scores",
        "Give it with its classifier, as it was trained",
    )
