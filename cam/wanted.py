"""What is wanted of one picture, and its maps, which the device is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cam.classifiers import Classifier
from cam.errors import ModelError
from cam.evidence import channel_maps, margins, posteriors
from cam.passes import Pass, Result, sound
from cam.question import Question
from cam.targets import OneClass, Target, TopClasses, resolve
from cam.transfer import fetch


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one picture.

    Attributes:
        own: the pass at the model's own input size, which gives the logits.
        views: those that maps come from, the finest first.
        classes: the T classes to explain, in order.
        others: those that they are contrasted with; none for other kinds of evidence.
        channels: of each class, those to tell of.
        maps: of each view (M, h, w) float32 on the CPU, once `transfer.wait` has waited for them: the T class
            activation maps, the T maps of the evidence asked for, and those of the channels.
    """

    own: Pass
    views: Sequence[Pass]
    classes: list[int]
    others: list[int]
    channels: list[list[int]]
    maps: list[Tensor]


def wanted_of(
    classifier: Classifier, targets: Sequence[Target], own: Result, views: Sequence[Result], question: Question
) -> Wanted:
    """Say what is wanted of one picture, and ask the device for the maps, without waiting for it.

    Args:
        classifier: that made the passes.
        targets: the classes wanted.
        own: as in `Wanted`, or what went wrong with it.
        views: likewise.
        question: what is asked.

    Raises:
        UsageError: a class that the classifier does not have.
        ModelError: what went wrong with a pass, or a class would be set against itself.
    """
    first, seen, contrast = sound(own), [sound(view) for view in views], question.evidence == "contrast"
    classes = _asked_for(targets, first.logits, question, classifier.labels)
    others = [_other(class_idx, question.against, first.logits) for class_idx in classes] if contrast else []
    channels = [_top_channels(seen, class_idx, question.channels) for class_idx in classes]
    maps = [_maps(classifier, view, classes, others, channels, question) for view in seen]
    return Wanted(first, seen, classes, others, channels, maps)


def _asked_for(targets: Sequence[Target], logits: Tensor, question: Question, labels: Sequence[str]) -> list[int]:
    """The classes, without the one that the others are set against."""
    classes = resolve(targets, logits)
    if question.against is None:
        return classes
    (other,) = resolve([OneClass(question.against)], logits)
    if classes == [other]:
        found = f"{labels[other]!r} is the class of this picture and would be set against itself"
        raise ModelError(found, "Name another class with --target or --against")
    return [class_idx for class_idx in classes if class_idx != other]


def _other(class_idx: int, against: int | None, logits: Tensor) -> int:
    """The class to contrast with: the one asked for, else the one with the largest logit among the others."""
    if against is not None:
        return against
    best = resolve([TopClasses(2)], logits)
    return best[best[0] == class_idx]


def _top_channels(views: Sequence[Pass], class_idx: int, count: int) -> list[int]:
    """Channels with the largest w_k * mean f_k, averaged over the views, the largest first; none that has no weight."""
    if count == 0:
        return []
    weights = [view.row(class_idx) for view in views]
    pooled = [view.features.to(row.dtype).mean((1, 2)) for view, row in zip(views, weights, strict=True)]
    shares = torch.stack([row * mean for row, mean in zip(weights, pooled, strict=True)]).mean(0)
    ranked: list[int] = shares.argsort(descending=True, stable=True).tolist()
    there = (weights[0] != 0).tolist()
    return [channel for channel in ranked if there[channel]][:count]


def _maps(
    classifier: Classifier,
    view: Pass,
    classes: Sequence[int],
    others: Sequence[int],
    channels: Sequence[Sequence[int]],
    question: Question,
) -> Tensor:
    cams = view.cams(classes)
    evidence = cams
    if question.evidence == "contrast":
        evidence = cams - view.cams(others)
    elif question.evidence == "margin":
        evidence = margins(view.features, view.weight, classes)
    elif question.evidence == "posterior":
        evidence = posteriors(view.features, view.weight, view.head.bias, classes, classifier.probabilities)
    parts = [
        channel_maps(torch.stack([view.features[k] for k in some]), torch.stack([view.row(class_idx)[k] for k in some]))
        for class_idx, some in zip(classes, channels, strict=True)
        if some
    ]
    return fetch(torch.cat([cams, evidence, *parts]).float())
