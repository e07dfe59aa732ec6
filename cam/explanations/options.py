"""What to explain: options and target classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, get_args

from torch import Tensor

from cam.classifiers.labels import find_class
from cam.classifiers.preprocessing import Fit, Preprocessing
from cam.errors import UsageError
from cam.maps.evidence import Evidence

_LARGEST = 4096  # pixels along the shorter side: a larger input fills any memory


@dataclass(frozen=True)
class ExplainOptions:
    """What is asked of every picture.

    Attributes:
        evidence: "logit", the class's own evidence; "contrast", over one other class; "margin", over the best other
            class of each place; "posterior", the class's probability by each place alone.
        against: the other class of a contrast; None for the runner-up, the other class with the largest logit.
        fit: "crop" looks at the center the model was evaluated on, "whole" at all of the picture at the same scale;
            the model's own by default.
        resolution: shorter side of the input that maps are taken from, pixels; the model's own by default. Logits
            are always those of the model's own.
        tta: whether maps are averaged over larger and mirrored inputs (test-time augmentation).
        channels: how many channels are told, those with the largest shares of the logit.

    Raises:
        UsageError: what cannot be asked.
    """

    evidence: Evidence = "logit"
    against: int | None = None
    fit: Fit | None = None
    resolution: int | None = None
    tta: bool = False
    channels: int = 0

    def __post_init__(self) -> None:
        if self.evidence not in get_args(Evidence):
            raise UsageError(f"There is no evidence {self.evidence!r}", f"Give one of {', '.join(get_args(Evidence))}")
        if self.fit not in (None, *get_args(Fit)):
            raise UsageError(f"There is no fit {self.fit!r}", f"Give one of {', '.join(get_args(Fit))}")
        if self.against is not None and self.evidence != "contrast":
            found = f"Evidence of the kind {self.evidence!r} is not against class {self.against} alone"
            raise UsageError(found, "Ask for the kind 'contrast' to set one class against another")
        if self.resolution is not None and not (isinstance(self.resolution, int) and 1 <= self.resolution <= _LARGEST):
            found = f"A resolution of {self.resolution!r} cannot be had"
            raise UsageError(found, f"Give a whole number of pixels from 1 to {_LARGEST}")
        if self.channels < 0:
            raise UsageError(f"{self.channels} channels cannot be told", "Give 0 or more")


def parse_resolution(text: str | None, preprocessing: Preprocessing) -> int | None:
    """Understand a resolution: pixels, or a factor of the model's own input.

    Args:
        text: such as "448" or "2x".
        preprocessing: the model's own.

    Example:
        >>> parse_resolution("2x", Preprocessing(256, (224, 224)))
        448
    """
    if text is None:
        return None
    return round(float(text[:-1]) * min(preprocessing.crop)) if text.endswith("x") else int(text)


# Digits are limited because Python refuses to turn thousands of them into a number.
TOP = re.compile(r"top([0-9]{1,18})", re.IGNORECASE)

INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class TopClasses:
    """The `count` classes with the largest logits, or all classes if there are fewer."""

    count: int


@dataclass(frozen=True)
class OneClass:
    """The class with index `class_idx`, counted from 0."""

    class_idx: int


Target: TypeAlias = TopClasses | OneClass


def parse_target(text: str, labels: Sequence[str] | None) -> Target:
    """Understand `top1`, `topN`, a class index or a label; of these the first that fits.

    Args:
        text: what the user typed; the case of letters does not count.
        labels: label of every class, or None where they are not known: only indices and `topN` then.

    Raises:
        UsageError: `top0`, an index out of range that is no label either, an unknown or an ambiguous label.

    Example:
        >>> parse_target("top5", None).count, parse_target("dog", ["cat", "dog"]).class_idx
        (5, 1)
    """
    text = text.strip()
    if top := TOP.fullmatch(text):
        if int(top[1]) == 0:
            raise UsageError(f"{text!r} asks for no class", "Ask for top1 or more")
        return TopClasses(int(top[1]))
    if INTEGER.fullmatch(text):
        return OneClass(_index(int(text), labels))
    if labels is None:
        raise UsageError(
            f"The labels of the model are not known, so {text!r} cannot be looked up",
            "Give them with --labels, or give the class index",
        )
    return OneClass(find_class(labels, text))


def parse_against(text: str | None, labels: Sequence[str] | None) -> int | None:
    """Understand the class to contrast with: `runner-up` (also when nothing is given), a class index or a label.

    Returns:
        The class index; None for the runner-up.

    Raises:
        UsageError: an index out of range, an unknown or an ambiguous label, or several classes.

    Example:
        >>> parse_against("dog", ["cat", "dog"])
        1
    """
    if text is None or text.strip().lower() == "runner-up":
        return None
    target = parse_target(text, labels)
    if isinstance(target, TopClasses):
        raise UsageError(f"{text!r} is not one class to contrast with", "Give runner-up, a class index or a label")
    return target.class_idx


def _index(number: int, labels: Sequence[str] | None) -> int:
    if number >= 0 and (labels is None or number < len(labels)):
        return number
    if labels is None:
        raise UsageError(f"{number} is not a class index", "Count classes from 0")
    if str(number) in labels:
        return find_class(labels, str(number))
    raise _out_of_range(number, len(labels))


def _out_of_range(number: int, classes: int) -> UsageError:
    return UsageError(f"There is no class {number} among {classes}", f"Give an index from 0 to {classes - 1}")


def resolve(targets: Iterable[Target], logits: Tensor) -> list[int]:
    """The classes that targets come to on one picture.

    Args:
        targets: in the order in which the maps are wanted.
        logits: (C,) scores of all classes of one picture, any float dtype and device; of equal ones the lower
            index counts as the larger.

    Returns:
        Class indices in the order of the targets, the largest logit first within one, each index once.

    Raises:
        UsageError: an index that the C classes do not have.

    Example:
        >>> import torch
        >>> resolve([OneClass(2), TopClasses(2)], torch.tensor([0.5, 3.0, 2.0]))
        [2, 1]
    """
    ranked = logits.argsort(descending=True, stable=True)
    wanted: dict[int, None] = {}
    for target in targets:
        if isinstance(target, TopClasses):
            wanted.update(dict.fromkeys(ranked[: target.count].tolist()))
        elif 0 <= target.class_idx < len(ranked):
            wanted[target.class_idx] = None
        else:
            raise _out_of_range(target.class_idx, len(ranked))
    return list(wanted)
