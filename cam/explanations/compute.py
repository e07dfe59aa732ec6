"""The maps of one image: computed on the device first, then read as explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.errors import ModelError
from cam.explanations.explanation import Channel, Explanation, OtherClass
from cam.explanations.forward import (
    FAILURES,
    ForwardResult,
    Results,
    as_model_error,
    class_maps,
    result_or_raise,
)
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses, resolve
from cam.heads.general import ClassMaps, GeneralHead
from cam.heads.head import Head
from cam.maps.activation import AllClasses
from cam.maps.evidence import channel_maps, margins, posteriors
from cam.maps.projection import View, average_views
from cam.tensors import to_cpu


class _Chosen(NamedTuple):
    """What to compute of one image."""

    native: ForwardResult
    views: list[ForwardResult]
    classes: list[int]
    contrast_classes: list[int]


@dataclass(frozen=True)
class ComputedMaps:
    """The maps of one image, on their way from the device.

    The maps of each view are (M, h, w) float32 on the CPU: T class activation maps, T maps of the evidence, and the
    maps of the channels. They and `channels` are complete only after `synchronize`.
    """

    native: ForwardResult  # at the model's own input size; gives the logits
    views: Sequence[ForwardResult]  # give the maps, the finest first
    classes: list[int]  # the T classes to explain, in order
    contrast_classes: list[int]  # the class that each of them is contrasted with; empty for other kinds of evidence
    channels: list[Tensor]  # of each class, the channels to show; -1 for those without a part in the score
    maps: list[Tensor]
    bases: list[Tensor]  # of each view (2T,): of each class, then of those that they are contrasted with
    runs: int  # of the head: nodes of integrated gradients, or permutations of Shapley values
    sampling_error: float  # standard error of Shapley values, as a share of their size

    def all_classes(self) -> AllClasses:
        """Return what the maps of all classes are computed from, on the grid of the finest view."""
        view, head = self.views[0], self.views[0].head
        scores = self.native.logits, self.native.probabilities, view.logits, view.bias
        if isinstance(head, GeneralHead):
            return AllClasses(*scores, features=view.features, weight=None, maps_of=view.class_maps)
        weight = None if view.weight is None else head.weight
        return AllClasses(*scores, features=view.features, weight=weight, scale=view.scale)


def compute_maps(
    classifier: Classifier,
    targets: Sequence[Sequence[Target]],
    native: Results,
    views: Sequence[Results],
    options: ExplainOptions,
) -> list[ComputedMaps | ModelError]:
    """Start to compute the maps of a batch, without waiting for the device; for the arguments see `ComputedMaps`."""
    computed: dict[int, ComputedMaps | ModelError] = {}
    chosen: dict[int, _Chosen] = {}
    for index, (image_targets, *results) in enumerate(zip(targets, native, *views, strict=True)):
        try:
            of_native, *of_views = [result_or_raise(result) for result in results]
            chosen[index] = _Chosen(of_native, of_views, *_choose(classifier, image_targets, of_native, options))
        except FAILURES as error:
            computed[index] = as_model_error(error)
    classes = [[*image.classes, *image.contrast_classes] for image in chosen.values()]
    found = [class_maps([image.views[view] for image in chosen.values()], classes) for view in range(len(views))]
    for (index, image), *of_image in zip(chosen.items(), *found, strict=True):
        try:
            maps = [result_or_raise(of_view) for of_view in of_image]
            computed[index] = _compute_evidence(classifier, image, maps, options)
        except FAILURES as error:
            computed[index] = as_model_error(error)
    return [computed[index] for index in range(len(targets))]


def _choose(
    classifier: Classifier, targets: Sequence[Target], native: ForwardResult, options: ExplainOptions
) -> tuple[list[int], list[int]]:
    """The classes of one image to explain, and those that they are contrasted with."""
    classes, contrast_classes = resolve(targets, native.logits), []
    if options.against is not None:
        (other,) = resolve([OneClass(options.against)], native.logits)
        if classes == [other]:
            problem = f"{classifier.labels[other]!r} is the class of this image and would be contrasted with itself"
            raise ModelError(problem, "Choose another class with --target or --against")
        classes = [class_idx for class_idx in classes if class_idx != other]
        contrast_classes = [other] * len(classes)
    elif options.evidence == "contrast":
        best, second = resolve([TopClasses(2)], native.logits)
        runners_up = [second if class_idx == best else best for class_idx in classes]
        expected = options.expect
        contrast_classes = [
            runner_up if expected in (None, class_idx) else expected
            for class_idx, runner_up in zip(classes, runners_up, strict=True)
        ]
    return classes, contrast_classes


def _compute_evidence(
    classifier: Classifier, image: _Chosen, maps_of_views: Sequence[ClassMaps], options: ExplainOptions
) -> ComputedMaps:
    """Compute the maps of one image from its class activation maps of each view."""
    native, views, classes, contrast_classes = image.native, image.views, image.classes, image.contrast_classes
    heads = [view.head for view in views if isinstance(view.head, Head)]
    ranked: dict[int, Tensor] = {}
    if options.channels and heads:
        ranked = {c: _top_channels(views, heads, c, options.channels) for c in classes}
    maps, bases, runs, sampling_error = [], [], 0, 0.0
    for view, found in zip(views, maps_of_views, strict=True):
        cams, others = found.maps[: len(classes)], found.maps[len(classes) :]
        parts = [cams, cams - others if contrast_classes else _evidence(view, cams, classes, classifier, options)]
        for class_idx, order in ranked.items():
            parts.append(channel_maps(view.features[order], view.row(heads[0], class_idx)[order]))
        maps.append(to_cpu(torch.cat(parts).float()))
        bases.append(found.base.cpu())  # where it is, for an exact head
        runs, sampling_error = max(runs, found.runs), max(sampling_error, found.sampling_error)
    channels = [to_cpu(torch.where(heads[0].weight[c][order] != 0, order, -1)) for c, order in ranked.items()]
    return ComputedMaps(native, views, classes, contrast_classes, channels, maps, bases, runs, sampling_error)


def _evidence(
    view: ForwardResult, cams: Tensor, classes: Sequence[int], classifier: Classifier, options: ExplainOptions
) -> Tensor:
    """The maps (T, h, w) of the evidence that compares no two classes."""
    if options.evidence == "margin":
        return margins(view.features, view.weight, classes)
    if options.evidence == "posterior":
        bias = classifier.exact_head("--evidence posterior").bias
        return posteriors(view.features, view.weight, bias, classes, classifier.probabilities)
    return cams


def _top_channels(views: Sequence[ForwardResult], heads: Sequence[Head], class_idx: int, count: int) -> Tensor:
    """Rank channels by their shares w_k * mean f_k, averaged over the views, on the device; those of weight 0 last."""
    rows = [view.row(head, class_idx) for view, head in zip(views, heads, strict=True)]
    shares = [row * view.features.to(row.dtype).mean((1, 2)) for row, view in zip(rows, views, strict=True)]
    ranked = torch.where(rows[0] != 0, torch.stack(shares).mean(0), -torch.inf).argsort(descending=True, stable=True)
    return ranked[:count]


def to_draw_on(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take three channels of an image (H, W, channels)."""
    return image if image.shape[2] == 3 else image[..., [0, 1, 2] if image.shape[2] > 3 else [0, 0, 0]]


def build_explanations(
    classifier: Classifier, image: NDArray[np.uint8], computed: ComputedMaps, options: ExplainOptions
) -> list[Explanation]:
    """Turn the maps of one image, (H, W, channels) uint8, into explanations, once the device is done.

    Raises ModelError if the maps do not add up to the class scores.
    """
    native, results, classes = computed.native, computed.views, computed.classes
    image = to_draw_on(image)
    views = []
    for result, fetched, base in zip(results, computed.maps, computed.bases, strict=True):
        count = len(classes)
        result.check_completeness(fetched[:count], base[:count], classes, classifier.preprocessing.crop)
        maps = fetched.numpy().copy()  # pinned memory is scarce
        views.append(View(maps, result.grid, result.frame, result.mirrored))
    additive = np.ones(len(views[0].maps), bool)
    additive[len(classes) : 2 * len(classes)] = options.evidence in ("logit", "contrast")
    cams, evidence, parts = np.split(average_views(views, additive), [len(classes), 2 * len(classes)])
    parts_of_class = np.split(parts, len(classes)) if computed.channels else []
    bases = np.mean([base.numpy() for base in computed.bases], 0).tolist()
    head, labels = results[0].head, classifier.labels

    def scores(c: int, base: float) -> OtherClass:
        map_logit = np.mean([result.logits[c].item() for result in results])
        return OtherClass(c, labels[c], native.logits[c].item(), base, float(map_logit))

    others = [scores(c, bases[len(classes) + n]) for n, c in enumerate(computed.contrast_classes)]
    explanations = []
    for n, class_idx in enumerate(classes):
        channels = zip(computed.channels[n].tolist(), parts_of_class[n], strict=True) if computed.channels else ()
        explanation = Explanation(
            **vars(scores(class_idx, bases[n])),
            probability=None if classifier.activation == "none" else float(native.probabilities[class_idx]),
            cam=cams[n],
            evidence_map=evidence[n],
            evidence=options.evidence,
            grid=results[0].grid,
            frame=results[0].frame,
            image=image,
            against=others[n] if others else None,
            channels=tuple(Channel(index, float(part.mean()), part) for index, part in channels if index >= 0),
            zero_features=all(result.zero_features for result in results),
            method=head.method,
            runs=computed.runs,
            sampling_error=computed.sampling_error,
        )
        explanations.append(explanation)
    return explanations
