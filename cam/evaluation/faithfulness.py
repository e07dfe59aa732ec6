"""The faithfulness benchmark: does the class score depend on the pixels that a map calls important?

All of it happens on the network's input: the importance of a pixel is the heat where it lies in the photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.evaluation.benchmark import Evaluation, Progress, Sample, run_benchmark
from cam.evaluation.methods import Load, MapRequest, Method, load_image
from cam.images.find import Picture
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
    load: Load = load_image,
    progress: Progress = None,
) -> Evaluation:
    """Measure how the probability of the predicted class follows the heat.

    - `insertion` and `deletion` (Petsiuk et al. 2018, RISE): the input's pixels, the highest heat first, appear in a
      baseline or vanish into it. The metric is the area under the probability of the class over the share of pixels, 0
      to 1; high is good for insertion, low for deletion. `_blur` and `_mean` name the baseline: the blurred image, or
      the channel means, which are 0 once normalized.
    - `average_drop` and `increase_in_confidence` (Chattopadhyay et al. 2018, Grad-CAM++), in %: the input is multiplied
      by the positive heat, as a share of its maximum; how much of the probability is lost, and whether it grows.
    """
    classifier.check_probabilities("The faithfulness benchmark")
    device = device_and_dtype(classifier.network)[0]

    def measure(picture: Picture) -> list[Sample]:
        image = load(picture)
        inputs, frame = classifier.preprocessing.prepare(image, fit)
        sigma = _BLUR * min(frame.input)
        blurred = torch.from_numpy(ndimage.gaussian_filter(inputs.numpy(), (0, sigma, sigma), mode="nearest"))
        inputs, blurred = inputs.to(device), blurred.to(device)
        probabilities = classifier.probabilities(classifier.forward(inputs[None])[0])[0].cpu()
        class_idx = int(probabilities.argmax())

        def probability(batch: Tensor) -> Tensor:
            return classifier.probabilities(classifier.forward(batch)[0])[:, class_idx].cpu()

        request = MapRequest(str(picture.name), image, (class_idx,))
        sample = {}
        for method in methods:
            heat = heat_on_input(method.heats(request)[class_idx], frame)
            order = torch.from_numpy(ranks(heat, np.random.default_rng(seed))).to(device)
            scores = curve_areas(probability, inputs, blurred, order, steps, batch_size)
            positive = np.maximum(np.nan_to_num(heat), 0)
            masked = inputs * torch.from_numpy(positive / (positive.max() or 1)).to(inputs)
            before, after = float(probabilities[class_idx]), float(probability(masked[None]))
            scores["average_drop"] = 100 * max(0.0, 1 - after / before) if before else 0.0
            scores["increase_in_confidence"] = 100.0 * (after > before)
            sample[method.name] = scores
        return [sample]

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
    return np.asarray(ndimage.map_coordinates(seen, positions, order=1, mode="nearest"))


def ranks(heat: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.int64]:
    """Number the pixels (h, w) from the highest heat, 0, to the lowest; pixels with NaN come last.

    Equal pixels come in random order, so that a constant map scores like chance, wherever the object is.
    """
    cold = -np.where(np.isnan(heat), -np.inf, heat).ravel()
    numbers = np.empty(heat.size, np.int64)
    numbers[np.lexsort((rng.random(heat.size), cold))] = np.arange(heat.size)
    return numbers.reshape(heat.shape)


def curve_areas(
    probability: Callable[[Tensor], Tensor], inputs: Tensor, blurred: Tensor, order: Tensor, steps: int, batch_size: int
) -> dict[str, float]:
    """Compute the areas under the insertion and deletion curves of an input (channels, H, W).

    `probability` maps (N, channels, H, W) to (N,) on the CPU; `order` are the `ranks` (H, W) of the pixels.
    """
    counts = torch.linspace(0, order.numel(), steps + 1, dtype=torch.float64).round()
    areas = {}
    for name, baseline in {"blur": blurred, "mean": torch.zeros_like(inputs)}.items():
        for metric, start, end in (("insertion", baseline, inputs), ("deletion", inputs, baseline)):
            curve = [
                probability(torch.where(order < batch[:, None, None, None], end, start))
                for batch in torch.split(counts.to(order.device), batch_size)
            ]
            areas[f"{metric}_{name}"] = float(torch.trapezoid(torch.cat(curve).double(), counts / order.numel()))
    return areas
