"""What is wanted of one picture, and its maps, which the device is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.errors import ModelError
from cam.explanations.explanation import Channel, Explanation, Rival
from cam.explanations.forward import ForwardResult, Result, sound
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses, resolve
from cam.maps.activation import AllClasses
from cam.maps.evidence import channel_maps, margins, posteriors
from cam.maps.projection import View, average_views
from cam.tensors import fetch


@dataclass(frozen=True)
class ComputedMaps:
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

    own: ForwardResult
    views: Sequence[ForwardResult]
    classes: list[int]
    others: list[int]
    channels: list[list[int]]
    maps: list[Tensor]


def compute_maps(
    classifier: Classifier, targets: Sequence[Target], own: Result, views: Sequence[Result], options: ExplainOptions
) -> ComputedMaps:
    """Say what is wanted of one picture, and ask the device for the maps, without waiting for it.

    Args:
        classifier: that made the passes.
        targets: the classes wanted.
        own: as in `ComputedMaps`, or what went wrong with it.
        views: likewise.
        options: what is asked.

    Raises:
        UsageError: a class that the classifier does not have.
        ModelError: what went wrong with a pass, or a class would be set against itself.
    """
    first, seen, contrast = sound(own), [sound(view) for view in views], options.evidence == "contrast"
    classes = _asked_for(targets, first.logits, options, classifier.labels)
    others = [_other(class_idx, options.against, first.logits) for class_idx in classes] if contrast else []
    channels = [_top_channels(seen, class_idx, options.channels) for class_idx in classes]
    maps = [_maps(classifier, view, classes, others, channels, options) for view in seen]
    return ComputedMaps(first, seen, classes, others, channels, maps)


def _asked_for(targets: Sequence[Target], logits: Tensor, options: ExplainOptions, labels: Sequence[str]) -> list[int]:
    """The classes, without the one that the others are set against."""
    classes = resolve(targets, logits)
    if options.against is None:
        return classes
    (other,) = resolve([OneClass(options.against)], logits)
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


def _top_channels(views: Sequence[ForwardResult], class_idx: int, count: int) -> list[int]:
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
    view: ForwardResult,
    classes: Sequence[int],
    others: Sequence[int],
    channels: Sequence[Sequence[int]],
    options: ExplainOptions,
) -> Tensor:
    cams = view.cams(classes)
    evidence = cams
    if options.evidence == "contrast":
        evidence = cams - view.cams(others)
    elif options.evidence == "margin":
        evidence = margins(view.features, view.weight, classes)
    elif options.evidence == "posterior":
        evidence = posteriors(view.features, view.weight, view.head.bias, classes, classifier.probabilities)
    parts = [
        channel_maps(torch.stack([view.features[k] for k in some]), torch.stack([view.row(class_idx)[k] for k in some]))
        for class_idx, some in zip(classes, channels, strict=True)
        if some
    ]
    return fetch(torch.cat([cams, evidence, *parts]).float())


def build_explanations(
    classifier: Classifier, image: NDArray[np.uint8], computed: ComputedMaps, options: ExplainOptions
) -> list[Explanation]:
    """Read the explanations of one picture off its maps, once these have come from the device.

    Args:
        classifier: that made the passes.
        image: (H, W, 3) uint8 RGB.
        computed: from `compute_maps`.
        options: what is asked.

    Returns:
        One explanation a class, in the order of the targets.

    Raises:
        ModelError: the maps do not add up.
    """
    own, views, classes, channels = computed.own, computed.views, computed.classes, computed.channels
    seen = []
    for view, maps in zip(views, computed.maps, strict=True):
        view.prove(maps[: len(classes)], classes)
        copy = maps.numpy().copy()  # what was fetched from a GPU lies in memory that is dear
        seen.append(View(copy, view.grid, view.frame, view.mirrored))
    additive = np.ones(len(seen[0].maps), bool)
    additive[len(classes) : 2 * len(classes)] = options.evidence in ("logit", "contrast")
    cams, evidence, parts = np.split(average_views(seen, additive), [len(classes), 2 * len(classes)])
    parts_of_class = np.split(parts, np.cumsum([len(some) for some in channels])[:-1])
    map_logits = torch.stack([view.logits for view in views]).mean(0)

    def score(class_idx: int) -> dict[str, Any]:
        values = {"logit": own.logits, "bias": own.bias, "map_logit": map_logits}
        named = {name: float(value[class_idx]) for name, value in values.items()}
        return {"class_idx": class_idx, "label": classifier.labels[class_idx], **named}

    return [
        Explanation(
            **score(class_idx),
            probability=float(own.probabilities[class_idx]),
            cam=cams[n],
            evidence_map=evidence[n],
            grid=views[0].grid,
            frame=views[0].frame,
            image=image,
            evidence=options.evidence,
            rival=Rival(**score(computed.others[n])) if computed.others else None,
            channels=tuple(Channel(k, float(m.mean()), m) for k, m in zip(channels[n], parts_of_class[n], strict=True)),
            dead=all(view.dead for view in views),
        )
        for n, class_idx in enumerate(classes)
    ]


def all_classes_of(computed: ComputedMaps) -> AllClasses:
    """Give what the maps of all classes of one image are computed from, on the grid of the finest view."""
    own, view = computed.own, computed.views[0]
    weight = None if view.weight is None else view.head.weight
    scores = own.logits, own.probabilities, view.logits, view.bias
    return AllClasses(*scores, features=view.features, weight=weight, scale=view.scale)
