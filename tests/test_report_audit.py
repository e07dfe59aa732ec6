"""The report in Chromium: the groups that cam audit found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import chromium, listed, opened, state
from playwright.sync_api import Browser
from test_audit import run_over

from cam.audit.audit import audit_run
from cam.report.write import write_report


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
        assert page.inner_text("#audit-title").lower() == "1 group stands out"
        assert page.inner_text("#audit h3") == "color 2: 15 of 60 pictures share evidence at the top right"
        text = page.inner_text("#audit article p")
        assert "add +0.11 to their score on average, +0.00 to that of the others" in text
        assert "Right: 100.0 %, of the others 100.0 %." in text
        members = page.locator(".member")
        assert members.count() == 6
        page.wait_for_function("document.querySelectorAll('.member path[d]').length === 24")
        # Cells (1..2, 9..10) of 12 x 12: the outline goes through their corners.
        path = members.first.locator("path").first.get_attribute("d")
        assert path is not None
        assert path.startswith("M0.75 ")


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
