"""The sanity benchmark: do maps depend on the weights, add up to the class score, and move with the image?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.evaluation.benchmark import Evaluation, Progress, Row, Sample, run_benchmark
from cam.evaluation.faithfulness import heat_on_input
from cam.evaluation.methods import Heat, Load, MapRequest, baselines, evidence_methods, forward_image, load_image
from cam.explanations.options import TopClasses, resolve
from cam.heads.copies import copy_network, eval_copy, random_inputs
from cam.heads.find import find_head
from cam.heads.hooks import eval_mode
from cam.images.find import Picture
from cam.maps.activation import completeness_error
from cam.maps.evidence import Evidence
from cam.maps.geometry import Size
from cam.tensors import device_and_dtype


def evaluate_sanity(
    classifier: Classifier,
    pictures: Sequence[Picture],
    kinds: Sequence[Evidence],
    *,
    seed: int = 0,
    stages: int = 5,
    fit: Fit | None = None,
    load: Load = load_image,
    progress: Progress = None,
) -> Evaluation:
    """Measure what every map of the predicted class must pass, whatever its purpose. The head must be exact.

    - `rank_correlation@LAYER` (Adebayo et al. 2018, cascading randomization): Spearman's correlation of the map with
      that of a copy of the network whose layers are randomized from the logits down to LAYER, at last `all`. It must
      fall; the baselines ignore the network and stay at 1. All `stages` copies are held in memory.
    - `equivariance_error` and `equivariance_correlation`: see `compare_moved`; the image is moved by one stride of the
      grid within the input, edge values filling the gap.
    - `completeness_error` and the largest of it: how far the `logit` maps are from adding up to the class score.
    """
    classifier.exact_head("The sanity benchmark")
    states = dict(randomized(classifier, stages, seed))
    errors: list[float] = []

    def measure(picture: Picture) -> list[Sample]:
        image = load(picture)
        result = forward_image(classifier, image, fit)
        class_idx, *others = resolve([TopClasses(2)], result.logits)
        request = MapRequest(str(picture.name), image, (class_idx,))
        stride = y, x = max(1, round(result.grid.stride[0])), max(1, round(result.grid.stride[1]))

        def heats(state: Classifier, request: MapRequest, fit: Fit | None) -> dict[str, Heat]:
            methods = [*evidence_methods(state, kinds, fit=fit, against=next(iter(others), None)), *baselines(seed)]
            return {method.name: method.heats(request)[class_idx] for method in methods}

        def cells(state: Classifier) -> dict[str, NDArray[np.float64]]:
            """Read the heat of each method at one pixel of the input for each cell."""
            of_method = heats(state, request, fit).items()
            return {name: heat_on_input(heat, result.frame)[y // 2 :: y, x // 2 :: x] for name, heat in of_method}

        original = cells(classifier)
        sample: dict[str, dict[str, float]] = {name: {} for name in original}
        for layer, state in states.items():
            for name, heat in cells(state).items():
                sample[name][f"rank_correlation@{layer}"] = rank_correlation(original[name], heat)
        cam = result.class_maps([class_idx]).maps[0].cpu()
        errors.append(float(completeness_error(cam, result.bias[class_idx], result.logits[class_idx])))
        sample.setdefault("logit", {})["completeness_error"] = errors[-1]
        pixels, _ = classifier.preprocessing.resize_and_crop(image, fit)
        if any(size - by <= size // 4 for size, by in zip(pixels.shape[:2], stride, strict=True)):
            return [sample]  # too small to be moved
        view = np.broadcast_to(pixels, (*pixels.shape[:2], 3))  # gray inputs have one channel
        moved = np.pad(view[:-y, :-x], ((y, 0), (x, 0), (0, 0)), mode="edge")
        at_input = classifier.with_input_size(result.frame.input)
        here, there = (heats(at_input, replace(request, image=shown), "crop") for shown in (view, moved))
        for name in here:
            error, correlation = compare_moved(here[name], there[name], stride)
            sample[name] |= {"equivariance_error": error, "equivariance_correlation": correlation}
        return [sample]

    items = [(str(picture.path), picture) for picture in pictures]
    settings = {"stages": stages, "fit": fit or classifier.preprocessing.fit}
    evaluation = run_benchmark("sanity", classifier.name, items, measure, settings, seed=seed, progress=progress)
    row = Row("logit", "largest_completeness_error", max(errors), math.nan, math.nan, len(errors))  # no average
    return replace(evaluation, rows=(*evaluation.rows, row))


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Correlate the ranks of two maps (Spearman 1904): -1 to 1, and 0 if one is constant and has no ranks."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second, axis=None).statistic)


def compare_moved(here: NDArray[np.floating], there: NDArray[np.floating], stride: Size) -> tuple[float, float]:
    """Compare a map (H, W) with that of the image moved by `stride` (y, x) pixels down and right.

    After moving it back, over the middle half of rows and columns: mean abs(difference) / mean abs(here), and the rank
    correlation.
    """
    middle = tuple(slice(size // 4, min(3 * size // 4, size - by)) for size, by in zip(here.shape, stride, strict=True))
    here, there = here[middle], np.roll(there, (-stride[0], -stride[1]), (0, 1))[middle]
    return float(np.abs(there - here).mean() / (np.abs(here).mean() or 1)), rank_correlation(here, there)


def randomized(classifier: Classifier, stages: int, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """Randomize copies of a network layer after layer, from the logits to the input (Adebayo et al. 2018).

    Yields `stages` states, evenly spaced among the layers: the name of the last layer randomized, at the end "all", and
    a classifier of that network with a newly found head. Raises HeadError if it has no exact head.
    """
    shape = classifier.preprocessing.input_shape
    device, dtype = device_and_dtype(classifier.network)
    network = eval_copy(classifier.network, shape).to(device)
    layers = layers_from_logits(network, random_inputs(1, shape).to(device, dtype))
    ends = np.unique(np.rint(np.linspace(1, len(layers), stages)).astype(int)).tolist()
    for start, end in pairwise([0, *ends]):
        for index in range(start, end):
            randomize(network.get_submodule(layers[index]), seed + index)
        state = copy_network(network)
        head = find_head(state, shape).exact().to(device)
        name = "all" if end == len(layers) else layers[end - 1]
        yield name, replace(classifier, network=state, head=head, engine=None)


def layers_from_logits(network: nn.Module, inputs: Tensor) -> list[str]:
    """Name the modules with parameters themselves, the last to start first; those that do not run come last."""
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if hasattr(module, "reset_parameters") or next(module.parameters(recurse=False), None) is not None
    ]
    started: list[str] = []
    handles = [module.register_forward_pre_hook(lambda *_, name=name: started.append(name)) for name, module in layers]
    with eval_mode(network):
        network(inputs)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys([*reversed(started), *(name for name, _ in layers)]))


def randomize(layer: nn.Module, seed: int) -> None:
    """Initialize a layer again, in place, without changing the caller's random state.

    Parameters without `reset_parameters` are drawn from a normal distribution of their mean and standard deviation.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
            return
        for parameter in layer.parameters(recurse=False):
            parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
