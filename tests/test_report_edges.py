"""The report where something is not there: maps, names that are text, classes and pairs that exist."""

from __future__ import annotations

import os

import numpy as np
import pytest
from browser import opened, ready, written
from reports import COUNT, explained, index_of, listed, state
from small import wrapped
from test_report_arithmetic import many_maps
from test_report_arithmetic import reported as report_of

import cam
from cam.report.writing import write_report


def test_a_map_that_was_not_kept_is_named_and_leaves_nothing_of_another(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.all_classes._BYTES", 4000)
    with opened(browser, report_of(many_maps(), tmp_path)) as page:
        kept = page.evaluate("gapcam.picture.view.picture.classes")
        missing = min(set(range(40)) - set(kept))
        label = page.evaluate("(c) => gapcam.data.index.labels[c]", missing)
        for changes in ({"class": missing}, {"class": kept[0], "evidence": "contrast", "against": missing}):
            page.evaluate("(changes) => gapcam.state.set(changes)", changes)
            said = f"The map of {label} was not kept: of this picture the maps of {len(kept)} of 40 classes are."
            assert page.locator("#note").inner_text() == said
            assert page.locator("#save-picture").is_disabled()
            assert page.locator("#legend").is_hidden()
            assert page.locator("#heat-canvas").is_hidden()
        page.keyboard.press("1")
        page.keyboard.press("c")
        assert page.locator("#note").is_hidden()
        assert page.locator("#save-picture").is_enabled()
        assert page.locator("#legend").is_visible()


def test_names_that_are_not_text_have_their_links(browser, tmp_path):
    names = [os.fsdecode(name) for name in (b"caf\xe9.png", b"caf\xe8.png")]
    explained(tmp_path, 4, names)
    report = write_report(tmp_path / "run")
    number = [row["name"] for row in index_of(report)["pictures"]].index(names[0])
    with opened(browser, report) as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        ready(page)
        written(page)
        with opened(browser, report, page.evaluate("location.hash")) as other:
            assert state(other, "picture") == number


def test_a_pair_that_is_none_in_the_address_hides_nothing(browser, reported):
    with opened(browser, reported[1], "#pair=4>4") as page:
        assert len(listed(page)) == COUNT
    pair = index_of(reported[1])["summary"]["pairs"][0]
    with opened(browser, reported[1], f"#pair={pair['truth']}>{pair['predicted']}") as page:
        assert len(listed(page)) == pair["count"]


def test_no_class_is_held_against_itself(page):
    top = page.evaluate("gapcam.data.index.pictures[0].top.map(([c]) => c)")
    page.keyboard.press("c")
    page.locator("#against").fill(f"{top[0]} ")
    page.locator("#against").press("Enter")
    assert page.locator("#against").get_attribute("aria-invalid") == "true"
    page.locator("#against").fill(f"{top[2]} ")
    page.locator("#against").press("Enter")
    assert page.locator("#against").get_attribute("aria-invalid") is None
    page.locator("#chips button").nth(2).click()  # the one it is held against
    assert state(page, "class") == top[2]
    assert not page.locator("#against").input_value().startswith(f"{top[2]} ")
    assert page.evaluate("gapcam.picture.view.values.some((value) => value !== 0)")


def test_keys_go_on_from_a_row_that_was_scrolled_away(page):
    page.locator("#rows button").first.focus()
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_selector(f"#rows [data-number='{COUNT - 1}']")
    assert page.evaluate("document.activeElement.dataset.number") == "0"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("row")


def test_the_legend_of_a_finer_map_has_its_numbers(browser, tmp_path):
    classifier = wrapped()
    report = report_of(classifier, tmp_path, resolution=64)
    path = tmp_path / "photos" / "0.png"
    ours = cam.explain(classifier, path, resolution=64)
    with opened(browser, report) as page:
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"logit {ours.map_logit:.2f} of this finer input".replace("-", "\u2212") in line
        assert f"{ours.map_logit:.3f}".replace("-", "\u2212") in page.locator("#sums").inner_text()
        page.keyboard.press("c")
        own, other = page.evaluate("""() => {
            const { class: a, against } = gapcam.classes.chosen(gapcam.state.current);
            return [a, against];
        }""")
        a, b = (cam.explain(classifier, path, c, resolution=64).map_logit for c in (own, other))
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"margin {a - b:.2f} of this finer input".replace("-", "\u2212") in line


def test_the_histogram_counts_probabilities(page, reported):
    _, _, records = reported
    probabilities = [record["targets"][0]["probability"] for record in records]
    expected, _ = np.histogram(probabilities, bins=20, range=(0, 1))
    page.click("#view-summary")
    bars = page.locator("#group-histogram .histogram span")
    assert [int(bar.get_attribute("title").rsplit(" ", 1)[1]) for bar in bars.all()] == expected.tolist()
    heights = [float(height.rstrip("%")) for height in bars.evaluate_all("(all) => all.map((bar) => bar.style.height)")]
    assert heights == pytest.approx((100 * expected / expected.max()).tolist(), abs=0.01)
