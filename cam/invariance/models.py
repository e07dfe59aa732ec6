"""The networks that can be measured: classifiers with an exact map, and all others by their scores only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import BaseClassifier, Classifier
from cam.classifiers.labels import name_classes
from cam.classifiers.load import load_network, make_classifier
from cam.errors import CamError, HeadError, ModelError
from cam.explanations.forward import result_or_raise, run_forward
from cam.heads.hooks import eval_mode
from cam.heads.outputs import find_logits
from cam.tensors import device_and_dtype, pick_device


@dataclass(frozen=True)
class ScoreOnlyClassifier(BaseClassifier):
    """A classifier without an exact map: only its scores can be measured."""

    reason: str  # why it has no exact map

    def forward(self, inputs: Tensor) -> Tensor:
        """Give logits (N, C) float32 on the CPU for normalized inputs (N, channels, H, W); one logit z is (-z, z)."""
        try:
            with eval_mode(self.network):
                logits = find_logits(self.network(inputs.to(*device_and_dtype(self.network)))).float().cpu()
        except CamError:
            raise
        except Exception as error:  # a network may raise anything
            raise ModelError(
                f"{self.name!r} does not run on inputs of shape {tuple(inputs.shape)}: {error}",
                "Give a --canvas of the size it was made for, or a smaller --batch-size",
            ) from error
        return torch.cat((-logits, logits), 1) if self.binary else logits


Model: TypeAlias = Classifier | ScoreOnlyClassifier


class ImageScores(NamedTuple):
    """Scores of one image, and the map of one class."""

    logits: NDArray[np.float32]  # (C,)
    probabilities: NDArray[np.float32]  # (C,)
    cam: NDArray[np.float32] | None = None  # (h, w), logit units


def load_any_classifier(
    model: str, *, labels: Sequence[str] | None = None, device: str = "auto", **loading: Any
) -> Model:
    """Load a network with the arguments of `load_classifier`, even if it has no exact map."""
    torch_device = pick_device(device)
    loaded = load_network(model, **loading)
    try:
        classifier = make_classifier(model, loaded, labels)
    except HeadError as error:
        network = loaded.network.to(torch_device)
        scorer = ScoreOnlyClassifier(model, network, loaded.preprocessing, (), error.found, weights=loaded.weights)
        classes = scorer.forward(torch.zeros(1, *loaded.preprocessing.input_shape)).shape[1]
        return replace(scorer, binary=classes == 1, labels=name_classes(labels, loaded.labels, classes))
    return classifier.to(torch_device)


def score_images(model: Model, images: Sequence[NDArray[np.uint8]], class_idx: int | None = None) -> list[ImageScores]:
    """Run a network once on images (H, W, 3) of one input size, with the map of `class_idx` if there is an exact one.

    Raises:
        ModelError: the network does not run, its scores are not finite, or a map does not add up to its score.
    """
    if isinstance(model, Classifier):
        scores = []
        for result in map(result_or_raise, run_forward(model, images, model.preprocessing)):
            cam = None
            if class_idx is not None:
                cams = result.cams([class_idx]).float().cpu()
                result.check_completeness(cams, [class_idx])
                cam = cams[0].numpy()
            scores.append(ImageScores(result.logits.numpy(), result.probabilities.numpy(), cam))
        return scores
    logits = model.forward(torch.stack([model.preprocessing.prepare(image)[0] for image in images]))
    if not logits.isfinite().all():
        raise ModelError(f"The class scores of {model.name!r} are not finite", "Check its weights")
    probabilities = model.probabilities(logits)
    return [ImageScores(*rows) for rows in zip(logits.numpy(), probabilities.numpy(), strict=True)]
