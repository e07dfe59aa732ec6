"""The report in Chromium: the groups that cam audit found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, listed, opened, state
from playwright.sync_api import Browser
from test_audit import CLASSES, run_over

from cam.audit.audit import audit_run
from cam.report.packing import unpack
from cam.report.read import RunEvidence
from cam.report.write import write_report
from cam.runs.manifest import read_records


@pytest.fixture(scope="module")
def audited(tmp_path_factory) -> Path:
    out = run_over(tmp_path_factory.mktemp("audit"), tagged=15, report=True)
    audit_run(out)
    return out


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_the_summary_shows_a_group_with_its_photographs(browser: Browser, audited: Path):
    with opened(browser, audited / "report.html", "#view=summary") as page:
        assert page.inner_text("#audit-title").lower() == "1 group stands out in 6 classes"
        assert page.inner_text("#audit h3") == "color 2: 15 of 60 pictures share evidence at the top right"
        text = page.inner_text("#audit article p")
        assert "add +0.11 to their score on average, +0.00 to that of the others" in text
        assert "Right: 100.0 %, of the others 100.0 %." in text
        assert "Of the features, they have more of channels 2" in text
        members = page.locator(".member")
        assert members.count() == 6
        page.wait_for_function("document.querySelectorAll('.member path[d]').length === 24")
        # Cells (1..2, 9..10) of 12 x 12: the outline goes through their corners.
        path = members.first.locator("path").first.get_attribute("d")
        assert path is not None
        assert path.startswith("M0.75 ")


def test_the_summary_says_that_nothing_stands_out(browser: Browser, tmp_path: Path):
    out = run_over(tmp_path, each=20, report=True)
    with opened(browser, write_report(out), "#view=summary") as page:
        assert page.locator("#audit").is_hidden()
    assert audit_run(out).summary()["report"] == str(out / "report.html")
    with opened(browser, out / "report.html", "#view=summary") as page:
        assert page.inner_text("#audit").lower() == "no groups stand out in 6 classes"


def test_a_group_filters_the_list(browser: Browser, audited: Path):
    with opened(browser, audited / "report.html", "#view=summary") as page:
        page.click("text=Show 15 pictures")
        assert state(page, "view") == "pictures"
        expected = sorted(f"{2 + 6 * n:03}.png" for n in range(15))
        pictures = page.evaluate("gapcam.data.index.pictures.map(({ name }) => name)")
        assert sorted(pictures[number] for number in listed(page)) == expected
        assert page.input_value("#audit-filter") == "0"
        page.select_option("#audit-filter", "")
        assert len(listed(page)) == 360


@pytest.mark.parametrize("damage", ["other run", "torn", "unknown path"])
def test_an_audit_of_another_run_is_not_shown(browser: Browser, tmp_path: Path, damage: str):
    out = run_over(tmp_path, each=20, tagged=5, report=True)
    audit_run(out)
    file = out / "audit.json"
    audit = json.loads(file.read_text())
    if damage == "other run":
        file.write_text(json.dumps({**audit, "run": "0"}))
    elif damage == "torn":
        file.write_text(file.read_text()[:-20])
    else:
        audit["findings"][0] |= {"members": ["elsewhere.png"], "stands_out": True}
        file.write_text(json.dumps(audit))
    with opened(browser, write_report(out), "#view=summary") as page:
        assert page.locator("#audit").is_hidden()
        assert page.locator("label:has(#audit-filter)").is_hidden()


def test_near_duplicates_lie_next_to_each_other(browser: Browser, tmp_path: Path):
    out = run_over(tmp_path, each=20, copies=2, report=True)
    audit = audit_run(out)
    sets = [[Path(path).name for path in paths] for paths in audit.duplicates]
    assert all(any({f"{n:03}.png", f"{n:03}-copy.png"} <= set(names) for names in sets) for n in (0, 1))
    with opened(browser, out / "report.html", "#show=alike") as page:
        pictures = page.evaluate("gapcam.data.index.pictures.map(({ name }) => name)")
        assert [pictures[number] for number in listed(page)] == [name for names in sets for name in names]


def test_the_scatter_has_the_pictures_of_a_class(browser: Browser, audited: Path):
    with opened(browser, audited / "report.html", "#view=summary&summary=2") as page:
        assert page.inner_text("#scatter-note").startswith("60 pictures, those with like evidence near each other.")
        scatter = page.evaluate("gapcam.data.index.audit.scatters[2]")
        members = set(page.evaluate("gapcam.data.index.audit.groups[0].members"))
        inside = [x for x, number in zip(scatter["x"], scatter["images"], strict=True) if number in members]
        outside = [x for x, number in zip(scatter["x"], scatter["images"], strict=True) if number not in members]
        assert min(inside) > max(outside)
        n = scatter["images"].index(min(members))
        box = page.locator("#scatter").bounding_box()
        assert box is not None
        x, y = 8 + scatter["x"][n] * 224, 8 + (1 - scatter["y"][n]) * 224
        page.mouse.click(box["x"] + x + 1, box["y"] + y + 1)
        assert (state(page, "view"), state(page, "picture")) == ("pictures", min(members))
        page.go_back()
        left = box["x"] + 8 + min(inside) * 224 - 4  # a rectangle around the whole group
        page.mouse.move(left, box["y"] + 1)
        page.mouse.down()
        page.mouse.move(box["x"] + 238, box["y"] + 238)
        page.mouse.up()
        assert set(page.evaluate("gapcam.selection.all()")) == members
        page.goto(f"{(audited / 'report.html').as_uri()}#view=summary")
        page.reload()
        assert page.locator("#group-scatter").is_hidden()


def test_likely_label_errors_are_those_more_confident_than_their_class(browser: Browser, tmp_path: Path):
    out = run_over(tmp_path, each=20, mislabeled=3, report=True)
    records = read_records(out / "manifest.jsonl")
    truth = {record["path"]: (record["truth"]["class_idx"], record["predicted"]["class_idx"]) for record in records}
    wrong = [path for path, (true, predicted) in truth.items() if true != predicted]
    probabilities = {path: softmax(all_logits(out, path)) for path in truth}
    means = [np.mean([probabilities[p][c] for p, (true, _) in truth.items() if true == c]) for c in range(CLASSES)]
    expected = {path for path in wrong if probabilities[path][truth[path][1]] >= means[truth[path][1]]}
    assert expected
    with opened(browser, write_report(out), "#show=labels&sort=self_confidence") as page:
        pictures = page.evaluate(
            "gapcam.data.index.pictures.map(({ path, self_confidence }) => [path, self_confidence])"
        )
        shown = [pictures[number] for number in listed(page)]
        assert {path for path, _ in shown} == expected
        for path, share in shown:
            assert share == pytest.approx(probabilities[path][truth[path][0]], abs=1e-3)
        assert [share for _, share in shown] == sorted(share for _, share in shown)


def all_logits(out: Path, path: str) -> np.ndarray:
    run = RunEvidence.open(out)
    (record,) = (record for record in run.records if record["path"] == path)
    return unpack(run.details(record)["logits"])


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_cells_are_outlined_on_the_grid_of_the_picture(browser: Browser, tmp_path: Path):
    out = run_over(tmp_path, tagged=15, report=True)
    audit_run(out)
    coarse = {**json.loads((out / "audit.json").read_text()), "grid": [4, 3]}
    group = next(finding for finding in coarse["findings"] if finding["stands_out"])
    group["cells"] = [(3, 0)]
    (out / "audit.json").write_text(json.dumps(coarse))
    with opened(browser, write_report(out), "#view=summary") as page:
        page.wait_for_function("document.querySelectorAll('.member path[d]').length === 24")
        path = page.locator(".member path").first.get_attribute("d")
    # Row 3 of 4 and column 0 of 3 are rows 9 to 11 and columns 0 to 3 of 12.
    across = [float(text) for text in re.findall(r"[MH]([0-9.]+)", path or "")]
    down = [float(text) for text in re.findall(r"[ V]([0-9.]+)", path or "")]
    assert (min(across), max(across)) == (0, pytest.approx(4 / 12))
    assert (min(down), max(down)) == (pytest.approx(9 / 12), pytest.approx(1))
