"""What to explain, and how: target classes and options."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.labels import find_class
from cam.classifiers.preprocessing import MAX_SIDE, Fit, Preprocessing, multi_scale
from cam.classifiers.truth import class_of
from cam.errors import UsageError
from cam.maps.evidence import Evidence


@dataclass(frozen=True)
class ExplainOptions:
    """How to explain images.

    Attributes:
        evidence: "logit", the evidence for the class itself; "contrast", that over one other class; "margin", that
            over the best other class at each position; "posterior", the probability of the class at each position.
        against: index of the other class of a contrast; None for the other class with the largest logit.
        fit: "crop" for the center of the image, "whole" for all of it at the same scale, "stretch" for all of it in the
            crop's size; None for the model's own.
        resolution: shorter side, in pixels, of the input that maps come from; None is the model's own. Logits always
            come from the model's own input size.
        tta: average maps over larger and mirrored inputs (test-time augmentation).
        channels: number of channels to return, those with the largest shares of the logit.
        expect: index of the expected class: the other class of a contrast. The expected class itself is contrasted with
            the other class with the largest logit.

    Raises:
        UsageError: an option is wrong.

    Example:
        >>> ExplainOptions("contrast", against=3).evidence
        'contrast'
    """

    evidence: Evidence = "logit"
    against: int | None = None
    fit: Fit | None = None
    resolution: int | None = None
    tta: bool = False
    channels: int = 0
    expect: int | None = None

    def __post_init__(self) -> None:
        kinds, fits, sizes = get_args(Evidence), get_args(Fit), range(1, MAX_SIDE + 1)
        for name, valid, allowed in (
            ("evidence", self.evidence in kinds, f"one of {', '.join(kinds)}"),
            ("fit", self.fit in (None, *fits), f"one of {', '.join(fits)}"),
            ("resolution", self.resolution is None or self.resolution in sizes, f"from 1 to {MAX_SIDE} pixels"),
            ("channels", self.channels >= 0, "0 or more"),
        ):
            if not valid:
                problem = f"--{name} must be {allowed}, got {getattr(self, name)!r}"
                raise UsageError(problem, f"Leave --{name} out for the default")
        if self.against is not None and self.evidence != "contrast":
            problem = f"--against sets one class against another, and the evidence is {self.evidence!r}"
            raise UsageError(problem, "Add --evidence contrast, or leave --against out")

    def check(self, classifier: Classifier) -> None:
        """Raise UsageError unless the classifier's scores and channels have what is asked for."""
        preprocessing = classifier.preprocessing
        preprocessing.frame(preprocessing.crop, self.fit)
        multi_scale(preprocessing, self.resolution, self.tta)
        if self.channels and classifier.head.kind == "conv-gap":
            problem = f"--channels must be 0: {classifier.name!r} has one channel a class, with the map of the class"
            raise UsageError(problem, "Leave --channels out")
        if self.evidence in ("margin", "posterior"):
            classifier.exact_head(f"--evidence {self.evidence}")
        if self.channels:
            classifier.exact_head("--channels")
        if self.evidence == "posterior":
            classifier.check_probabilities("--evidence posterior")
        if self.evidence in ("contrast", "margin") and len(classifier.labels) == 1:
            problem = f"--evidence {self.evidence} compares classes, and {classifier.name!r} has one output"
            raise UsageError(problem, "Use --evidence logit")


def parse_resolution(text: str | None, preprocessing: Preprocessing) -> int | None:
    """Parse a resolution, "448" for pixels or "2x" for a factor of the model's own input, to pixels."""
    if text is None:
        return None
    pixels = round(float(text[:-1]) * min(preprocessing.crop)) if text.endswith("x") else int(text)
    if pixels not in range(1, MAX_SIDE + 1):
        remedy = f"For this model {MAX_SIDE // min(preprocessing.crop)}x is the largest factor"
        raise UsageError(f"--resolution must be from 1 to {MAX_SIDE} pixels, got {text}", remedy)
    return pixels


@dataclass(frozen=True)
class TopClasses:
    """The `count` classes with the largest logits, or all classes if there are fewer."""

    count: int


@dataclass(frozen=True)
class OneClass:
    """The class with index `class_idx`, counted from 0."""

    class_idx: int


@dataclass(frozen=True)
class TrueClass:
    """The true class of each image of a run."""


Target: TypeAlias = TopClasses | OneClass
ClassTarget: TypeAlias = int | str  # an index, a label, "top5" or "truth"

# Python refuses to convert thousands of digits to a number.
_TOP = re.compile(r"top([0-9]{1,18})", re.IGNORECASE)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def parse_target(text: str, labels: Sequence[str] | None, option: str = "--target") -> Target:
    """Parse `topN`, a class index or a label, of these the first that matches; without labels, no label does."""
    text = text.strip()
    if top := _TOP.fullmatch(text):
        if int(top[1]) == 0:
            raise UsageError(f"{option} must be top1 or more, got {text!r}", "Use top1 for the predicted class")
        return TopClasses(int(top[1]))
    if _INTEGER.fullmatch(text):
        index = int(text)
        if index >= 0 and (labels is None or index < len(labels)):
            return OneClass(index)
        if labels and str(index) not in labels:
            raise _index_error(index, len(labels), option)
    if labels is None:
        problem = f"The labels of the model are not known, so {text!r} cannot be looked up"
        raise UsageError(problem, "Add --labels, or use the class index")
    return OneClass(find_class(labels, text, f"{option} "))


def is_top(target: object) -> bool:
    """True for "top5" and the like."""
    return isinstance(target, str) and bool(_TOP.fullmatch(target.strip()))


def parse_targets(
    target: ClassTarget | Sequence[ClassTarget] | None, labels: Sequence[str], photo: object = None
) -> list[Target]:
    """Parse the targets of `explain`; `photo` is the file whose folder names the "truth"."""
    if target is None:
        return [TopClasses(1)]
    if isinstance(target, str):
        if target == "truth" and target not in labels:
            if not isinstance(photo, (str, Path)):
                raise UsageError('target "truth" needs a file, whose folder is its class', "Give the class")
            return [OneClass(class_of(labels, Path(photo).absolute().parent.name, "The folder "))]
        return [parse_target(target, labels, "target")]
    if np.ndim(target):
        if not len(target):  # type: ignore[arg-type]
            raise UsageError("target must name a class, got an empty list", "Leave it out for the predicted class")
        return [parsed for one in target for parsed in parse_targets(one, labels, photo)]  # type: ignore[union-attr]
    return [OneClass(index_of(target, labels, "target"))]


def index_of(value: Any, labels: Sequence[str], name: str) -> int:
    """Index of a class from a label or an index; UsageError names the argument."""
    if isinstance(value, str):
        return find_class(labels, value, f"{name} ")
    try:
        return operator.index(value)
    except TypeError:
        problem = f"{name} must be a class index or a label, got {value!r}"
        raise UsageError(problem, "Pass one of classifier.labels, or its index") from None


def parse_against(text: str | None, labels: Sequence[str] | None) -> int | None:
    """Parse the class to contrast with: None for `runner-up` (or no text), else the class of an index or a label."""
    if text is None or text.strip().lower() == "runner-up":
        return None
    return parse_class(text, labels, "--against")


def parse_class(text: str, labels: Sequence[str] | None, option: str) -> int:
    """Parse the index or the label of one class."""
    target = parse_target(text, labels, option)
    if isinstance(target, TopClasses):
        raise UsageError(f"{option} must be a class index or a label, got {text!r}", "Name one class")
    return target.class_idx


def _index_error(index: int, classes: int, option: str) -> UsageError:
    return UsageError(
        f"{option} must be from 0 to {classes - 1}, or a label, got {index}", "The first class has index 0"
    )


def resolve(targets: Iterable[Target], logits: Tensor) -> list[int]:
    """Return the class indices that targets select on one image with these logits, (C,), each once and in order.

    Within a target the largest logit is first, of equal logits the lower index.
    """
    classes: dict[int, None] = {}
    for target in targets:
        if target == TopClasses(1):  # the first of equal ones
            classes[int(logits.argmax())] = None
        elif isinstance(target, TopClasses):
            ranked = logits.argsort(descending=True, stable=True)
            classes.update(dict.fromkeys(ranked[: target.count].tolist()))
        elif 0 <= target.class_idx < len(logits):
            classes[target.class_idx] = None
        else:
            raise _index_error(target.class_idx, len(logits), "The class index")
    return list(classes)
