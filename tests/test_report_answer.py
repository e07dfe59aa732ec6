"""The report in Chromium: the sentence below the photograph, the cells it points at, and the legend."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from browser import opened, read_number, show_picture, state, wait_for_picture
from playwright.sync_api import Page
from reports import SHOWN, forty_maps, report_on_two, wrong_ones
from small import gap_linear
from torch import nn

import cam


def outlined(page: Page) -> set[int]:
    """The cells whose middle lies inside the outline: an odd number of its lines is to the left."""
    path = page.locator("#outline path").first.get_attribute("d") or ""
    lines = [list(map(float, line)) for line in re.findall(r"M([\d.e-]+) ([\d.e-]+)V([\d.e-]+)", path)]
    rows, columns = page.evaluate("(({ rows, columns }) => [rows, columns])(gapcam.picture.view.picture)")
    middles = [(y, x) for y in rows for x in columns]
    return {
        cell
        for cell, (y, x) in enumerate(middles)
        if sum(left < x and top < y < bottom for left, top, bottom in lines) % 2
    }


def assert_fewest_with_half(cells: set[int], values: np.ndarray) -> None:
    """Check that cells are the fewest with more than half of the positive evidence, for values stored to 0.001."""
    inside, outside = values.flat[list(cells)], np.delete(values, list(cells))
    half = np.clip(values, 0, None).sum() / 2
    assert inside.min() >= outside.max() - 2e-3
    assert half - 1e-3 * len(inside) < inside.sum() < half + inside.min() + 1e-3 * len(inside)


def test_a_sentence_names_the_lead_and_outlines_where_most_of_it_comes_from(page, reported):
    classifier, _, records = reported
    for number in wrong_ones(records)[:4]:
        show_picture(page, number)
        predicted, truth = records[number]["targets"][0]["class_idx"], records[number]["truth"]
        expected = cam.explain(classifier, records[number]["path"], predicted, evidence="contrast", against=truth)
        cells = outlined(page)
        assert_fewest_with_half(cells, expected.evidence_map)
        assert 1 < len(cells) < 128
        text = page.locator("#answer").inner_text()
        assert text.startswith(f"{SHOWN[predicted]} leads {SHOWN[truth]} by {expected.margin:.2f} logits; ")
        assert text.endswith(f" comes from here (the {len(cells)} outlined cells of 256).")
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top.map(([c]) => c)", number)
        page.keyboard.press(str(1 + top.index(truth)))  # the leader stays the same
        assert page.locator("#answer").inner_text() == text
        assert outlined(page) == cells
    page.keyboard.press("3")
    assert page.locator("#answer bdi").all_text_contents() == [SHOWN[predicted], SHOWN[top[2]]]
    assert page.locator("#answer").evaluate("(answer) => answer.previousElementSibling.id") == "stage"


def test_the_sentence_says_how_much_is_bias(browser, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network[-1].bias.data = torch.tensor([9.0, 2.0])
    network[-1].weight.data = torch.tensor([[0.0, 0.0, 0.0, 0.1], [0.0, 0.0, 0.0, -0.1]])
    report = report_on_two(cam.wrap(network, input_size=32, labels=["ship", "bird"]), tmp_path)
    with opened(browser, report) as page:
        classifier = cam.wrap(network, input_size=32)
        lead = cam.explain(classifier, tmp_path / "photos" / "0.png", 0, evidence="contrast").margin
        expected = rf"ship leads bird by {lead:.2f} logits; its bias gives 7.00, most of the evidence comes from here "
        assert re.match(expected, page.locator("#answer").inner_text())
        network[-1].weight.data.zero_()
    (tmp_path / "zero").mkdir()
    with opened(browser, report_on_two(cam.wrap(network, input_size=32), tmp_path / "zero")) as page:
        assert page.locator("#answer").inner_text() == "class 0 leads class 1 by 7.00 logits; no cell speaks for it."
        assert outlined(page) == set()


def test_a_single_score_has_a_sentence_too(browser, tmp_path):
    torch.manual_seed(1)
    classifier = cam.wrap(gap_linear(1), input_size=32, labels=["price"], activation="none")
    with opened(browser, report_on_two(classifier, tmp_path)) as page:
        expected = cam.explain(classifier, tmp_path / "photos" / "0.png", 0)
        assert_fewest_with_half(outlined(page), expected.cam)
        start = f"price reaches {expected.logit:.2f}; ".replace("-", "\u2212")
        assert page.locator("#answer").inner_text().startswith(start)


def test_a_lead_without_its_map_is_not_explained(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._MAX_BYTES", 4000)
    with opened(browser, report_on_two(forty_maps(), tmp_path)) as page:
        stored = page.evaluate("gapcam.picture.view.picture.classes")
        page.evaluate("(c) => gapcam.state.set({ class: c })", min(set(range(40)) - set(stored)))
        assert page.locator("#answer").inner_text().endswith("; the map that says where it comes from is not stored.")
        assert outlined(page) == set()


def ends(page: Page) -> list[str]:
    return [page.locator(end).inner_text() for end in ("#low-name", "#high-name")]


def test_why_opens_on_the_scale_of_the_picture_with_names_at_its_ends(page, reported):
    classifier, _, records = reported
    number = wrong_ones(records)[0]
    show_picture(page, number)
    predicted, truth = records[number]["targets"][0]["class_idx"], records[number]["truth"]
    assert ends(page) == ["against \u2190", "\u2192 for"]
    caption = page.locator("#caption").inner_text()
    assert caption == f"Evidence for {SHOWN[predicted]}: warm speaks for it, cold against it"
    page.click("#why")
    assert page.locator("#scale").input_value() == "picture"
    contrast = cam.explain(classifier, records[number]["path"], predicted, evidence="contrast", against=truth)
    peak = np.abs(contrast.evidence_map).max()
    assert read_number(page.locator("#high")) == pytest.approx(peak, abs=0.051)
    assert read_number(page.locator("#low")) == pytest.approx(-peak, abs=0.051)
    assert page.locator("#middle").inner_text() == "0"
    assert ends(page) == [f"{SHOWN[truth]} \u2190", f"\u2192 {SHOWN[predicted]}"]
    caption = page.locator("#caption").inner_text()
    assert caption.endswith(f": warm for {SHOWN[predicted]}, cold for {SHOWN[truth]}")
    assert page.locator("#why").get_attribute("aria-pressed") == "true"
    page.click("#why")
    assert (state(page, "evidence"), page.locator("#why").get_attribute("aria-pressed")) == ("logit", "false")
    assert page.locator("#scale").input_value() == "run"
    vmax = page.evaluate("gapcam.data.index.drawing.vmax")
    assert read_number(page.locator("#high")) == pytest.approx(vmax, abs=0.051)
    page.select_option("#scale", "run")
    page.keyboard.press("c")  # a scale that was chosen stays
    assert (state(page, "evidence"), page.locator("#scale").input_value()) == ("contrast", "run")


def test_colors_are_explained_for_every_kind_and_color_map(page):
    name = page.locator("#verdict .name").inner_text()
    page.click("#evidence [value=margin]")
    assert page.locator("#caption").inner_text().endswith(": warm where it does, cold where another leads")
    assert ends(page) == ["another leads \u2190", f"\u2192 {name}"]
    page.click("#evidence [value=posterior]")
    assert page.locator("#caption").inner_text().endswith(": the more color, the more probable")
    assert ends(page) == ["", "\u2192 probable"]
    page.click("#evidence [value=logit]")
    page.select_option("#colormap", "viridis")
    expected = f"Evidence for {name}: the more color, the more of it; the opposite is left out"
    assert page.locator("#caption").inner_text() == expected
    assert ends(page) == ["", "\u2192 for"]


def test_technical_remarks_open_on_request(page):
    assert page.locator("#stored").is_hidden()
    assert "\u00b1" not in page.locator("body").inner_text()
    page.locator("#remarks summary").focus()
    page.keyboard.press("Enter")
    remarks = page.locator("#remarks").inner_text()
    assert "Stored for this picture: the maps of all 5 classes." in remarks
    assert "Cells are stored to \u00b10.0005 logits." in remarks
    assert "Outlined are the fewest cells that have more than half of the positive evidence" in remarks
    page.evaluate("gapcam.state.set({ scale: 'run' })")
    peak, vmax = page.evaluate("[gapcam.evidence.peak(gapcam.picture.view.values), gapcam.data.index.drawing.vmax]")
    assert page.locator("#largest").is_visible() == (peak > vmax)
    page.select_option("#scale", "picture")
    assert page.locator("#largest").is_hidden()
    page.keyboard.press("j")
    wait_for_picture(page)
    assert page.locator("#remarks").get_attribute("open") is not None
