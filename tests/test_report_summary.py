"""The summary of a report: means, counts, and what they open."""

from __future__ import annotations

import numpy as np
import pytest
from browser import opened, pixels, ready
from reports import COUNT, LABELS, errors_reported, index_of, listed, state, wrong

import cam


def test_the_summary_has_the_means_of_python(page, reported):
    classifier, _, records = reported
    summary = page.evaluate("gapcam.data.index.summary")
    maps = [cam.explain(classifier, record["path"]).cam for record in records]
    mean = page.evaluate("async () => [...await gapcam.data.unpack(gapcam.data.index.summary.all.map)]")
    assert np.abs(np.reshape(mean, maps[0].shape) - np.mean(maps, 0)).max() <= 1e-3
    assert summary["all"]["count"] == COUNT == sum(summary["all"]["histogram"])
    assert summary["all"]["right"] == COUNT - len(wrong(records))
    assert sum(group["count"] for group in summary["classes"]) == COUNT
    ring = [1 - np.clip(m[1:-1, 1:-1], 0, None).sum() / np.clip(m, 0, None).sum() for m in maps]
    assert summary["all"]["border"] == pytest.approx(np.mean(ring), abs=1e-5)
    pair = summary["pairs"][0]
    some = [
        n
        for n in wrong(records)
        if (records[n]["truth"], records[n]["targets"][0]["class_idx"]) == (pair["truth"], pair["predicted"])
    ]
    contrast = np.mean([maps[n] - cam.explain(classifier, records[n]["path"], pair["truth"]).cam for n in some], 0)
    values = page.evaluate("async () => [...await gapcam.data.unpack(gapcam.data.index.summary.pairs[0].map)]")
    assert np.abs(np.reshape(values, contrast.shape) - contrast).max() <= 2e-3
    page.click("#view-summary")
    page.locator("#groups button").nth(1).click()
    assert page.locator("#group-title").text_content() == LABELS[summary["classes"][0]["class"]]
    assert str(summary["classes"][0]["count"]) in page.locator("#group-text").inner_text()
    page.locator("#pairs button").first.click()
    ready(page)
    assert listed(page) == some
    assert (state(page, "evidence"), state(page, "against")) == ("contrast", pair["truth"])


def test_the_histogram_counts_probabilities(page, reported):
    _, _, records = reported
    probabilities = [record["targets"][0]["probability"] for record in records]
    expected, _ = np.histogram(probabilities, bins=20, range=(0, 1))
    page.click("#view-summary")
    bars = page.locator("#group-histogram .histogram span")
    assert [int(bar.get_attribute("title").rsplit(" ", 1)[1]) for bar in bars.all()] == expected.tolist()
    heights = [float(height.rstrip("%")) for height in bars.evaluate_all("(all) => all.map((bar) => bar.style.height)")]
    assert heights == pytest.approx((100 * expected / expected.max()).tolist(), abs=0.01)


def test_the_summary_opens_all_pictures_of_a_class_and_of_a_confusion(page):
    rows = page.evaluate("gapcam.data.index.pictures.map(({ thumbnail, ...row }) => row)")
    filters = {"show": "right", "text": "no such", "margin": 0, "sort": "margin", "order": "down"}
    page.evaluate("(filters) => gapcam.state.set(filters)", filters)
    page.keyboard.press("s")
    page.locator("#groups button").nth(1).click()
    c = state(page, "summary")
    page.click("#group-open")
    assert listed(page) == [n for n, row in enumerate(rows) if c in (row["top"][0][0], row["truth"])]
    assert state(page, "picture") == listed(page)[0]
    page.evaluate("(filters) => gapcam.state.set(filters)", filters)
    page.keyboard.press("s")
    pair = page.evaluate("gapcam.data.index.summary.pairs[0]")
    page.locator("#pairs button").first.click()
    ready(page)
    assert len(listed(page)) == pair["count"]
    assert state(page, "picture") == listed(page)[0]


def test_a_mean_map_is_shown_under_its_own_class_only(page):
    classes = page.evaluate("gapcam.data.index.summary.classes.map((group) => group.class)")
    page.keyboard.press("s")
    expected = []
    for c in classes[:2]:
        page.evaluate("(c) => gapcam.state.set({ summary: c })", c)
        page.wait_for_timeout(100)
        expected.append((page.locator("#group-high").inner_text(), pixels(page, "group-map").tolist()))
    assert expected[0] != expected[1]
    page.evaluate("([a, b]) => { gapcam.state.set({ summary: a }); gapcam.state.set({ summary: b }); }", classes[:2])
    page.wait_for_timeout(200)
    assert (page.locator("#group-high").inner_text(), pixels(page, "group-map").tolist()) == expected[1]
    values = page.evaluate("""async () => {
        const { index, unpack } = gapcam.data;
        return [...await unpack(index.summary.classes[1].map)];
    }""")
    assert float(expected[1][0]) == pytest.approx(np.abs(values).max(), abs=0.051)


def test_a_card_says_of_how_many_pictures_its_map_is(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._BYTES", 0)  # five classes are kept
    monkeypatch.setattr("cam.report.evidence.TOP", 2)
    _, report, _ = errors_reported(tmp_path)
    pairs = index_of(report)["summary"]["pairs"]
    fewer = [n for n, pair in enumerate(pairs) if 0 < pair["maps"] < pair["count"]]
    none = [n for n, pair in enumerate(pairs) if not pair["maps"]]
    assert fewer or none
    with opened(browser, report) as page:
        page.keyboard.press("s")
        for n, pair in enumerate(pairs):
            said = page.locator("#pairs .card").nth(n).locator(".path").inner_text()
            assert (f", map of {pair['maps']}" in said) == (n in fewer)
            assert ("map not kept" in said) == (n in none)
