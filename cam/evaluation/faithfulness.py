"""The faithfulness benchmark: does the class score depend on the pixels that a map calls important?

All of it happens on the network's input: the importance of its pixels is the heat at the position in the photograph of
their centers, the same for every method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.errors import UsageError
from cam.evaluation.benchmark import Evaluation, Progress, Sample, ignore, run_benchmark
from cam.evaluation.methods import Image, MapRequest, Method, load_image
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.maps.geometry import Frame
from cam.tensors import device_and_dtype

_BLUR = 0.05  # standard deviation as a share of the input's shorter side: 11 pixels of 224


def evaluate_faithfulness(
    classifier: Classifier,
    pictures: Sequence[Picture],
    methods: Sequence[Method],
    *,
    seed: int = 0,
    steps: int = 50,
    batch_size: int = 32,
    fit: Fit | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = ignore,
) -> Evaluation:
    """Measure how the probability of the predicted class follows the heat.

    Insertion and deletion (Petsiuk et al. 2018, RISE): the input's pixels, those with the highest heat first, appear in
    a baseline or vanish into it. The metric is the area under the probability of the class over the share of pixels, 0
    to 1; high is good for insertion, low for deletion. `_blur` and `_mean` name the baseline: the blurred image, or the
    channel means, which are 0 once normalized. Average drop and increase in confidence (Chattopadhyay et al. 2018,
    Grad-CAM++), both in %: the input is multiplied by the positive heat, as a share of its maximum; how much of the
    probability is lost, and for how many images it grows.

    Removing scattered pixels hurts more than removing the same number in one region, whatever they show: a low deletion
    of `uniform` means that, and no more. Compare smooth maps with `gaussian`.
    """
    if steps < 1 or batch_size < 1:
        problem = f"steps and batch_size must be 1 or more, got {steps} and {batch_size}"
        raise UsageError(problem, "Give 1 or more of each")

    def measure(picture: Picture) -> list[Sample]:
        image = load_image(picture, max_pixels)
        network_input = _Input.of(classifier, image, fit)
        request = MapRequest(str(picture.name), image, (network_input.class_idx,))
        heats = {method.name: method.heats(request)[network_input.class_idx] for method in methods}
        return [{name: network_input.score(heat, steps, batch_size, seed) for name, heat in heats.items()}]

    items = [(str(picture.path), picture) for picture in pictures]
    settings = {"steps": steps, "fit": fit or classifier.preprocessing.fit, "blur": _BLUR}
    return run_benchmark("faithfulness", classifier.name, items, measure, settings, seed=seed, progress=progress)


def heat_on_input(heat: NDArray[np.floating], frame: Frame) -> NDArray[np.float64]:
    """Interpolate the heat (H, W) of a photograph at the pixels of the network's input: (h, w).

    NaN where nothing was seen; outside the photograph the value at its edge.
    """
    x0, y0, x1, y1 = frame.seen
    first, last = frame.to_photo((0, 0)), frame.to_photo((frame.input[0] - 1, frame.input[1] - 1))
    ys, xs = (np.linspace(first[axis], last[axis], frame.input[axis]) for axis in (0, 1))
    positions = np.meshgrid(ys - y0, xs - x0, indexing="ij")
    seen = heat[y0:y1, x0:x1].astype(np.float64)
    interpolated: NDArray[np.float64] = ndimage.map_coordinates(seen, positions, order=1, mode="nearest")
    return interpolated


def ranks(heat: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.int64]:
    """Number the pixels (h, w) from the highest heat, 0, to the lowest; pixels with NaN come last.

    Equal pixels come in random order, so that a constant map scores like chance, wherever the object is.
    """
    cold = -np.where(np.isnan(heat), -np.inf, heat).ravel()
    numbers = np.empty(heat.size, np.int64)
    numbers[np.lexsort((rng.random(heat.size), cold))] = np.arange(heat.size)
    return numbers.reshape(heat.shape)


def positive_share(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Divide the positive heat by its maximum: 0 to 1, all 0 if nothing is positive."""
    positive = np.maximum(np.nan_to_num(heat.astype(np.float64)), 0)
    return positive / (positive.max() or 1)


def drop(before: float, after: float) -> float:
    """Compute the share of a probability that is lost, in %; 0 for a gain (Chattopadhyay et al. 2018, section 5.1)."""
    return 100 * max(0.0, 1 - after / before)


def area(shares: NDArray[np.floating], probabilities: NDArray[np.floating]) -> float:
    """Compute the area under a curve by the trapezoid rule."""
    return float(np.trapezoid(probabilities, shares))


@dataclass(frozen=True)
class _Input:
    """An image as the network sees it, and the class whose probability is followed."""

    classifier: Classifier
    frame: Frame
    inputs: Tensor  # (channels, H, W), normalized, on the network's device
    baselines: Mapping[str, Tensor]  # what pixels are replaced with, by name; like `inputs`
    class_idx: int  # the predicted class
    probability: float  # of the class

    @classmethod
    def of(cls, classifier: Classifier, image: Image, fit: Fit | None) -> _Input:
        inputs, frame = classifier.preprocessing.prepare(image, fit)
        sigma = _BLUR * min(frame.input)
        blurred = torch.from_numpy(ndimage.gaussian_filter(inputs.numpy(), (0, sigma, sigma), mode="nearest"))
        probabilities = classifier.probabilities(classifier.forward(inputs[None])[0])[0]
        class_idx = int(probabilities.argmax())
        inputs, blurred = (tensor.to(device_and_dtype(classifier.network)[0]) for tensor in (inputs, blurred))
        baselines = {"blur": blurred, "mean": torch.zeros_like(inputs)}
        return cls(classifier, frame, inputs, baselines, class_idx, float(probabilities[class_idx]))

    def score(self, heat: NDArray[np.floating], steps: int, batch_size: int, seed: int) -> dict[str, float]:
        """Compute all metrics of the heat (H, W) of a photograph."""
        heat = heat_on_input(heat, self.frame)
        counts = np.rint(np.linspace(0, heat.size, steps + 1)).astype(np.int64)
        order = torch.from_numpy(ranks(heat, np.random.default_rng(seed))).to(self.inputs.device)
        batches = torch.split(torch.from_numpy(counts).to(order.device), batch_size)
        scores = {}
        for name, baseline in self.baselines.items():
            for metric, start, end in (("insertion", baseline, self.inputs), ("deletion", self.inputs, baseline)):
                parts = [
                    self.probabilities(torch.where(order < batch[:, None, None, None], end, start)) for batch in batches
                ]
                scores[f"{metric}_{name}"] = area(counts / heat.size, torch.cat(parts).double().numpy())
        masked = self.inputs * torch.from_numpy(positive_share(heat)).to(self.inputs)
        after = float(self.probabilities(masked[None]))
        increase = 100.0 * (after > self.probability)
        return {**scores, "average_drop": drop(self.probability, after), "increase_in_confidence": increase}

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Compute the probability of the class for each of (N, channels, H, W): (N,) float32, on the CPU."""
        logits, _, _ = self.classifier.forward(inputs)
        return self.classifier.probabilities(logits)[:, self.class_idx].cpu()
