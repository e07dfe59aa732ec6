"""What is asked of every picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, get_args

from cam.errors import UsageError
from cam.evidence import Evidence
from cam.preprocessing import Fit, Preprocessing

_LARGEST = 4096  # pixels along the shorter side: a larger input fills any memory


@dataclass(frozen=True)
class Question:
    """What is asked of every picture.

    Attributes:
        evidence: "logit", the class's own evidence; "contrast", over one other class; "margin", over the best other
            class of each place; "posterior", the class's probability by each place alone.
        against: the other class of a contrast; None for the runner-up, the other class with the largest logit.
        fit: "crop" looks at the centre the model was evaluated on, "whole" at all of the picture at the same scale;
            the model's own by default.
        resolution: shorter side of the input that maps are taken from, pixels; the model's own by default. Logits
            are always those of the model's own.
        tta: whether maps are averaged over larger and mirrored inputs (test-time augmentation).
        channels: how many channels are told, those with the largest shares of the logit.
        report: whether what a report needs of a picture is made too.

    Raises:
        UsageError: what cannot be asked.
    """

    evidence: Evidence = "logit"
    against: int | None = None
    fit: Fit | None = None
    resolution: int | None = None
    tta: bool = False
    channels: int = 0
    report: bool = False

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
        if self.report and self.tta:
            found = "Averages over several inputs are not computed in a report"
            raise UsageError(found, "Leave --tta or --report away; --resolution 2x gives finer maps from one input")


class QuestionArguments(TypedDict, total=False):
    """A question in keyword arguments."""

    evidence: Evidence
    against: int | None
    fit: Fit | None
    resolution: int | None
    tta: bool
    channels: int


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
