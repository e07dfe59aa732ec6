"""From what the network made of a picture to the explanations that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.all_classes import AllClasses
from cam.classifiers import Classifier
from cam.errors import ModelError
from cam.evidence import channel_maps, margins, posteriors
from cam.evidence_file import evidence_file
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
    classes = _asked_for(targets, own.logits, question, classifier.labels)
    contrast = question.evidence == "contrast"
    others = [_other(class_idx, question.against, own.logits) for class_idx in classes] if contrast else []
    channels = [_top_channels(views, class_idx, question.channels) for class_idx in classes]
    seen = [_maps(classifier, view, classes, others, channels, question) for view in views]
    additive = np.ones(len(seen[0].maps), bool)
    additive[len(classes) : 2 * len(classes)] = question.evidence in ("logit", "contrast")
    cams, evidence, parts = np.split(average(seen, additive), [len(classes), 2 * len(classes)])
    parts_of_class = np.split(parts, np.cumsum([len(some) for some in channels])[:-1])
    map_logits = torch.stack([view.logits for view in views]).mean(0)
    report = _report(own, views[0], image) if question.report else b""

    def score(class_idx: int) -> dict[str, Any]:
        values = {"logit": own.logits, "bias": own.bias, "map_logit": map_logits}
        named = {name: float(value[class_idx]) for name, value in values.items()}
        return {"class_idx": class_idx, "label": classifier.labels[class_idx], **named}

    return [
        Explanation(
            **score(class_idx),
            probability=float(own.probabilities[class_idx]),
            cam=cams[n],
            map=evidence[n],
            grid=views[0].grid,
            frame=views[0].frame,
            image=image,
            evidence=question.evidence,
            rival=Rival(**score(others[n])) if contrast else None,
            channels=tuple(Channel(k, float(m.mean()), m) for k, m in zip(channels[n], parts_of_class[n], strict=True)),
            dead=all(view.dead for view in views),
            report=report,
        )
        for n, class_idx in enumerate(classes)
    ]


def _report(own: Pass, view: Pass, image: NDArray[np.uint8]) -> bytes:
    weight = None if view.weight is None else view.head.weight
    scores = own.logits, own.probabilities, view.logits, view.bias
    evidence = AllClasses(*scores, features=view.features, weight=weight, scale=view.scale)
    return evidence_file(evidence, image, view.grid, view.frame)


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
) -> View:
    """From one view: the T class activation maps, the T maps of the evidence asked for, and those of the channels."""
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
    maps = torch.cat([cams, evidence, *parts]).float().cpu()  # the one wait for the device
    view.prove(maps[: len(classes)], classes)
    return View(maps.numpy(), view.grid, view.frame, view.mirrored)
