"""Sanity: do maps depend on what the network has learned, add up to the class score, and move with the picture?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit, Preprocessing
from cam.errors import UsageError
from cam.evaluation.faithfulness import on_input
from cam.evaluation.methods import MapRequest, Method, evidence_of, gaussian, uniform
from cam.evaluation.statistics import Evaluation, Row, collect_errors, some_measured
from cam.explanations.options import ExplainOptions, TopClasses, resolve
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.find import find_head
from cam.heads.hooks import eval_mode
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.images.read import Limits, read_picture
from cam.maps.activation import class_activation_maps, completeness_error
from cam.maps.evidence import Evidence
from cam.maps.geometry import Frame, Size
from cam.tensors import device_and_dtype


def evaluate_sanity(
    classifier: Classifier,
    pictures: Sequence[Picture],
    kinds: Sequence[Evidence],
    *,
    seed: int = 0,
    stages: int = 5,
    fit: Fit | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[Picture], None] = lambda picture: None,
) -> Evaluation:
    """Measure what every map must pass, whatever it is for; the class is the predicted one.

    - `rank_correlation@LAYER` (Adebayo et al. 2018, cascading randomization): Spearman's correlation of the map with
      that of a copy of the network whose layers are randomized from the logits down to LAYER, at last `all`. It must
      fall; a constant map has no ranks and counts as 0. The baselines do not look at the network and stay at 1.
    - `equivariance_error` and `equivariance_correlation`: the picture is moved down and right by one stride of the
      grid within the input, edge values filling the gap, and the map moved back; see `compare_moved`.
    - `completeness_error` and the largest of it: how far the `logit` maps are from adding up to the class score.

    Args:
        classifier: from `load_classifier` or `wrap`; it is left as it is.
        pictures: from `find_pictures`.
        kinds: of evidence, measured beside the baselines.
        seed: of the new weights, the baselines and the bootstrap.
        stages: how many states of the network between the logits and the input are looked at; all are held.
        fit: "crop" or "whole"; the model's own by default.
        max_pixels: larger pictures are refused.
        progress: called with each picture once it is done with.

    Returns:
        A row a method and metric; `failed` tells of pictures that cannot be read or run.

    Raises:
        UsageError: an argument that cannot be right, or no picture could be measured.
        HeadError: a randomized network has no exact head.
    """
    if stages < 2:
        raise UsageError(f"{stages} stages do not lead from the logits to the input", "Give 2 or more")
    states = dict(randomized(classifier, stages, seed))
    samples: list[list[list[float]]] = []
    errors: list[float] = []
    failed: dict[str, str] = {}
    for picture in pictures:
        with collect_errors(failed, picture):
            image = read_picture(picture, Limits(max_pixels)).image
            trial = _Trial.of(classifier, str(picture.name), image, fit)
            before, *later = (trial.cells(kinds, state, seed) for state in (classifier, *states.values()))
            fallen = [list(map(rank_correlation, before, after)) for after in later]
            samples.append([*fallen, *trial.moved(kinds, classifier, seed)])
            errors.append(trial.completeness_error)
        progress(picture)
    some_measured(samples, failed)
    metrics = [*(f"rank_correlation@{layer}" for layer in states), "equivariance_error", "equivariance_correlation"]
    names = [*kinds, "gaussian", "uniform"]
    measured = np.array(samples).reshape(len(samples), len(metrics), len(names))
    rows = [
        Row.of(name, metric, measured[:, i, j], seed=seed)
        for j, name in enumerate(names)
        for i, metric in enumerate(metrics)
    ]
    rows.append(Row.of("logit", "completeness_error", np.array(errors), seed=seed))
    largest = max(errors)  # of these pictures: a maximum has no interval
    rows.append(Row("logit", "largest_completeness_error", largest, largest, largest, len(errors)))
    settings = {"stages": stages, "fit": fit or classifier.preprocessing.fit}
    return Evaluation("sanity", classifier.name, seed, len(samples), settings, tuple(rows), failed)


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Correlate the ranks of two maps (Spearman 1904): -1 to 1, and 0 where one is constant and has no ranks.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([3.0, 4.0, 5.0]))
        1.0
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second, axis=None).statistic)


def compare_moved(here: NDArray[np.floating], there: NDArray[np.floating], stride: Size) -> tuple[float, float]:
    """Compare a map with that of the picture moved down and right, over the middle half of rows and columns.

    Args:
        here: (H, W), any unit.
        there: (H, W), in the same unit.
        stride: (y, x) by which the picture was moved, pixels.

    Returns:
        mean abs(difference) / mean abs(here) and the rank correlation, once moved back.

    Example:
        >>> here = np.arange(64.0).reshape(8, 8)
        >>> compare_moved(here, np.roll(here, (1, 2), (0, 1)), (1, 2))
        (0.0, 1.0)
    """
    middle = tuple(slice(size // 4, min(3 * size // 4, size - by)) for size, by in zip(here.shape, stride, strict=True))
    here, there = here[middle], np.roll(there, (-stride[0], -stride[1]), (0, 1))[middle]
    return float(np.abs(there - here).mean() / (np.abs(here).mean() or 1)), rank_correlation(here, there)


@dataclass(frozen=True)
class _Trial:
    """A picture under test.

    Attributes:
        asked: the photograph and its predicted class.
        runner_up: the class that a contrast sets it against, whatever the network becomes.
        fit: how the network looks at the photograph.
        frame: where the network's input lies in it.
        view: the input as a picture, (H, W, 3) uint8.
        stride: (y, x) from cell to cell, whole pixels of the input.
        completeness_error: of the class's map, no unit.
    """

    asked: MapRequest
    runner_up: int
    fit: Fit | None
    frame: Frame
    view: NDArray[np.uint8]
    stride: Size
    completeness_error: float

    @classmethod
    def of(cls, classifier: Classifier, name: str, image: NDArray[np.uint8], fit: Fit | None) -> _Trial:
        inputs, frame = classifier.preprocessing.prepare(image, fit)
        logits, features, head = classifier.forward(inputs[None])
        first, second = resolve([TopClasses(2)], logits[0])
        cams = class_activation_maps(features, head.scales(features, logits) * head.weight[first, None])
        error = completeness_error(cams[0, 0], head.bias[first], logits[0, first])
        grid = classifier.grid_for((features.shape[2], features.shape[3]), frame.input)
        stride = max(1, round(grid.stride[0])), max(1, round(grid.stride[1]))
        view = _picture(inputs, classifier.preprocessing)
        return cls(MapRequest(name, image, (first,)), second, fit, frame, view, stride, float(error))

    def cells(self, kinds: Sequence[Evidence], classifier: Classifier, seed: int) -> list[NDArray[np.float64]]:
        """For each method, its heat at one pixel a cell."""
        y, x = self.stride
        methods = self._methods(kinds, classifier, self.fit, seed)
        heats = (method.heats(self.asked) for method in methods)
        return [on_input(heat, self.frame)[y // 2 :: y, x // 2 :: x] for (heat,) in heats]

    def moved(self, kinds: Sequence[Evidence], classifier: Classifier, seed: int) -> list[list[float]]:
        """Errors, and correlations, of the methods after a move of the input by one stride."""
        y, x = self.stride
        shifted = np.pad(self.view[:-y, :-x], ((y, 0), (x, 0), (0, 0)), mode="edge")
        pair = [replace(self.asked, image=image) for image in (self.view, shifted)]
        methods = self._methods(kinds, classifier.with_input_size(self.frame.input), "crop", seed)
        heats = ([method.heats(each) for method in methods] for each in pair)
        compared = [compare_moved(here, there, self.stride) for (here,), (there,) in zip(*heats, strict=True)]
        return [list(values) for values in zip(*compared, strict=True)]

    def _methods(self, kinds: Sequence[Evidence], classifier: Classifier, fit: Fit | None, seed: int) -> list[Method]:
        questions = [ExplainOptions(kind, self.runner_up if kind == "contrast" else None, fit) for kind in kinds]
        return [*evidence_of(classifier, questions), gaussian(), uniform(seed)]


def _picture(inputs: Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Undo the normalization of (channels, H, W)."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    pixels = (255 * (inputs * std + mean)).round().to(torch.uint8)
    return pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def randomized(classifier: Classifier, stages: int, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """Forget what a network has learned, layer after layer from the logits to the input (Adebayo et al. 2018).

    Layers are modules with parameters of their own, in the order in which they run; those that do not run by
    themselves come last. A layer is set to how it is initialized, its running statistics too, by its
    `reset_parameters`; without one, its parameters are drawn from a normal distribution of their own mean and
    deviation.

    Args:
        classifier: it is left as it is.
        stages: how many states to give, evenly spaced among the layers.
        seed: of the new parameters.

    Returns:
        Name of the last layer randomized, "all" in the end, and a classifier of a copy of the network with a head
        found anew.

    Raises:
        HeadError: that network has no exact head.

    Example:
        >>> from cam.classifiers.load import wrap
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> [layer for layer, _ in randomized(wrap(network, input_size=16), 2)]
        ['3', 'all']
    """
    shape = classifier.preprocessing.input_shape
    device, dtype = device_and_dtype(classifier.network)
    network = eval_copy(classifier.network, shape).to(device)
    layers = layers_from_logits(network, random_inputs(1, shape).to(device, dtype))
    ends = np.unique(np.rint(np.linspace(1, len(layers), stages)).astype(int)).tolist()
    for start, end in pairwise([0, *ends]):
        for index in range(start, end):
            randomize(network.get_submodule(layers[index]), seed + index)
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
    with eval_mode(network):
        network(inputs)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys([*reversed(started), *(name for name, _ in layers)]))


def randomize(layer: nn.Module, seed: int) -> None:
    """Draw a layer's own parameters anew, in place; the caller's random numbers go on as if nothing had happened.

    Example:
        >>> layer = nn.BatchNorm2d(1)
        >>> _ = layer.running_mean.fill_(5)
        >>> randomize(layer, 0)
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
