"""The report of real weights on real photographs; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import opened

import cam
from cam.explanations.explain import explain_images
from cam.explanations.options import ExplainOptions, TopClasses
from cam.images.find import find_pictures
from cam.images.io import read_image
from cam.report.evidence import EvidenceWriter
from cam.report.read import Kept
from cam.report.write import write_report
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

COUNT = 6
OPTIONS = RunOptions(outputs=(EvidenceWriter(),), save=frozenset(), batch_size=COUNT)  # in one pass


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> cam.Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_data / "torch_home"))
        return cam.load_classifier("squeezenet1_0")


@pytest.fixture(scope="module")
def out(squeezenet: cam.Classifier, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("squeezenet")
    pictures = find_pictures([shared_data / "imagenet" / "images"])[5 : 5 + COUNT]
    explain_folder(squeezenet, pictures, out, OPTIONS)
    return out


def test_a_thousand_classes_take_150_kb_a_picture(out: Path) -> None:
    kept = Kept.open(out)
    for record in kept.records():
        row, evidence = kept.row(record), kept.evidence(record)
        size = (out / record["files"]["report"]).stat().st_size
        assert 20_000 < size - len(row["thumbnail"]) - len(evidence["photo"]) <= 150_000
        assert len(evidence["maps"].get("classes", range(1000))) >= 400


def test_the_page_has_pythons_numbers(out: Path, squeezenet: cam.Classifier, browser) -> None:
    report = write_report(out)
    assert report.stat().st_size < COUNT * 250_000 + 300_000
    with opened(browser, report) as page:
        assert page.evaluate("performance.getEntriesByName('shown')[0].startTime") < 5000
        records = list(Kept.open(out).records())
        images = [read_image(record["path"]) for record in records]
        for evidence in ("logit", "contrast", "margin", "posterior"):
            ours = explain_images(squeezenet, images, [[TopClasses(1)]] * COUNT, ExplainOptions(evidence))
            for number, ((explanation,), _) in enumerate(ours):
                js = """async ([n, evidence]) => {
                    const [[a], [b]] = gapcam.data.index.pictures[n].top;
                    const picture = await gapcam.data.evidence(n);
                    return [...gapcam.evidence.map(picture, { evidence, class: a, against: b })];
                }"""
                values = np.reshape(page.evaluate(js, [number, evidence]), (13, 13))
                assert np.abs(values - explanation.evidence_map).max() <= 1e-3
