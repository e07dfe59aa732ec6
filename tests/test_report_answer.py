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


def signed_numbers(text: str) -> list[int]:
    """The numbers of a text that have a sign, in hundredths."""
    return [round(100 * float(number.replace("\u2212", "-"))) for number in re.findall(r"[+\u2212]\d+\.\d\d", text)]


def test_the_sentence_and_the_outline_are_of_the_heat(page, reported):
    classifier, _, records = reported
    for number in [*wrong_ones(records)[:2], 1, 2]:
        show_picture(page, number)
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top.map(([c]) => c)", number)
        for key, c in enumerate(top[:3]):
            page.keyboard.press(str(1 + key))
            expected = cam.explain(classifier, records[number]["path"], c)
            cells, text = outlined(page), page.locator("#answer").inner_text()
            assert_fewest_with_half(cells, expected.cam)
            assert text.startswith(f"{SHOWN[c]}, {100 * expected.probability:.1f} %")
            assert f" from here ({len(cells)} of 256 cells, outlined)" in text
            negative = np.clip(expected.cam, None, 0).mean()
            if max(-negative, abs(expected.bias)) < expected.cam.mean() - negative - 0.01:
                continue
            parts = signed_numbers(text)
            assert abs(sum(parts) - 100 * expected.logit) < 0.61
            exact = expected.cam.mean() - negative, negative, expected.bias
            assert parts == pytest.approx([100 * part for part in exact if abs(part) >= 0.005], abs=2)
            assert f", logit {sum(parts) / 100:.2f}: ".replace("-", "\u2212") in text
        for evidence in ("margin", "posterior"):
            page.click(f"#evidence [value={evidence}]")
            values = cam.explain(classifier, records[number]["path"], top[2], evidence=evidence).evidence_map
            assert_fewest_with_half(outlined(page), values) if (values > 0).any() else None
            assert page.locator("#lead").inner_text() == ""
        page.click("#evidence [value=margin]")
        margin = cam.explain(classifier, records[number]["path"], top[2], evidence="margin").evidence_map
        count = f"{SHOWN[top[2]]} leads all other classes in {(margin > 0).sum()} of 256 cells"
        assert page.locator("#answer").inner_text().startswith(count)
        page.click("#evidence [value=logit]")
    assert page.locator("#answer").evaluate("(answer) => answer.previousElementSibling.id") == "stage"


def test_a_contrast_says_both_sides_in_numbers_that_add_up_to_the_lead(page, reported):
    classifier, _, records = reported
    for number in [*wrong_ones(records)[:3], 1]:
        show_picture(page, number)
        page.click("#evidence [value=contrast]")
        a, b = page.evaluate("(({ class: a, against: b }) => [a, b])(gapcam.classes.selection(gapcam.state.current))")
        for verb, one, other in (("leads", a, b), ("trails", b, a)):
            path = records[number]["path"]
            expected = cam.explain(classifier, path, one, evidence="contrast", against=other)
            cells, text = outlined(page), page.locator("#answer").inner_text()
            assert_fewest_with_half(cells, expected.evidence_map)
            lead = re.match(rf"{re.escape(SHOWN[one])} {verb} {re.escape(SHOWN[other])} by ([\d.]+) logits", text)
            assert float(lead[1]) == pytest.approx(abs(expected.margin), abs=0.0061)
            parts = signed_numbers(text)
            assert abs(sum(parts)) == round(100 * float(lead[1]))
            positive, negative = (np.clip(expected.evidence_map, *ends).mean() for ends in ((0, None), (None, 0)))
            bias = cam.explain(classifier, path, one).bias - cam.explain(classifier, path, other).bias
            assert parts == pytest.approx([100 * part for part in (positive, negative, bias)], abs=2)
            assert f" speaks for {SHOWN[one]}, more than half of it from here ({len(cells)} of 256 cells" in text
            assert re.search(rf"\u2212[\d.]+ for {re.escape(SHOWN[other])}, and the biases give ", text)
            page.click("#swap")


def test_the_lead_follows_with_a_button_for_each_rival(page, reported):
    classifier, _, records = reported
    for number, record in enumerate(records[:7]):
        show_picture(page, number)
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top.map(([c]) => c)", number)
        rivals = [c for c in dict.fromkeys((record["truth"], top[1])) if c != top[0]]
        logits = [cam.explain(classifier, record["path"], c).logit for c in (top[0], *rivals)]
        close = [", a close call" if logits[0] - other < 0.195 else "" for other in logits[1:]]
        claims = [
            rf"leads {re.escape(SHOWN[c])} by ([\d.]+) logits{note}" for c, note in zip(rivals, close, strict=True)
        ]
        shown = re.fullmatch(rf"It {', and '.join(claims)}\.", page.locator("#lead").inner_text())
        leads = [logits[0] - other for other in logits[1:]]
        assert list(map(float, shown.groups())) == pytest.approx(leads, abs=0.0061)
        buttons = page.locator("#why button:visible")
        assert buttons.all_inner_texts() == [f"Why {SHOWN[top[0]]}, not {SHOWN[c]}?" for c in rivals]
        for n, c in enumerate(rivals):
            buttons.nth(n).click()
            assert [state(page, key) for key in ("evidence", "class", "against")] == ["contrast", top[0], c]
            pressed = [button.get_attribute("aria-pressed") == "true" for button in buttons.all()]
            assert pressed == [other == c for other in rivals]
        page.click("#evidence [value=logit]")
    page.keyboard.press("3")
    logits = [cam.explain(classifier, record["path"], c).logit for c in (top[0], top[2])]
    lead = logits[0] - logits[1]
    assert page.locator("#lead").inner_text().startswith(f"It trails {SHOWN[top[0]]} by {lead:.2f} logits")
    assert page.locator("#why button:visible").all_inner_texts() == [f"Why {SHOWN[top[0]]}, not {SHOWN[top[2]]}?"]
    page.locator("#why button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#why button").first.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.innerText") == f"Why {SHOWN[top[0]]}, not {SHOWN[top[2]]}?"


def biased(bias: list[float]) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network[-1].bias.data = torch.tensor(bias)
    network[-1].weight.data.zero_()
    return network


def test_the_sentence_says_how_much_is_bias(browser, tmp_path):
    network = biased([9.0, 2.0])
    with opened(browser, report_on_two(cam.wrap(network, input_size=32), tmp_path)) as page:
        expected = "class 0, 99.9 %, logit 9.00: no cell speaks for it, and its bias gives +9.00."
        assert page.locator("#answer").inner_text() == expected
        assert outlined(page) == set()
        page.click("#why button >> nth=0")
        expected = "class 0 leads class 1 by 7.00 logits: no cell speaks for class 0, and the biases give +7.00."
        assert page.locator("#answer").inner_text() == expected


def test_a_small_lead_is_a_close_call(browser, tmp_path):
    for name, bias, note in (("close", 0.19, ", a close call"), ("clear", 0.2, "")):
        (tmp_path / name).mkdir()
        with opened(browser, report_on_two(cam.wrap(biased([bias, 0]), input_size=32), tmp_path / name)) as page:
            assert page.locator("#lead").inner_text() == f"It leads class 1 by {bias:.2f} logits{note}."


def test_a_single_score_has_a_sentence_too(browser, tmp_path):
    torch.manual_seed(1)
    classifier = cam.wrap(gap_linear(1), input_size=32, labels=["price"], activation="none")
    with opened(browser, report_on_two(classifier, tmp_path)) as page:
        expected = cam.explain(classifier, tmp_path / "photos" / "0.png", 0)
        assert_fewest_with_half(outlined(page), expected.cam)
        start = f"price, {expected.logit:.2f}: ".replace("-", "\u2212")
        assert page.locator("#answer").inner_text().startswith(start)
        assert page.locator("#lead").inner_text() == ""
        assert page.locator("#why").is_hidden()


def test_a_lead_without_its_map_is_not_explained(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._MAX_BYTES", 4000)
    with opened(browser, report_on_two(forty_maps(), tmp_path)) as page:
        stored = page.evaluate("gapcam.picture.view.picture.classes")
        missing = min(set(range(40)) - set(stored))
        for evidence in ("logit", "margin", "posterior", "contrast"):
            page.evaluate("(changes) => gapcam.state.set(changes)", {"class": missing, "evidence": evidence})
            answer = page.locator("#answer").inner_text()
            assert answer.endswith("; the map that says where it comes from is not stored.")
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
    page.click("#why button >> nth=0")
    assert page.locator("#scale").input_value() == "picture"
    contrast = cam.explain(classifier, records[number]["path"], predicted, evidence="contrast", against=truth)
    peak = np.abs(contrast.evidence_map).max()
    assert read_number(page.locator("#high")) == pytest.approx(peak, abs=0.051)
    assert read_number(page.locator("#low")) == pytest.approx(-peak, abs=0.051)
    assert page.locator("#middle").inner_text() == "0"
    assert ends(page) == [f"{SHOWN[truth]} \u2190", f"\u2192 {SHOWN[predicted]}"]
    caption = page.locator("#caption").inner_text()
    assert caption.endswith(f": warm for {SHOWN[predicted]}, cold for {SHOWN[truth]}")
    assert page.locator("#why button").first.get_attribute("aria-pressed") == "true"
    page.click("#why button >> nth=0")
    pressed = page.locator("#why button").first.get_attribute("aria-pressed")
    assert (state(page, "evidence"), pressed) == ("logit", "false")
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
    assert "Outlined are the fewest cells that have more than half of the positive values" in remarks
    page.evaluate("gapcam.state.set({ scale: 'run' })")
    peak, vmax = page.evaluate("[gapcam.evidence.peak(gapcam.picture.view.values), gapcam.data.index.drawing.vmax]")
    assert page.locator("#largest").is_visible() == (peak > vmax)
    page.select_option("#scale", "picture")
    assert page.locator("#largest").is_hidden()
    page.keyboard.press("j")
    wait_for_picture(page)
    assert page.locator("#remarks").get_attribute("open") is not None
