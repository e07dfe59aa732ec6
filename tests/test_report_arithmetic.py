"""The page computes what Python computes, to 1e-3 logits: every kind of evidence, head, class and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from browser import opened, pixels
from playwright.sync_api import Browser
from reports import many_maps, report_of
from small import wrapped
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.drawing.colormaps import colorize
from cam.maps.projection import project

EXACT = 1e-3


def many_classes() -> Classifier:
    """Fewer channels than classes: features are kept, and a weight."""
    torch.manual_seed(4)
    body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
    return cam.wrap(nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 30)), input_size=32)


def many_normed() -> Classifier:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.norm, self.linear = nn.Conv2d(3, 6, 3, stride=2), nn.LayerNorm(6), nn.Linear(6, 20)

        def forward(self, x):
            return self.linear(self.norm(self.body(x).relu().mean((2, 3))))

    torch.manual_seed(5)
    return cam.wrap(Normed(), input_size=32)


HEADS = {
    "gap-linear": (wrapped, "classes"),
    "conv-gap": (lambda: wrapped("conv-gap"), "classes"),
    "gap-norm-linear": (lambda: wrapped("gap-norm-linear"), "classes"),
    "one-logit": (lambda: wrapped("one-logit"), "classes"),
    "linear, features": (many_classes, "features"),
    "norm, features": (many_normed, "features"),
    "conv-gap, some": (many_maps, "some"),
}


READ = """async ([number, asked]) => {
    const { evidence, index } = gapcam.data;
    const { map, cam, mean, probability } = gapcam.evidence;
    const picture = await evidence(number);
    const all = picture.classes || index.labels.map((_, c) => c);
    const classes = [...all.slice(0, asked), ...all.slice(-asked)];
    return [picture.kind, all, classes.map((c) => ({
        class: c,
        against: c === all[0] ? all[1] : all[0],
        maps: Object.fromEntries(["logit", "contrast", "margin", "posterior"].map((evidence) =>
            [evidence, [...map(picture, { evidence, class: c, against: c === all[0] ? all[1] : all[0] })]])),
        logit: picture.logits[c],
        probability: probability(index.pictures[number], picture, c),
        sum: mean(cam(picture, c)) + index.bias[c],
    }))];
}"""


@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_evidence_is_pythons(head: str, browser: Browser, tmp_path: Path, monkeypatch) -> None:
    make, kind = HEADS[head]
    classifier = make()
    if kind == "some":
        monkeypatch.setattr("cam.report.evidence._BYTES", 4000)
    report = report_of(classifier, tmp_path)
    with opened(browser, report) as page:
        for number, path in enumerate(sorted((tmp_path / "photos").iterdir())):
            found, all_, told = page.evaluate(READ, [number, 6])
            assert found == kind
            assert 5 <= len(all_) < 40 if kind == "some" else len(all_) == len(classifier.labels)
            for each in told:
                for evidence, values in each["maps"].items():
                    against = each["against"] if evidence == "contrast" else None
                    ours = cam.explain(classifier, path, each["class"], evidence=evidence, against=against)
                    assert np.abs(np.reshape(values, ours.evidence_map.shape) - ours.evidence_map).max() <= EXACT, (
                        each["class"],
                        evidence,
                    )
                assert abs(each["logit"] - ours.logit) <= EXACT
                assert abs(each["sum"] - ours.logit) <= EXACT
                assert abs(each["probability"] - ours.probability) <= EXACT


def test_a_finer_map_adds_up_to_the_logit_of_its_input(browser: Browser, tmp_path: Path) -> None:
    classifier = wrapped()
    report = report_of(classifier, tmp_path, resolution=64)
    ours = cam.explain(classifier, tmp_path / "photos" / "0.png", 2, resolution=64)
    with opened(browser, report) as page:
        js = """async () => {
            const p = await gapcam.data.evidence(0);
            return [p.logits[2], p.mapLogits[2], [...gapcam.evidence.cam(p, 2)]];
        }"""
        logit, map_logit, values = page.evaluate(js)
    assert abs(logit - ours.logit) <= EXACT
    assert abs(map_logit - ours.map_logit) <= EXACT
    assert abs(logit - map_logit) > 5 * EXACT
    assert np.abs(np.reshape(values, ours.cam.shape) - ours.cam).max() <= EXACT


@pytest.mark.parametrize(("evidence", "colormap"), [("logit", "signed"), ("posterior", "viridis")])
def test_heat_lies_and_looks_as_in_pythons_overlay(
    evidence: str, colormap: str, browser: Browser, tmp_path: Path
) -> None:
    classifier = wrapped()
    report = report_of(classifier, tmp_path)
    ours = cam.explain(classifier, tmp_path / "photos" / "0.png", 1, evidence=evidence)
    heat = project(ours.evidence_map, ours.grid, ours.frame)
    with opened(browser, report, f"#class=1&evidence={evidence}&scale=picture&colormap={colormap}") as page:
        drawn = pixels(page, "heat-canvas")
    assert drawn.shape == (*heat.shape, 4)
    unseen = np.isnan(heat)
    assert unseen.any()
    assert (drawn[..., 3] == np.where(unseen, 0, 255)).all()
    vmax = float(np.abs(ours.evidence_map).max())
    colors = colorize(heat, vmax, colormap, signed=evidence == "logit").astype(int)
    assert np.abs(drawn[..., :3] - colors)[~unseen].max() <= 12  # a step of the table, where rounding differs
    assert np.abs(drawn[..., :3] - colors)[~unseen].mean() < 0.1
