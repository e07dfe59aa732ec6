"""One image after one forward pass: any class, and any place, when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cam.classifiers.classifier import Classifier
from cam.classifiers.preprocessing import Fit
from cam.explanations.compute import build_explanations, compute_maps
from cam.explanations.explain import as_classifier, make_options, select
from cam.explanations.explanation import Explanation
from cam.explanations.forward import ForwardResult, result_or_raise, run_forward
from cam.explanations.options import ClassTarget, OneClass, TopClasses, parse_targets, resolve
from cam.heads.general import GeneralHead
from cam.images.io import ImageLike, to_image
from cam.maps.evidence import Evidence
from cam.maps.projection import matmul, value_at
from cam.tensors import device_and_dtype, synchronize

_COMPARED = 5  # classes at a place, of a head whose maps take runs of the network


class Exploration:
    """One image under one classifier; what is explained comes from the same forward pass, and is kept.

    Attributes:
        classifier: the classifier.
        image: (H, W, channels) uint8.
        logits: (C,) float32.
        probabilities: (C,) float32, in [0, 1]; NaN where the scores are values.
        ranked: indices of all classes, the largest logit first.
    """

    def __init__(self, classifier: Classifier, image: NDArray[np.uint8], forward: ForwardResult) -> None:
        self.classifier, self.image, self._forward = classifier, image, forward
        self.logits: NDArray[np.float32] = forward.logits.numpy()
        self.probabilities: NDArray[np.float32] = forward.probabilities.numpy()
        self.ranked = resolve([TopClasses(len(self.logits))], forward.logits)
        self._explained: dict[tuple[Evidence, int | None, int], Explanation] = {}

    def explain(
        self,
        target: ClassTarget | Sequence[ClassTarget] | None = None,
        *,
        evidence: Evidence = "logit",
        against: int | str | None = None,
    ) -> Any:
        """Explain the score of one class or of several; arguments, result and errors are those of `cam.explain`."""
        options = make_options(self.classifier, evidence, against, None, None, False, 0)
        targets = parse_targets(target, self.classifier.labels)
        classes, key = resolve(targets, self._forward.logits), (evidence, options.against)
        missing = [OneClass(c) for c in classes if (*key, c) not in self._explained]
        if len(classes) > 1:  # a contrast with itself is left out
            missing = [one for one in missing if one.class_idx != options.against]
        if missing:
            (computed,) = compute_maps(self.classifier, [missing], [self._forward], [[self._forward]], options)
            synchronize(device_and_dtype(self.classifier.network)[0])
            for explanation in build_explanations(self.classifier, self.image, result_or_raise(computed), options):
                self._explained[(*key, explanation.class_idx)] = explanation
        explanations = [self._explained[(*key, c)] for c in classes if (*key, c) in self._explained]
        return select(target, targets, explanations, self._forward.logits)

    def evidence_at(self, y: int, x: int, also: Sequence[int] = ()) -> dict[int, float]:
        """Compare the classes at one pixel of the photograph: what each of them gets there, in logits.

        Args:
            y: row.
            x: column.
            also: indices of classes to compare with the five with the largest logits, where a map takes runs of the
                network's head; else all classes are compared.

        Returns:
            The value of each class's heat at the pixel, the largest first; NaN where the network saw nothing.

        Example:
            >>> import cam
            >>> exploration = explore(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
            >>> len(exploration.evidence_at(32, 48))
            10
        """
        forward = self._forward
        is_linear = not isinstance(forward.head, GeneralHead)
        compared = self.ranked if is_linear else list(dict.fromkeys([*self.ranked[:_COMPARED], *also]))
        # First the features of the place, then the head: in this order it is fast.
        maps = (
            forward.features.float().cpu().numpy() if is_linear else np.stack([e.cam for e in self.explain(compared)])
        )
        values = value_at(maps, forward.grid, forward.frame, (y, x))
        if forward.weight is not None:
            values = matmul(forward.weight[compared].float().cpu().numpy(), values)
        elif is_linear:  # the features are the maps of all classes
            values = values[compared]
        ranked = np.argsort(-values, kind="stable")
        return {compared[index]: float(values[index]) for index in ranked}


def explore(classifier: Classifier | nn.Module, photo: ImageLike, *, fit: Fit | None = None) -> Exploration:
    """Run a classifier once on a photograph, to explain any class later without another forward pass.

    Args:
        classifier: from `load_classifier` or `wrap`.
        photo: a file, its content, a Pillow image, or (H, W, 3) uint8 or float in [0, 1], as for `explain`.
        fit: "crop", "whole" or "stretch"; None for the model's own.

    Raises:
        ImageError: the file cannot be read as an image.
        UsageError: an argument is wrong.
        ModelError: the network does not run on the image, or its scores are not finite.

    Example:
        >>> import cam
        >>> exploration = explore(cam.load_classifier("digits"), np.zeros((64, 96, 3), np.uint8))
        >>> [exploration.explain(label, evidence="margin").label for label in ("3", "7")]
        ['3', '7']
    """
    classifier = as_classifier(classifier)
    make_options(classifier, "logit", None, fit, None, False, 0)  # checks fit
    taken = classifier.preprocessing.input_shape[0]
    image = to_image(photo, 3 if taken == 1 else taken)
    classifier.preprocessing.check_channels(image.shape[2])
    (forward,) = run_forward(classifier, [image], classifier.preprocessing, fit)
    return Exploration(classifier, image, result_or_raise(forward))
