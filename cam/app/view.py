"""What the page shows of a picture under a model, as HTML in which all texts are escaped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from math import isnan
from pathlib import Path

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
    """One class of a picture, shown with the first ones."""

    exploration: Exploration
    picture: NDArray[np.uint8]  # to draw on, (H, W, 3)
    target: int
    against: int | None  # the other class of a contrast; None for the runner-up
    evidence: Evidence
    opacity: float

    @cached_property
    def chosen(self) -> Explanation:
        """The explanation of the class."""
        return self._explain([self.target])[0]

    @cached_property
    def firsts(self) -> list[Explanation]:
        """The explanations of the classes with the largest logits, without the rival."""
        return self._explain([c for c in self.exploration.ranked[: _TOP + 1] if c != self._rival][:_TOP])

    @property
    def _rival(self) -> int | None:
        return self.against if self.evidence == "contrast" else None

    def _explain(self, classes: list[int]) -> list[Explanation]:
        return list(self.exploration.explain(classes, evidence=self.evidence, against=self._rival))

    @cached_property
    def vmax(self) -> float:
        """The end of the color scale: the largest evidence of the first classes and the chosen one."""
        return max(explanation.vmax for explanation in (self.chosen, *self.firsts))

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """The overlay on the color scale of the first classes, with its legend below."""
        return self.chosen.overlay(image=self.picture, vmax=self.vmax, opacity=self.opacity, legend=True)

    def to_strip(self, name: str | None) -> str:
        """The first classes side by side, and links to files of that name; without it not yet drawn, in their place."""
        height, width = self.picture.shape[:2]
        buttons = [
            to_button(
                first.class_idx,
                first.overlay(image=self.picture, vmax=self.vmax, max_side=_THUMBNAIL) if name else None,
                f"<span>{escape(first.label)}<br>{_score(first)}</span>",
                f'style="--ratio: {width / height}" aria-pressed="{str(first.class_idx == self.target).lower()}"',
            )
            for first in self.firsts
        ]
        heading = f"<h2>{escape(self.exploration.classifier.name)}</h2>"
        return f'{heading}<div class="cam-strip">{"".join(buttons)}</div>{self._links(name)}'

    def to_html(self, y: int, x: int) -> str:
        """The overlay with a pixel of the photograph marked, the numbers there, and what is assumed of the model."""
        (height, width), (photo_height, photo_width) = self.overlay.shape[:2], self.chosen.frame.photo
        share = width / height * len(self.picture) / self.picture.shape[1]  # the rest is the legend
        mark = f"left: {100 * (x + 0.5) / photo_width}%; top: {100 * share * (y + 0.5) / photo_height}%"
        texts = legend_texts(self.chosen, self.vmax)
        title, details = escape(texts["title"]), escape(texts["details"].replace("   ", ", "))
        assumed = self.exploration.classifier.notes
        return f"""<h3>{title}: {details}</h3>
            <div class="cam-look"><div class="cam-heat" style="--ratio: {width / height}" data-share="{share}">
            <img alt="Evidence for {title}, {details}" decoding="sync"
                src="{_url("image/jpeg", encode(self.overlay, ".jpg"))}"><i style="{mark}"></i></div>
            <div>{self._table(y, x)}{_list(filter(None, texts["notes"]))}
            <details><summary>What is assumed of the model</summary>{_list(assumed)}</details></div></div>"""

    def _table(self, y: int, x: int) -> str:
        """What the place says of the classes with the most evidence there, and of the chosen ones."""
        labels, chosen = self.exploration.classifier.labels, [c for c in (self.target, self._rival) if c is not None]
        values = self.exploration.evidence_at(y, x, chosen)
        shown = {*list(values)[:_TOP], *chosen}
        rows = [(labels[c], f"{value:+.2f}", c == self.target) for c, value in values.items() if c in shown]
        here = self.chosen.heat_at(y, x)
        if self.evidence != "logit":
            text = _percent(here) if self.evidence == "posterior" else f"{here:+.2f}"
            rows.insert(0, (f"{self.chosen.title}: {self.evidence}", text, True))
        cells = "".join(
            f'<tr{" class=chosen" * bold}><th scope="row">{escape(text)}</th><td>{value}</td></tr>'
            for text, value, bold in rows
        )
        caption = f"{'The network saw nothing' if isnan(here) else 'Evidence in logits'} at x {x}, y {y}"
        return f'<table class="cam-place"><caption>{caption}</caption>{"" if isnan(here) else cells}</table>'

    def _links(self, name: str | None) -> str:
        """Links to the overlay and to the numbers of the chosen and of the first classes."""
        if name is None:
            return '<p class="cam-files"></p>'
        others = [first for first in self.firsts if first.class_idx != self.target]
        record = {"image": name, "size": self.chosen.frame.photo, "model": self.exploration.classifier.name}
        record |= {"targets": [explanation.to_dict() for explanation in (self.chosen, *others)]}
        picture = _url("image/jpeg", encode(self.overlay, ".jpg"))
        numbers = _url("application/json", json.dumps(record, indent=2).encode())
        stem = escape(f"{Path(name).stem}-class{self.target}")
        return f"""<p class="cam-files"><a download="{stem}.jpg" href="{picture}">Save picture</a>
            <a download="{stem}.json" href="{numbers}">Save numbers</a></p>"""


def _score(explanation: Explanation) -> str:
    """The probability in percent; the value where the scores are no probabilities."""
    probability = explanation.probability
    return f"{explanation.logit:.2f}" if probability is None else _percent(probability)


def _percent(share: float) -> str:
    return "&lt; 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def to_button(number: int, image: NDArray[np.uint8] | None, content: str, attributes: str) -> str:
    """A button with an image (H, W, 3) uint8 RGB above its content; app.js sends its number on a click."""
    source = "" if image is None else f'src="{_url("image/jpeg", encode(image, ".jpg"))}"'
    return f'<button type="button" data-number="{number}" {attributes}><img alt="" {source}>{content}</button>'


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"
