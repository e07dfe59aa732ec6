"""From what the network made of a picture to the explanations that were asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers import Classifier
from cam.errors import ModelError
from cam.evidence import channel_maps, margins, posteriors
from cam.explanation import Channel, Explanation, Rival
from cam.passes import Pass
from cam.question import Question
from cam.targets import OneClass, Target, TopClasses, resolve
from cam.views import View, average


def answer(
    classifier: Classifier,
    image: NDArray[np.uint8],
    targets: Sequence[Target],
    passes: tuple[Pass, Sequence[Pass]],
    question: Question,
) -> list[Explanation]:
    """Read the maps of one picture off the passes over it.

    Args:
        classifier: that made the passes.
        image: (H, W, 3) uint8 RGB.
        targets: the classes wanted.
        passes: the one at the model's own input size, which gives the logits, and those that maps come from, the
            finest first.
        question: what is asked.

    Returns:
        One explanation a class, in the order of the targets.

    Raises:
        UsageError: a class that the classifier does not have.
        ModelError: the maps do not add up, or a class would be set against itself.
    """
    own, views = passes
    map_logits = torch.stack([view.logits for view in views]).mean(0).tolist()

    def rival_of(class_idx: int) -> Rival:
        other = _other(class_idx, question.against, own.logits, classifier.labels)
        bias = float(own.head.bias[other])
        return Rival(other, classifier.labels[other], float(own.logits[other]), bias, map_logits[other])

    def explanation(class_idx: int) -> Explanation:
        rival = rival_of(class_idx) if question.evidence == "contrast" else None
        channels = _top_channels(views, class_idx, question.channels)
        cam, evidence, *parts = _average(classifier, views, class_idx, rival, channels, question)
        return Explanation(
            class_idx,
            classifier.labels[class_idx],
            logit=float(own.logits[class_idx]),
            probability=float(own.probabilities[class_idx]),
            bias=float(own.head.bias[class_idx]),
            cam=cam,
            map=evidence,
            grid=views[0].grid,
            frame=views[0].frame,
            image=image,
            map_logit=map_logits[class_idx],
            evidence=question.evidence,
            rival=rival,
            channels=tuple(Channel(k, float(part.mean()), part) for k, part in zip(channels, parts, strict=True)),
            dead=not any(view.features.any() for view in views),
        )

    return [explanation(class_idx) for class_idx in resolve(targets, own.logits)]


def _other(class_idx: int, against: int | None, logits: Tensor, labels: Sequence[str]) -> int:
    """The class to contrast with: the one asked for, else the one with the largest logit among the others."""
    if against is None:
        best = resolve([TopClasses(2)], logits)
        return best[best[0] == class_idx]
    (other,) = resolve([OneClass(against)], logits)
    if other == class_idx:
        found = f"{labels[other]!r} is the class of this picture and would be set against itself"
        raise ModelError(found, "Name another class with --target or --against")
    return other


def _top_channels(views: Sequence[Pass], class_idx: int, count: int) -> list[int]:
    """Channels with the largest w_k * mean f_k, averaged over the views, the largest first; none that has no weight."""
    if count == 0:
        return []
    weights = [view.row(class_idx) for view in views]
    pooled = [view.features.to(row.dtype).mean((1, 2)) for view, row in zip(views, weights, strict=True)]
    shares = torch.stack([row * mean for row, mean in zip(weights, pooled, strict=True)]).mean(0)
    ranked: list[int] = shares.argsort(descending=True, stable=True).tolist()
    return [channel for channel in ranked if weights[0][channel] != 0][:count]


def _average(
    classifier: Classifier,
    views: Sequence[Pass],
    class_idx: int,
    rival: Rival | None,
    channels: Sequence[int],
    question: Question,
) -> NDArray[np.float32]:
    """The class activation map, the map of the evidence asked for and those of channels, (2 + channels, h, w)."""
    seen = []
    for view in views:
        cam = view.cams([class_idx])
        evidence = _evidence(classifier, view, class_idx, cam, rival, question)
        parts = channel_maps(view.features[channels], view.row(class_idx)[channels])
        maps = torch.cat([cam, evidence, parts]).float().cpu().numpy()
        seen.append(View(maps, view.grid, view.frame, view.mirrored))
    additive = [True, question.evidence in ("logit", "contrast"), *[True] * len(channels)]
    return average(seen, additive)


def _evidence(
    classifier: Classifier, view: Pass, class_idx: int, cam: Tensor, rival: Rival | None, question: Question
) -> Tensor:
    """The map (1, h, w) of one kind of evidence from one view."""
    if rival is not None:
        return cam - view.cams([rival.class_idx])
    if question.evidence == "margin":
        return margins(view.features, view.weight, [class_idx])
    if question.evidence == "posterior":
        bias = view.head.bias
        return posteriors(view.features, view.weight, bias, [class_idx], classifier.probabilities)
    return cam
