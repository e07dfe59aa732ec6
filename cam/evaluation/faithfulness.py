"""Faithfulness: does the class score rest on the pixels that a map calls important?

All of it happens on the network's input: what a map says of a pixel there is its heat at the place of the photograph
where that pixel's center lies, the same for every method, wherever its heat comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.errors import UsageError
from cam.evaluation.methods import MapRequest, Method
from cam.evaluation.statistics import Evaluation, Row, collect_errors, some_measured
from cam.images.find import Picture
from cam.images.io import MAX_PIXELS
from cam.images.read import Limits, read_picture
from cam.maps.geometry import Frame
from cam.tensors import device_and_dtype

METRICS = (
    "insertion_blur",
    "deletion_blur",
    "insertion_mean",
    "deletion_mean",
    "average_drop",
    "increase_in_confidence",
)

_BLUR = 0.05  # deviation of the blur, shares of the input's shorter side: 11 pixels of 224


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
    progress: Callable[[Picture], None] = lambda picture: None,
) -> Evaluation:
    """Measure how the probability of the predicted class follows the heat.

    Insertion and deletion (Petsiuk et al. 2018, RISE): the input's pixels, hottest first, appear in a baseline or
    vanish into it, and the metric is the area under the probability of the class over the share of pixels, 0 to 1:
    high is good for insertion, low for deletion. `_blur` and `_mean` name the baseline: the picture blurred, or the
    channel means, which are 0 once normalized. Average drop and increase in confidence (Chattopadhyay et al. 2018,
    Grad-CAM++), both in %: the input is multiplied by the positive heat, as a share of its maximum; how much of the
    probability is lost, and of how many pictures it grows.

    Pixels taken away here and there spoil a picture sooner than the same number in one place, whatever they show: a
    low deletion of `uniform` says that, and no more. Compare smooth maps with `gaussian`.

    Args:
        classifier: from `load_classifier` or `wrap`.
        pictures: from `find_pictures`.
        methods: whose heat is measured.
        seed: of the order of pixels with equal heat, and of the bootstrap.
        steps: of each curve, evenly spaced; one more probabilities than that.
        batch_size: inputs in one forward pass; no more of them are held.
        fit: "crop" or "whole"; the model's own by default.
        max_pixels: larger pictures are refused.
        progress: called with each picture once it is done with.

    Returns:
        A row a method and metric; `failed` tells of pictures that cannot be read or run.

    Raises:
        UsageError: an argument that cannot be right, or no picture could be measured.
    """
    if steps < 1 or batch_size < 1:
        raise UsageError(f"{steps} steps in batches of {batch_size} measure nothing", "Give 1 or more of each")
    samples: list[list[list[float]]] = []
    failed: dict[str, str] = {}
    for picture in pictures:
        with collect_errors(failed, picture):
            image = read_picture(picture, Limits(max_pixels)).image
            trial = _Trial.of(classifier, image, fit, batch_size)
            asked = MapRequest(str(picture.name), image, (trial.class_idx,))
            heats = [method.heats(asked) for method in methods]
            samples.append([trial.score(heat, steps, np.random.default_rng(seed)) for (heat,) in heats])
        progress(picture)
    some_measured(samples, failed)
    measured = np.array(samples).reshape(len(samples), len(methods), len(METRICS))
    rows = tuple(
        Row.of(method.name, metric, measured[:, i, j], seed=seed)
        for i, method in enumerate(methods)
        for j, metric in enumerate(METRICS)
    )
    settings = {"steps": steps, "fit": fit or classifier.preprocessing.fit, "blur": _BLUR}
    return Evaluation("faithfulness", classifier.name, seed, len(samples), settings, rows, failed)


def on_input(heat: NDArray[np.floating], frame: Frame) -> NDArray[np.float64]:
    """Read the heat of a photograph at the pixels of the network's input, linear between the photograph's pixels.

    Args:
        heat: (H, W) of the photograph, any unit; not a number where nothing was seen.
        frame: where the input lies in the photograph.

    Returns:
        (h, w) of the input, in the heat's unit; not a number where nothing was seen, the edge's value outside the
        photograph.

    Example:
        >>> heat = np.array([[0.0, 4.0]])
        >>> on_input(heat, Frame((1, 2), (2, 4), (0, 0), (2, 4)))[0].tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    x0, y0, x1, y1 = frame.seen
    first, last = frame.to_photo((0, 0)), frame.to_photo((frame.input[0] - 1, frame.input[1] - 1))
    ys, xs = (np.linspace(first[axis], last[axis], frame.input[axis]) for axis in (0, 1))
    places = np.meshgrid(ys - y0, xs - x0, indexing="ij")
    seen = heat[y0:y1, x0:x1].astype(np.float64)
    read: NDArray[np.float64] = ndimage.map_coordinates(seen, places, order=1, mode="nearest")
    return read


def ranks(heat: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.int64]:
    """Number pixels from the hottest, 0, to the coldest; those that nothing was seen of come last.

    Pixels of equal heat come in random order: a map that does not tell them apart must not be measured by where in
    the picture they lie, so that a constant map is as good as chance.

    Args:
        heat: (h, w), any unit; not a number where nothing was seen.
        rng: decides between equals.

    Returns:
        (h, w), each of 0 to h * w - 1 once.

    Example:
        >>> ranks(np.array([[1.0, np.nan], [3.0, 2.0]]), np.random.default_rng(0)).tolist()
        [[2, 3], [0, 1]]
    """
    cold = -np.where(np.isnan(heat), -np.inf, heat).ravel()
    numbers = np.empty(heat.size, np.int64)
    numbers[np.lexsort((rng.random(heat.size), cold))] = np.arange(heat.size)
    return numbers.reshape(heat.shape)


def positive_share(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale heat to what its positive part is of its maximum: 0 to 1, all 0 where nothing is positive.

    Example:
        >>> positive_share(np.array([[-1.0, 2.0], [4.0, np.nan]])).tolist()
        [[0.0, 0.5], [1.0, 0.0]]
    """
    positive = np.maximum(np.nan_to_num(heat.astype(np.float64)), 0)
    return positive / (positive.max() or 1)


def drop(before: float, after: float) -> float:
    """Say how much of a probability is lost, in %; a gain counts as 0 (Chattopadhyay et al. 2018, section 5.1).

    Example:
        >>> drop(0.5, 0.25), drop(0.5, 0.9)
        (50.0, 0.0)
    """
    return 100 * max(0.0, 1 - after / before)


def area(shares: NDArray[np.floating], probabilities: NDArray[np.floating]) -> float:
    """Take the area under a curve by the trapezoid rule.

    Example:
        >>> area(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
        0.75
    """
    return float(np.trapezoid(probabilities, shares))


@dataclass(frozen=True)
class _Trial:
    """A picture as the network sees it, and the class whose probability is followed.

    Attributes:
        classifier: gives the probability.
        frame: where the input lies in the photograph.
        inputs: (channels, H, W), normalized, on the network's device.
        blurred: the same without its detail.
        class_idx: the predicted class.
        probability: of the class, in [0, 1].
        batch_size: inputs in one forward pass.
    """

    classifier: Classifier
    frame: Frame
    inputs: Tensor
    blurred: Tensor
    class_idx: int
    probability: float
    batch_size: int

    @classmethod
    def of(cls, classifier: Classifier, image: NDArray[np.uint8], fit: Fit | None, batch_size: int) -> _Trial:
        inputs, frame = classifier.preprocessing.prepare(image, fit)
        deviation = _BLUR * min(frame.input)
        blurred = torch.from_numpy(ndimage.gaussian_filter(inputs.numpy(), (0, deviation, deviation), mode="nearest"))
        probabilities = classifier.probabilities(classifier.forward(inputs[None])[0])[0]
        class_idx = int(probabilities.argmax())
        device, _ = device_and_dtype(classifier.network)
        views = inputs.to(device), blurred.to(device)
        return cls(classifier, frame, *views, class_idx, float(probabilities[class_idx]), batch_size)

    def score(self, heat: NDArray[np.floating], steps: int, rng: np.random.Generator) -> list[float]:
        """Play both games with a photograph's heat: the values of `METRICS`, in their order."""
        heat = on_input(heat, self.frame)
        counts = np.rint(np.linspace(0, heat.size, steps + 1)).astype(np.int64)
        order = torch.from_numpy(ranks(heat, rng)).to(self.inputs.device)
        areas = [
            area(counts / heat.size, self.curve(start, end, order, counts))
            for baseline in (self.blurred, torch.zeros_like(self.inputs))
            for start, end in ((baseline, self.inputs), (self.inputs, baseline))
        ]
        masked = self.inputs * torch.from_numpy(positive_share(heat)).to(self.inputs)
        after = float(self.probabilities(masked[None]))
        return [*areas, drop(self.probability, after), 100.0 * (after > self.probability)]

    def curve(self, start: Tensor, end: Tensor, order: Tensor, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities while ever more pixels, in their order, turn from `start` into `end`."""
        parts = [
            self.probabilities(torch.where(order < some[:, None, None, None], end, start))
            for some in torch.split(torch.from_numpy(counts).to(order.device), self.batch_size)
        ]
        return torch.cat(parts).double().numpy()

    def probabilities(self, inputs: Tensor) -> Tensor:
        """The class's probability for each of (N, channels, H, W): (N,) float32, on the CPU."""
        logits, _, _ = self.classifier.forward(inputs)
        return self.classifier.probabilities(logits)[:, self.class_idx].cpu()
