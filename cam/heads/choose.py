"""Choose how the map of a head is computed: integrated gradients, or Shapley values where those are nearer to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cam.heads.copies import random_inputs
from cam.heads.cut import Cut
from cam.heads.general import GeneralHead, GeneralMethod, Tapes
from cam.heads.head import Kind
from cam.heads.hooks import eval_mode, forward
from cam.tensors import device_and_dtype

_LONG = 32  # permutations of the long sample
_MAX_LONG_COST = 10.0  # forward passes that it may take
_CLEARLY = 0.05  # of the long sample's size, by which Shapley values must be nearer
_PERMUTATIONS = range(4, 65)  # of an explanation: as many as one forward pass allows


def make_head(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    cut: Cut,
    kind: Kind,
    method: GeneralMethod | None,
    reason: str = "",
) -> GeneralHead:
    """Make the head behind a cut of a network in evaluation mode, by a method, or None for the better one.

    Behind a global maximum integrated gradients credit the one position that wins, and Shapley values all that could.
    Both are compared with a long sample of Shapley values on random images, unless that takes too long.
    """
    site = replace(cut.site, raw=True, constant=False)  # of all channels that there are
    size = input_shape[1], input_shape[2]
    images = random_inputs(2, input_shape, seed=3).to(*device_and_dtype(network))
    logits, features = forward(network, site, images)
    tapes = Tapes(network, site, input_shape[0])
    nodes = 1 if kind in ("gap-linear", "conv-gap", "gap-norm-linear") else None  # the gradient is the same everywhere
    head = GeneralHead(kind, reason, site, logits.shape[1], "integrated", tapes, nodes, share=round(cut.share, 2))
    head.logits(features[:1], size)  # records the network, which would count
    with eval_mode(network):
        whole = _multiply_adds(lambda: network(images[:1]))
    head = replace(head, cost=_multiply_adds(lambda: head.logits(features[:1], size)) / max(1, whole))
    head = replace(head, groups=head.group_count(features[0], size))
    one = max(1e-9, head.cost * (head.groups + 1))  # permutation, in forward passes
    permutations = max(_PERMUTATIONS[0], min(_PERMUTATIONS[-1], int(1 / one) // 2 * 2))
    head = replace(head, permutations=permutations)
    if method is not None or one * _LONG > _MAX_LONG_COST:
        return replace(head, method=method or "integrated")
    shapley, distances = replace(head, method="shapley"), torch.zeros(2, dtype=torch.float64)
    classes = [[class_idx] for class_idx in logits.argmax(1).tolist()]
    samples = replace(shapley, permutations=_LONG, seed=1).class_maps(features, classes, size)
    for number, other in enumerate((head, shapley)):
        for image, found, sample in zip(features, other.class_maps(features, classes, size), samples, strict=True):
            distances[number] += _distance(other.average_groups(found.maps, image, size), sample.maps)
    better = distances[0] - distances[1] > _CLEARLY * len(features)
    return shapley if better else head


def _distance(maps: Tensor, expected: Tensor) -> float:
    return float((maps - expected).norm() / expected.norm().clamp_min(1e-30))


def _multiply_adds(run: Callable[[], object]) -> int:
    """Multiplications and additions of convolutions, linear layers and attention."""
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter:  # its hooks on parameters that modules pass on need gradients
        run()
    return int(counter.get_total_flops())
