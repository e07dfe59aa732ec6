"""What the page shows of a picture under a model, as data for JSON: page.js makes the page of it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.explanations.explanation import Explanation
from cam.explanations.explore import Exploration
from cam.explanations.texts import legend_texts
from cam.images.io import encode
from cam.maps.evidence import Evidence

_TOP = 5  # classes side by side, and at a place
_THUMBNAIL = 240  # longer side of the first classes, pixels


@dataclass(frozen=True)
class View:
    """One class of a picture under one model, shown with the first ones."""

    model: str  # what it is called
    exploration: Exploration
    picture: NDArray[np.uint8]  # to draw on, (H, W, 3)
    target: int
    rival: int | None  # the other class of a contrast; None for the runner-up
    evidence: Evidence
    opacity: float
    first_labels: tuple[str, ...]  # those of the first model, whose class is chosen

    @cached_property
    def chosen(self) -> Explanation:
        """The explanation of the class."""
        return self._explain([self.target])[0]

    @cached_property
    def top_classes(self) -> list[Explanation]:
        """The explanations of the classes with the largest logits, without the rival."""
        return self._explain([c for c in self.exploration.ranked[: _TOP + 1] if c != self.rival][:_TOP])

    def _explain(self, classes: list[int]) -> list[Explanation]:
        return list(self.exploration.explain(classes, evidence=self.evidence, against=self.rival))

    @cached_property
    def vmax(self) -> float:
        """The end of the color scale: the largest evidence of the first classes and the chosen one."""
        return max(explanation.vmax for explanation in (self.chosen, *self.top_classes))

    def to_dict(self, y: int, x: int) -> dict[str, Any]:
        """The overlay with its texts, and the numbers at a pixel of the photograph."""
        overlay = self.chosen.overlay(image=self.picture, vmax=self.vmax, opacity=self.opacity, legend=True)
        (height, width), texts = overlay.shape[:2], legend_texts(self.chosen, self.vmax)
        photo_height = width * len(self.picture) / self.picture.shape[1]
        return {
            "model": self.model,
            "title": f"{texts['title']}: {texts['details'].replace('   ', ', ')}",
            "notes": list(filter(None, texts["notes"])),
            "assumed": self.exploration.classifier.notes,
            "overlay": _url("image/jpeg", encode(overlay, ".jpg")),
            "ratio": width / height,
            "photo_share": photo_height / height,  # the rest is the legend
            "photo": self.chosen.frame.photo,
            "place": (y, x),
            "evidence": self._evidence_at(y, x),
            "top_classes": self._list_top_classes(),
        }

    def _evidence_at(self, y: int, x: int) -> list[tuple[str, str, bool]]:
        """Names, values, and True for what is drawn, of the classes with the most evidence and of the chosen ones."""
        labels, chosen = self.exploration.classifier.labels, [c for c in (self.target, self.rival) if c is not None]
        here, values = self.chosen.heat_at(y, x), self.exploration.evidence_at(y, x, chosen)
        shown = {*list(values)[:_TOP], *chosen}
        rows = [(labels[c], f"{value:+.2f}", c == self.target) for c, value in values.items() if c in shown]
        if self.evidence != "logit":
            text = _percent(here) if self.evidence == "posterior" else f"{here:+.2f}"
            rows.insert(0, (f"{self.chosen.title}: {self.evidence}", text, True))
        return [] if isnan(here) else rows

    def _list_top_classes(self) -> list[dict[str, Any]]:
        """What to write on each, and the `target` that chooses it; None for one that the first model does not have."""
        labels, first_labels = self.exploration.classifier.labels, self.first_labels
        listed = []
        for top in self.top_classes:
            label, score = top.label, f"{top.logit:.2f}" if top.probability is None else _percent(top.probability)
            same = top.class_idx if labels == first_labels else None
            if same is None and label in first_labels:
                same = first_labels.index(label)
            one = {"name": str(top.class_idx), "label": label, "score": score, "chosen": top.class_idx == self.target}
            listed.append(one | {"target": None if same is None else names_of(first_labels)[same]})
        return listed

    def draw(self, name: str) -> dict[str, Any]:
        """The first classes, drawn, and the numbers of the chosen and the first classes, for files of that name."""
        overlays = (top.overlay(image=self.picture, vmax=self.vmax, max_side=_THUMBNAIL) for top in self.top_classes)
        urls = [_url("image/jpeg", encode(overlay, ".jpg")) for overlay in overlays]
        record = {"image": name, "size": self.chosen.frame.photo, "model": self.model}
        others = [top for top in self.top_classes if top.class_idx != self.target]
        record |= {"targets": [explanation.to_dict() for explanation in (self.chosen, *others)]}
        return {
            "top_classes": [top | {"overlay": url} for top, url in zip(self._list_top_classes(), urls, strict=True)],
            "numbers": _url("application/json", json.dumps(record, indent=2).encode()),
            "stem": re.sub(r"[^\w.-]+", "-", f"{Path(name).stem}-{self.model}-class{self.target}"),
        }


@lru_cache
def names_of(labels: tuple[str, ...]) -> tuple[str, ...]:
    """What names each class in a control: its label, or its index if the label names no class or another one."""
    counts = Counter(label.casefold() for label in labels)
    names = []
    for class_idx, label in enumerate(labels):
        is_plain = counts[label.casefold()] == 1 and not re.fullmatch(r"\s*(top|-)?[0-9]+\s*", label, re.IGNORECASE)
        names.append(label if is_plain or label == str(class_idx) else str(class_idx))
    return tuple(names)


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"
