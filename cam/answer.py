"""From what the network made of a picture to the explanations that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cam.all_classes import AllClasses
from cam.classifiers import Classifier
from cam.evidence_file import evidence_file
from cam.explanation import Channel, Explanation, Rival
from cam.passes import Pass
from cam.question import Question
from cam.views import View, average
from cam.wanted import Wanted


def answer(classifier: Classifier, image: NDArray[np.uint8], wanted: Wanted, question: Question) -> list[Explanation]:
    """Read the explanations of one picture off its maps, once these have come from the device.

    Args:
        classifier: that made the passes.
        image: (H, W, 3) uint8 RGB.
        wanted: from `wanted_of`.
        question: what is asked.

    Returns:
        One explanation a class, in the order of the targets.

    Raises:
        ModelError: the maps do not add up.
    """
    own, views, classes, channels = wanted.own, wanted.views, wanted.classes, wanted.channels
    seen = []
    for view, maps in zip(views, wanted.maps, strict=True):
        view.prove(maps[: len(classes)], classes)
        copy = maps.numpy().copy()  # what was fetched from a GPU lies in memory that is dear
        seen.append(View(copy, view.grid, view.frame, view.mirrored))
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
            rival=Rival(**score(wanted.others[n])) if wanted.others else None,
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
