"""The HTML of cam app says what the library says, and takes texts as texts (no browser needed)."""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cam
from cam.app.view import View, names_of
from cam.explanations.options import parse_class

SAMPLE = Path(__file__).parents[1] / "samples" / "sevens.png"


@pytest.fixture(scope="module")
def view() -> View:
    exploration = cam.explore(cam.load_classifier("digits", device="cpu"), SAMPLE)
    return View("my digits", exploration, exploration.image, 9, None, "logit", 0.5, exploration.classifier.labels)


def decode(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))), int)


def test_files_have_the_numbers_and_the_overlay_of_the_library(view):
    drawn, shown = view.draw("sevens of mine.png"), view.to_dict(40, 300)
    assert drawn["stem"] == "sevens-of-mine-my-digits-class9"
    record = json.loads(base64.b64decode(drawn["numbers"].partition("base64,")[2]))
    assert (record["image"], record["size"], record["model"]) == ("sevens of mine.png", [288, 400], "my digits")
    classes = [9, *(c for c in view.exploration.ranked[:5] if c != 9)]
    expected = cam.explain(view.exploration.classifier, SAMPLE, classes)
    assert record["targets"] == json.loads(json.dumps([one.to_dict() for one in expected]))
    vmax = max(one.vmax for one in expected)
    overlay = expected[0].overlay(legend=True, opacity=0.5, vmax=vmax)
    assert np.abs(decode(shown["overlay"]) - overlay).mean() < 3
    assert (shown["ratio"], shown["photo_share"]) == (400 / overlay.shape[0], 288 / overlay.shape[0])
    firsts = cam.explain(view.exploration.classifier, SAMPLE, "top5")
    assert [first["label"] for first in drawn["top_classes"]] == [one.label for one in firsts]
    thumbnail = firsts[1].overlay(vmax=vmax, max_side=240)
    assert np.abs(decode(drawn["top_classes"][1]["overlay"]) - thumbnail).mean() < 3


def test_a_place_says_what_its_classes_have_there(view):
    values = view.exploration.evidence_at(40, 300)
    shown = [*list(values)[:5], *([9] if 9 not in list(values)[:5] else [])]
    assert view.to_dict(40, 300)["evidence"] == [(str(c), f"{values[c]:+.2f}", c == 9) for c in shown]
    assert view.to_dict(40, 300)["place"] == (40, 300)
    assert view.to_dict(288, 300)["evidence"] == []  # below the picture


def test_of_another_evidence_its_own_value_is_first(view):
    classifier = view.exploration.classifier
    (name, value, is_drawn), *rows = replace(view, evidence="contrast", rival=7).to_dict(40, 300)["evidence"]
    heat = cam.explain(classifier, SAMPLE, 9, evidence="contrast", against=7).heat()
    assert (name, float(value), is_drawn) == ("9 over 7: contrast", pytest.approx(heat[40, 300], abs=0.006), True)
    classes = {name: float(value) for name, value, _ in rows}
    assert float(value) == pytest.approx(classes["9"] - classes["7"], abs=0.011)
    posterior = replace(view, target=7, evidence="posterior")
    explanation = cam.explain(classifier, SAMPLE, 7, evidence="posterior")
    y, x = explanation.peak
    share = 100 * explanation.heat()[y, x]
    assert posterior.to_dict(y, x)["evidence"][0] == ("7: posterior", f"{share:.1f} %", True)
    nowhere = next(c for c in range(10) if posterior.exploration.explain(c, evidence="posterior").heat_at(y, x) < 4e-4)
    first, *_ = replace(posterior, target=nowhere).to_dict(y, x)["evidence"]
    assert first == (f"{nowhere}: posterior", "< 0.1 %", True)


def test_a_top_class_that_the_first_model_lacks_cannot_be_chosen(view):
    labels = [one.label for one in view.top_classes]
    listed = replace(view, first_labels=(labels[0], "a", labels[2], labels[2])).draw("a.png")["top_classes"]
    assert [one["label"] for one in listed] == labels
    assert [one["target"] for one in listed] == ["0" if labels[0] != "0" else labels[0], None, "2", None, None]
    assert [one["target"] for one in view.draw("a.png")["top_classes"]] == labels


def test_a_control_names_a_class_by_its_label_unless_it_names_another():
    labels = "crane", "cat", "Crane", "1", "top5", "5", "tench, Tinca tinca"
    names = names_of(labels)
    assert names == ("0", "cat", "2", "3", "4", "5", "tench, Tinca tinca")
    assert [parse_class(name, labels, "Class") for name in names] == list(range(7))


def test_the_command_says_what_is_missing(run, monkeypatch):
    result = run("app", "-m", "digits", "-m", "digits", "--weights", "one.pth")
    assert result.exit_code == 2
    assert "--weights must be given once for each --model, got 1 for 2. Give them in the order" in result.output
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("app")
    assert result.exit_code == 1
    assert "Run pip install 'gapcam[app]'" in result.output
