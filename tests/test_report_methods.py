"""The report of heads that are not an average: the maps of some classes, and what the page says of them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import opened, show_picture
from playwright.sync_api import Browser
from reports import index_of
from runs import SAMPLES, CutError, cut_after, explain_into, write_photos
from test_report_answer import signed_numbers
from torch import nn

import cam
from cam.classifiers.truth import Truth
from cam.explanations.options import ExplainOptions, OneClass, TopClasses
from cam.images.io import read_image
from cam.report import evidence
from cam.report.evidence import QUANTUM, EvidenceWriter
from cam.report.packing import unpack
from cam.report.read import RunEvidence
from cam.report.write import write_report
from cam.runs.merge import merge_shards

CLASSES = 12
ROUNDING = QUANTUM / 2 + 1e-5
NAMES = {"integrated": "integrated gradients", "shapley": "Shapley values", "gradcam": "Grad-CAM"}
RUNS = {"integrated": "nodes", "shapley": "permutations", "gradcam": None}


def flat(*, hidden: int = 16, scale: float = 1.0, **options) -> cam.Classifier:
    """4 x 4 cells of 8 x 8 pixels, all of which count differently."""
    torch.manual_seed(2)
    body = nn.Conv2d(3, 2, 8, 8), nn.ReLU(), nn.Flatten()
    head = [nn.Linear(32, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES)] if hidden else [nn.Linear(32, CLASSES)]
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.7 * scale)
    return cam.wrap(nn.Sequential(*body, *head), input_size=32, **options)


def run_with_evidence(classifier: cam.Classifier, out: Path, **options) -> RunEvidence:
    options = {"outputs": (EvidenceWriter(),), "save": frozenset(), "truth": Truth(), **options}
    explain_into(out / "run", classifier, write_photos(out / "photos", 2), **options)
    return RunEvidence.open(out / "run")


def ranked(classifier: cam.Classifier, path: str) -> list[int]:
    explanations = cam.explain(classifier, path, f"top{CLASSES}")
    return [explanation.class_idx for explanation in explanations]


def truth_of(classifier: cam.Classifier, out: Path, rank: int) -> Truth:
    """The true class of each photograph is the one of a rank."""
    paths = [str(path) for path in sorted(write_photos(out / "photos", 2).iterdir())]
    return Truth({path: ranked(classifier, path)[rank] for path in paths})


@pytest.mark.parametrize("method", NAMES)
def test_stored_are_the_maps_of_the_explained_predicted_and_true_classes(method, tmp_path):
    classifier = flat(method=method)
    truth = truth_of(classifier, tmp_path, 8)
    targets = TopClasses(1), OneClass(ranked(classifier, next(iter(truth.classes)))[10])
    run = run_with_evidence(classifier, tmp_path, truth=truth, targets=targets)
    assert run.model["bias"] is run.model["weight"] is None
    assert run.model["method"] == {"name": NAMES[method], "runs": RUNS[method]}
    for record in run.records:
        details, order = run.details(record), ranked(classifier, record["path"])
        maps = details["maps"]
        explained = [target["class_idx"] for target in record["targets"]]
        assert set(maps["classes"]) == {*order[:5], *explained, truth.classes[record["path"]]}
        assert len(maps["classes"]) == len(set(maps["classes"])) > 5
        groups = explained, [c for c in maps["classes"] if c not in explained]  # of the same runs of the head
        for expected in [one for group in groups for one in cam.explain(classifier, record["path"], group)]:
            n = maps["classes"].index(expected.class_idx)
            assert np.abs(run.cam(details, expected.class_idx) - expected.cam).max() <= ROUNDING
            assert maps["bases"][n] == pytest.approx(expected.base, abs=1e-5)
            missed = expected.logit - expected.base - expected.cam.astype(np.float64).mean()
            assert maps["missed"][n] == pytest.approx(missed, abs=1e-5)
            assert abs(missed) / max(1, abs(expected.logit)) == pytest.approx(expected.completeness_error, abs=1e-5)
            assert maps["runs"][n] == expected.runs
        logit = record["targets"][0]["logit"]  # of the predicted class
        assert run.entry(record)["completeness"] == pytest.approx(abs(maps["missed"][0]) / max(1, abs(logit)), abs=1e-5)
        assert unpack(run.entry(record)["preview"]["map"]) == pytest.approx(run.cam(details, order[0]))
        assert run.cam(details, order[-1]) is None


def test_flatten_and_linear_by_hand(tmp_path):
    classifier = flat(hidden=0)
    run = run_with_evidence(classifier, tmp_path)
    convolution, linear = classifier.network[0], classifier.network[3]
    for record in run.records:
        pixels, _ = classifier.preprocessing.resize_and_crop(read_image(record["path"]))
        inputs = classifier.preprocessing.normalize(torch.from_numpy(pixels[None].copy()))
        with torch.no_grad():
            features, bias = convolution(inputs)[0].relu(), linear.bias.tolist()
        details = run.details(record)
        for n, c in enumerate(details["maps"]["classes"]):
            expected = 16 * (features * linear.weight[c].view(2, 4, 4)).sum(0).detach()
            assert np.abs(run.cam(details, c) - expected.numpy()).max() <= ROUNDING + 1e-4
            assert details["maps"]["bases"][n] == pytest.approx(bias[c], abs=1e-5)


def test_the_class_of_a_contrast_is_stored_without_another_run(tmp_path, monkeypatch):
    classifier = flat()
    first = sorted(write_photos(tmp_path / "photos", 2).iterdir())[0]
    expected = ranked(classifier, str(first))[-1]
    options = ExplainOptions(evidence="contrast", expect=expected)
    run = run_with_evidence(classifier, tmp_path, explain=options, targets=(TopClasses(5),))
    record = run.records[0]
    details = run.details(record)
    assert set(details["maps"]["classes"]) == {*ranked(classifier, record["path"])[:5], expected}
    other = cam.explain(classifier, record["path"], [*ranked(classifier, record["path"])[:5], expected])[-1]
    assert np.abs(run.cam(details, expected) - other.cam).max() <= ROUNDING
    assert details["maps"]["bases"][details["maps"]["classes"].index(expected)] == pytest.approx(other.base, abs=1e-5)


SHOWN = """async ([number, kinds]) => {
    const { map } = gapcam.evidence;
    const picture = await gapcam.data.evidence(number);
    const [a, b] = picture.classes.slice(-2);
    return [a, b, ...kinds.map((evidence) => [...map(picture, { evidence, class: a, against: b })])];
}"""


@pytest.mark.parametrize("method", NAMES)
def test_the_page_offers_logit_and_contrast_and_says_what_they_add_up_to(method, browser: Browser, tmp_path: Path):
    classifier = flat(method=method)
    truth = truth_of(classifier, tmp_path, 7)
    run = run_with_evidence(classifier, tmp_path, truth=truth)
    with opened(browser, write_report(tmp_path / "run")) as page:
        assert page.locator("#evidence button:visible").all_inner_texts() == ["logit", "contrast"]
        for number, record in enumerate(run.records):
            show_picture(page, number)
            explained = record["targets"][0]
            legend, sums = page.locator("#scale-note").inner_text(), page.locator("#sums").inner_text()
            said = f"{NAMES[method]}: not complete, it does not add up to the logit"
            if method != "gradcam":
                assert f" + base {explained['bias']:.3f} = ".replace("-", "\u2212") in sums
                said = re.search(r"complete to ([\d.]+) %, (.*)", legend)
                assert float(said[1]) / 100 == pytest.approx(max(explained["completeness_error"], 1e-4), rel=0.5)
                assert said[2] == f"{NAMES[method]}, {explained[RUNS[method]]} {RUNS[method]}"
                said = said[0]
            assert legend == f"logits, same scale for all pictures; {said}"
            assert sums.endswith(said)
            for words in (page.locator("#answer").inner_text(), sums, legend):
                assert not re.search("bias|exact", words)
            a, b, logit, contrast = page.evaluate(SHOWN, [number, ["logit", "contrast"]])
            ours = [cam.explain(classifier, record["path"], [a, b])[n].cam.ravel() for n in (0, 1)]
            if method != "integrated":  # its number of nodes depends on the classes
                assert logit == pytest.approx(ours[0], abs=1e-3)
                assert contrast == pytest.approx(ours[0] - ours[1], abs=1e-3)
            page.click("#why button")
            answer = page.locator("#answer").inner_text()
            lead = float(re.search(r" leads .* by ([\d.]+) logits", answer)[1])
            if method == "gradcam":
                assert "Grad-CAM shows" in answer
                assert signed_numbers(answer) == []
            else:
                assert sum(signed_numbers(answer)) == round(100 * lead)
            page.click("#why button")
        page.click("#open-help")
        words = page.locator("#help").inner_text()
        assert ("margin" in words, "bias" in words) == (False, False)
        assert ("does not add up" in words) == (method == "gradcam")


def test_what_a_map_misses_is_part_of_the_answer(browser: Browser, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cam.maps.complete._MAX_NODES", 8)
    classifier = flat(scale=6)
    run = run_with_evidence(classifier, tmp_path, targets=(TopClasses(5),))
    seen = 0
    with opened(browser, write_report(tmp_path / "run")) as page:
        for number, record in enumerate(run.records):
            show_picture(page, number)
            for key, target in enumerate(record["targets"]):
                page.keyboard.press(str(1 + key))
                answer = page.locator("#answer").inner_text()
                parts = signed_numbers(answer)
                if not parts:
                    continue
                maps = run.details(record)["maps"]
                missed = maps["missed"][maps["classes"].index(target["class_idx"])]
                assert sum(parts) == pytest.approx(100 * target["logit"], abs=0.6)
                if abs(missed) > 0.01:
                    assert ", with " in answer
                    assert parts[-1] == pytest.approx(100 * missed, abs=0.6)
                    seen += 1
    assert seen


def test_a_class_without_a_map_has_its_score(browser: Browser, tmp_path: Path):
    """Of a true class that was not known during the run there is no map."""
    classifier = flat()
    run = run_with_evidence(classifier, tmp_path)
    truth = truth_of(classifier, tmp_path, 9)
    (tmp_path / "truth.csv").write_text("path,label\n" + "".join(f"{p},{c}\n" for p, c in truth.classes.items()))
    report = write_report(tmp_path / "run", str(tmp_path / "truth.csv"))
    path = run.records[0]["path"]
    expected = cam.explain(classifier, path, truth.classes[path])
    with opened(browser, report) as page:
        chip = page.locator("#chips .chip").last
        numbers = [f"{expected.logit:.2f}".replace("-", "\u2212"), f"{100 * expected.probability:.1f} %"]
        assert chip.locator(".number").all_inner_texts() == numbers
        chip.click()
        name = classifier.labels[expected.class_idx]
        assert page.locator("#note").inner_text() == (
            f"The map of {name} is not stored: this picture has the maps of 5 of 12 classes, "
            "because the head is run again for each."
        )
        assert "the map that says where it comes from is not stored" in page.locator("#answer").inner_text()
        assert page.locator("#legend").is_hidden()
        page.locator("#why button").first.click()
        assert f"The map of {name} is not stored" in page.locator("#note").inner_text()
        page.keyboard.press("s")
        assert page.locator("#cards .card").first.inner_text().endswith("map not stored")
        page.keyboard.press("g")
        assert page.locator("#grid-note").inner_text().startswith("Evidence for the predicted class by integrated")


def test_resumed_and_merged_runs_store_the_same(tmp_path):
    classifier = flat()
    options = {"truth": truth_of(classifier, tmp_path, 6), "scale": 3.0, "batch_size": 1, "save": frozenset()}
    explain = partial(explain_into, outputs=(EvidenceWriter(),), **options)
    whole, cut, one, two = (tmp_path / name for name in ("whole", "cut", "one", "two"))
    photos = tmp_path / "photos"
    explain(whole, classifier, photos)
    with pytest.raises(CutError):
        explain(cut, classifier, photos, report=cut_after(1))
    explain(cut, classifier, photos)
    for number, out in enumerate((one, two), 1):
        explain(out, classifier, photos, shard=(number, 2))
    merge_shards([one, two])
    runs = [RunEvidence.open(out) for out in (whole, cut, one)]
    for records in zip(*(run.records for run in runs), strict=True):
        expected, *others = (run.details(record)["maps"] for run, record in zip(runs, records, strict=True))
        for maps in others:
            assert maps["classes"] == expected["classes"]
            assert len(maps["classes"]) == 6
            assert unpack(maps["values"]) == pytest.approx(unpack(expected["values"]), abs=2 * QUANTUM)
            assert maps["bases"] == pytest.approx(expected["bases"], abs=1e-5)
    pages = [index_of(write_report(out)) for out in (whole, cut, one)]
    for page in pages[1:]:
        assert page["method"] == pages[0]["method"] == {"name": "integrated gradients", "runs": "nodes"}
        assert len(page["pictures"]) == 2
        assert [pair["maps"] for pair in page["summary"]["confusions"]] == [1, 1]


def test_the_command_makes_a_report_of_any_head(run, tmp_path):
    result = run("explain", SAMPLES / "five.png", "-m", "position-flatten-mlp", "-o", tmp_path, "--report")
    assert result.exit_code == 0, result.output
    assert index_of(tmp_path / "report.html")["method"]["runs"] == "nodes"


def test_a_map_that_does_not_fit_in_memory_costs_its_image_only(tmp_path, monkeypatch):
    classifier, photos = flat(), write_photos(tmp_path / "photos", 2)
    stored = evidence._maps_of_some

    def limited(result, truth):
        if result.explanations[0].frame.photo[1] == 51:  # the second photograph
            raise torch.OutOfMemoryError
        return stored(result, truth)

    monkeypatch.setattr(evidence, "_maps_of_some", limited)
    run = explain_into(tmp_path / "run", classifier, photos, outputs=(EvidenceWriter(),))
    assert (run.explained, run.failed) == (1, 1)
    assert run.records[1]["error"].startswith("Out of memory for this image")
