"""What the page shows of a model's result, as HTML in which all texts are escaped."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.app.result import TOP, ModelResult
from cam.drawing.overlay import draw_boxes
from cam.explanations.explanation import Explanation
from cam.images.io import encode
from cam.maps.evidence import Evidence
from cam.runs.tables import COLUMNS, table_rows

_THUMBNAIL = 240  # longer side of the first classes, pixels


@dataclass(frozen=True)
class View:
    """One class of a result, shown with the first ones."""

    result: ModelResult
    target: int
    rival: int | None  # None for the runner-up
    evidence: Evidence
    opacity: float

    @cached_property
    def chosen(self) -> Explanation:
        """The explanation of the class."""
        return self.result.explain([self.target], self.evidence, self.rival)[0]

    @cached_property
    def firsts(self) -> list[Explanation]:
        """The explanations of the classes with the largest logits."""
        return self.result.explain(self.result.ranked[:TOP], self.evidence, self.rival)

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """The overlay on the scale of the first classes, with its legend below: (H + legend, W, 3) uint8 RGB."""
        vmax = max(explanation.vmax for explanation in (self.chosen, *self.firsts))
        return self.chosen.overlay(vmax=vmax, opacity=self.opacity, legend=True)

    def to_strip(self, *, drawn: bool) -> str:
        """The first classes side by side on one color scale; not yet drawn, they take no time and the same place."""
        height, width = self.result.shown.shape[:2]
        vmax = max(first.vmax for first in self.firsts) if drawn else 0.0
        buttons = (
            to_button(
                first.class_idx,
                first.overlay(vmax=vmax, max_side=_THUMBNAIL) if drawn else None,
                f"<span>{escape(first.label)}<br>{self.result.scores[first.class_idx]}</span>",
                f'style="--ratio: {width / height}" aria-pressed="{str(first.class_idx == self.target).lower()}"',
            )
            for first in self.firsts
        )
        return f'<h2>{escape(self.result.classifier.name)}</h2><div class="cam-strip">{"".join(buttons)}</div>'

    def to_html(self, x: int, y: int) -> str:
        """The picture with a pixel (x, y) of the photograph marked, and the numbers there."""
        height, width = self.result.shown.shape[:2]
        alt = escape(f"Evidence for {self.chosen.title}, logit {self.chosen.logit:.2f}")
        legend = _url("image/png", encode(self.overlay[height:], ".png"))
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.result.classifier.notes)
        return f"""
            <img class="cam-heat" style="--ratio: {width / height}" alt="{alt}" decoding="sync"
                src="{_url("image/jpeg", encode(self._marked(x, y), ".jpg"))}">
            <img class="cam-legend" alt="Legend" decoding="sync" src="{legend}">
            {self._table(x, y)}
            <details><summary>What is assumed of the model</summary><ul>{notes}</ul></details>"""

    def _marked(self, x: int, y: int) -> NDArray[np.uint8]:
        (height, width), (photo_height, photo_width) = self.result.shown.shape[:2], self.result.forward.frame.photo
        picture, half = self.overlay[:height].copy(), max(3, width // 90)
        x, y = int((x + 0.5) * width / photo_width), int((y + 0.5) * height / photo_height)
        draw_boxes(picture, [(x - half, y - half, x + half, y + half)])
        return picture

    def _table(self, x: int, y: int) -> str:
        place = self.result.place(x, y, [c.class_idx for c in (self.chosen, self.chosen.against) if c])
        rows = "".join(
            f'<tr{" class=chosen" * (c == self.target)}><th scope="row">{escape(self.result.labels[c])}</th>'
            f"<td>{value:+.2f}</td></tr>"
            for c, value in place.items()
        )
        caption = f"{'Evidence in logits' if rows else 'The network saw nothing'} at x {x}, y {y}"
        return f'<table class="cam-place"><caption>{caption}</caption>{rows}</table>'

    def record(self, name: str) -> dict[str, Any]:
        """The numbers of the class and of the first ones, as in a line of the manifest."""
        best, labels = self.result.ranked[0], self.result.labels
        others = [first for first in self.firsts if first.class_idx != self.target]
        return {
            "model": self.result.classifier.name,
            **{"path": name, "name": name, "status": "ok", "truth": None},
            "size": list(self.result.forward.frame.photo),
            "predicted": {"class_idx": best, "label": labels[best]},
            "targets": [explanation.to_dict() for explanation in (self.chosen, *others)],
        }

    def to_links(self, name: str) -> str:
        """Links that save the overlay, and the numbers of `record`; the CSV is the table of `cam explain --csv`."""
        record, table = self.record(name), io.StringIO()
        csv.writer(table).writerows([list(COLUMNS), *table_rows(record, Path())])
        files = (
            ("picture", "jpg", "image/jpeg", encode(self.overlay, ".jpg")),
            ("JSON", "json", "application/json", json.dumps(record, indent=2).encode()),
            ("CSV", "csv", "text/csv", table.getvalue().encode()),
        )
        stem = escape(f"{Path(name).stem}-class{self.target}")
        links = (
            f'<a download="{stem}.{end}" href="{_url(kind, data)}">Save {text}</a>' for text, end, kind, data in files
        )
        return f'<p class="cam-files">{"".join(links)}</p>'


def to_button(number: int, image: NDArray[np.uint8] | None, content: str, attributes: str) -> str:
    """A button with an image (H, W, 3) uint8 RGB above its content; app.js sends its number on a click."""
    source = "" if image is None else f'src="{_url("image/jpeg", encode(image, ".jpg"))}"'
    image_html = f'<img alt="" decoding="sync" {source}>'
    return f'<button type="button" data-number="{number}" {attributes}>{image_html}{content}</button>'


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"
