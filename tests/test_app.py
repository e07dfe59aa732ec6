"""The HTML of cam app says what the library says, and takes texts as texts (no browser needed)."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cam
from cam.app.view import View

SAMPLE = Path(__file__).parents[1] / "samples" / "sevens.png"


@pytest.fixture(scope="module")
def view() -> View:
    exploration = cam.explore(cam.load_classifier("digits", device="cpu"), SAMPLE)
    return View(exploration, exploration.image, 9, None, "logit", 0.5)


def rows(html: str) -> list[tuple[str, str]]:
    return re.findall(r'scope="row">([^<]+)</th><td>([^<]+)<', html)


def test_files_have_the_numbers_and_the_overlay_of_the_library(view):
    files = dict(re.findall(r'<a download="([^"]+)" href="data:[\w/-]+;base64,([^"]+)">', view.to_strip("sevens.png")))
    assert list(files) == ["sevens-class9.jpg", "sevens-class9.json"]
    record = json.loads(base64.b64decode(files["sevens-class9.json"]))
    assert (record["image"], record["size"], record["model"]) == ("sevens.png", [288, 400], "digits")
    classes = [9, *(c for c in view.exploration.ranked[:5] if c != 9)]
    expected = cam.explain(view.exploration.classifier, SAMPLE, classes)
    assert record["targets"] == json.loads(json.dumps([one.to_dict() for one in expected]))
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(files["sevens-class9.jpg"]))), int)
    vmax = max(one.vmax for one in expected)
    assert np.abs(image - expected[0].overlay(legend=True, opacity=0.5, vmax=vmax)).mean() < 3


def test_a_place_says_what_its_classes_have_there(view):
    values = view.exploration.evidence_at(40, 300)
    shown = [*list(values)[:5], *([9] if 9 not in list(values)[:5] else [])]
    assert rows(view.to_html(40, 300)) == [(str(c), f"{values[c]:+.2f}") for c in shown]
    assert "Evidence in logits at x 300, y 40" in view.to_html(40, 300)
    html = view.to_html(288, 300)
    assert "The network saw nothing at x 300, y 288" in html
    assert rows(html) == []


def test_of_another_evidence_its_own_value_is_first(view):
    classifier = view.exploration.classifier
    (label, value), *classes = rows(replace(view, evidence="contrast", against=7).to_html(40, 300))
    heat = cam.explain(classifier, SAMPLE, 9, evidence="contrast", against=7).heat()
    assert (label, float(value)) == ("9 over 7: contrast", pytest.approx(heat[40, 300], abs=0.006))
    assert float(value) == pytest.approx(float(dict(classes)["9"]) - float(dict(classes)["7"]), abs=0.011)
    posterior = replace(view, target=7, evidence="posterior")
    explanation = cam.explain(classifier, SAMPLE, 7, evidence="posterior")
    y, x = explanation.peak
    share = 100 * explanation.heat()[y, x]
    assert rows(posterior.to_html(y, x))[0] == ("7: posterior", f"{share:.1f} %")
    nowhere = next(c for c in range(10) if posterior.exploration.explain(c, evidence="posterior").heat_at(y, x) < 4e-4)
    assert rows(replace(posterior, target=nowhere).to_html(y, x))[0] == (f"{nowhere}: posterior", "&lt; 0.1 %")


def test_labels_names_and_notes_are_text():
    bad = '<img src=x onerror="alert(1)">'
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    classifier = cam.wrap(nn.Sequential(*layers).eval(), input_size=32, labels=[bad, "${1 + 1} {{x}}"], name=bad)
    image = np.full((32, 280, 3), 90, np.uint8)
    view = View(cam.explore(classifier, image), image, 0, None, "margin", 0.85)
    html = view.to_strip(f"{bad}.png") + view.to_html(3, 140)
    assert "<img src" not in html
    assert html.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;") >= 6


def test_the_command_says_what_is_missing(run, monkeypatch):
    result = run("app", "-m", "digits", "-m", "digits", "--weights", "one.pth")
    assert result.exit_code == 2
    assert "--weights must be given once for each --model, got 1 for 2. Give them in the order" in result.output
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("app")
    assert result.exit_code == 1
    assert "Run pip install 'gapcam[app]'" in result.output
