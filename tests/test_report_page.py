"""The report in Chromium: pictures, cells, keys and filters; names and labels never become markup."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import listed, opened, read_number, show_picture, state, wait_for_picture
from reports import COUNT, NAMES, SHOWN, wrong_ones

import cam
from cam.maps.projection import cell_positions


def test_names_and_labels_are_shown_as_text(page, reported):
    classifier, _, records = reported
    names = [Path(record["path"]).name for record in records]
    assert page.locator("#rows .path bdi").all_inner_texts()[: len(NAMES)] == names[: len(NAMES)]
    assert set(NAMES) <= set(names)
    assert page.evaluate("document.title") == f"{classifier.name}, {COUNT} pictures"
    assert page.locator("#rows img[src=x], #chips img, #name img, b").count() == 0
    predicted = [SHOWN[record["targets"][0]["class_idx"]] for record in records]
    assert page.locator("#rows .prediction bdi").all_text_contents() == predicted[: page.locator("#rows .row").count()]
    for number, record in enumerate(records[:6]):
        show_picture(page, number)
        assert page.locator("#name").text_content() == record["name"]
        assert page.locator("#name").get_attribute("title") == record["path"]
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top.map(([c]) => c)", number)
        assert page.locator("#chips .name").all_text_contents() == [SHOWN[c] for c in top]
    page.keyboard.press("s")
    assert "torn" not in page.locator("#failed").inner_text()
    assert "broken.png" in page.locator("#failed").inner_text()
    assert page.locator("#summary img:not([src^='data:'])").count() == 0


def test_the_policy_forbids_connections_and_injected_code(reported, browser):
    text = reported[1].read_text("ascii")
    assert "default-src 'none'" in text
    assert "connect-src" not in text  # default-src applies
    assert "file:" not in text.split("Content-Security-Policy")[1].split(">")[0]
    assert " onerror=" not in text.replace('\\"', "").split("<script type", 1)[0]
    with opened(browser, reported[1], refused="Content Security Policy") as page:
        fetched = page.evaluate("() => fetch('https://example.invalid/').then(() => 'loaded', () => 'refused')")
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.owned = 1";
            document.head.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.owned = 2'>");
        }""")
        page.wait_for_timeout(100)
        assert (fetched, page.evaluate("window.owned")) == ("refused", None)


def test_the_first_picture_has_the_numbers_of_python(page, reported):
    classifier, _, records = reported
    expected = cam.explain(classifier, records[0]["path"])
    assert page.locator("#chips .chip").first.locator(".number").all_inner_texts() == [
        f"{expected.logit:.2f}".replace("-", "\u2212"),
        f"{100 * expected.probability:.1f} %",
    ]
    text = page.locator("#sums").inner_text().replace("\u2212", "-").split(SHOWN[expected.class_idx])[1]
    numbers = [float(number) for number in re.findall(r"-?\d[\d.]*", text)]
    sums = [expected.cam.size, float(expected.cam.mean()), expected.bias, expected.logit, expected.logit]
    assert numbers == pytest.approx(sums, abs=2e-3)


@pytest.mark.parametrize(("y", "x"), [(0.3, 0.35), (0.62, 0.5), (0.5, 0.8)])
def test_a_hovered_cell_has_the_numbers_of_python(page, reported, y, x):
    classifier, _, records = reported
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    explanations = [cam.explain(classifier, records[0]["path"], class_idx) for class_idx in range(5)]
    first = explanations[0]
    rows, columns = cell_positions(first.cam.shape, first.grid, first.frame)
    height, width = first.frame.photo
    row, column = np.abs((rows + 0.5) / height - y).argmin(), np.abs((columns + 0.5) / width - x).argmin()
    assert page.locator("#cell-title").inner_text().startswith(f"Row {row + 1}, column {column + 1} of")
    expected = sorted(((float(one.cam[row, column]), one.class_idx) for one in explanations), reverse=True)
    shown = page.locator("#cell tr")
    assert shown.count() == 5
    for n, (value, class_idx) in enumerate(expected):
        assert shown.nth(n).locator("bdi").inner_text() == SHOWN[class_idx]
        assert read_number(shown.nth(n).locator(".number")) == pytest.approx(value, abs=1.1e-3)


def test_no_cell_is_shown_outside_of_what_the_network_saw(page):
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
    assert page.locator("#marker").is_hidden()
    assert "Point at" in page.locator("#cell-title").inner_text()


def test_clicks_and_keys_pin_a_cell(page):
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert state(page, "pin") is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    assert ", pinned" in page.locator("#cell-title").inner_text()
    page.keyboard.press("Escape")
    assert state(page, "pin") is None
    page.locator("#stage").focus()
    page.keyboard.press("Enter")
    first = state(page, "pin")
    columns = page.evaluate("gapcam.picture.view.picture.columns.length")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert state(page, "pin") == first + columns + 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert state(page, "pin") == first


def test_every_key_does_what_the_help_says(page):
    top = page.evaluate("gapcam.data.index.pictures[0].top.map(([c]) => c)")
    for key in "54321":
        page.keyboard.press(key)
        assert state(page, "class") == top[int(key) - 1]
    steps = [(lambda key=key: page.keyboard.press(key), by) for key, by in zip("jk", (1, -1), strict=True)]
    steps += [(lambda: page.keyboard.press("ArrowRight"), 1), (lambda: page.keyboard.press("ArrowLeft"), -1)]
    for step, by in [*steps, (lambda: page.click("#next"), 1), (lambda: page.click("#previous"), -1)]:
        before = state(page, "picture")
        step()
        wait_for_picture(page)
        assert state(page, "picture") == before + by
    page.keyboard.press("o")
    assert page.locator("#heat-canvas").is_hidden()
    page.keyboard.press("O")
    assert page.locator("#heat-canvas").is_visible()
    page.keyboard.press("c")
    assert state(page, "evidence") == "contrast"
    page.keyboard.press("c")
    assert state(page, "evidence") == "logit"
    page.keyboard.press("/")
    page.keyboard.type("oj")  # typed text is no shortcut
    assert (state(page, "text"), state(page, "heat"), state(page, "picture")) == ("oj", "on", 0)
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert page.locator("#summary").is_visible()
    page.keyboard.press("s")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("o")
    assert state(page, "heat") == "on"
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()


def rows_of(page) -> list[dict]:
    return page.evaluate("gapcam.data.index.pictures.map(({ preview, ...row }) => row)")


def test_filters(page, reported):
    records, rows = reported[2], rows_of(page)
    wrong = wrong_ones(records)
    page.select_option("#show", "wrong")
    assert listed(page) == wrong != []
    assert page.locator("#count").inner_text() == f"{len(wrong)} of {COUNT} pictures; 1 failed"
    page.select_option("#show", "right")
    assert listed(page) == [n for n in range(COUNT) if n not in wrong]
    page.click("#clear")
    assert listed(page) == list(range(COUNT))
    margins = [row["top"][0][1] - row["top"][1][1] for row in rows]
    median = float(np.median(margins))
    page.locator("#low-margin").press_sequentially(str(median))  # filters without leaving the field
    assert listed(page) == [n for n in range(COUNT) if margins[n] < median]
    page.click("#clear")
    c = rows[0]["top"][0][0]
    page.locator("#of").press_sequentially(f"{c} ")  # while typing
    assert listed(page) == [n for n, row in enumerate(rows) if c in (row["top"][0][0], row["truth"])]
    page.click("#clear")
    confusions = [f"{row['truth']}>{row['top'][0][0]}" for row in rows]
    page.select_option("#confusion", confusions[wrong[0]])
    assert listed(page) == [n for n in wrong if confusions[n] == confusions[wrong[0]]]
    page.click("#clear")
    page.fill("#text", "QUOTE'")
    assert [records[n]["path"].endswith(NAMES[1]) for n in listed(page)] == [True]


def test_a_filter_shows_its_first_match_or_says_that_there_is_none(page, browser, reported):
    wrong = wrong_ones(reported[2])
    show_picture(page, wrong[1] + 1)
    page.select_option("#show", "wrong")
    wait_for_picture(page)
    assert state(page, "picture") == wrong[0]
    show_picture(page, wrong[2])
    page.locator("#of").press_sequentially(f"{rows_of(page)[wrong[2]]['truth']}")
    assert state(page, "picture") == wrong[2]  # still among the matches
    stage = page.locator("#stage").bounding_box()
    page.fill("#of", "no such class")
    messages = page.locator(".nothing:visible")
    assert messages.all_inner_texts() == ["No picture matches these filters."] * 2  # in the list and
    message = messages.last.bounding_box()
    assert stage["x"] <= message["x"] + message["width"] / 2 <= stage["x"] + stage["width"]
    assert abs(message["y"] + message["height"] / 2 - stage["y"] - stage["height"] / 2) < stage["height"] / 2
    assert not any(page.locator(name).is_visible() for name in ("#stage", "#answer", "#chips", "#list"))
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    tiles, message = page.locator("#grid").bounding_box(), page.locator("#grid .nothing").bounding_box()
    assert tiles["x"] <= message["x"] < message["x"] + message["width"] <= tiles["x"] + tiles["width"]
    page.click("#clear")
    page.locator("#tiles .tile").first.wait_for()
    page.keyboard.press("g")
    assert (page.locator(".nothing:visible").count(), page.locator("#stage").is_visible()) == (0, True)
    with opened(browser, reported[1], f"#show=right&picture={NAMES[4]}") as other:
        assert state(other, "picture") == listed(other)[0]


def test_sorting(page):
    rows = rows_of(page)
    keys = {
        "confidence": [row["top"][0][2] for row in rows],
        "margin": [row["top"][0][1] - row["top"][1][1] for row in rows],
        "completeness": [row["completeness"] for row in rows],
        "border": [row["border"] for row in rows],
    }
    for sort, values in keys.items():
        page.select_option("#sort", sort)
        down = sort in ("completeness", "border")  # large values are suspicious
        for largest_first in (down, not down):
            assert [values[n] for n in listed(page)] == sorted(values, reverse=largest_first)
            assert ("largest" in page.locator("#order").inner_text()) == largest_first
            page.click("#order")
    page.select_option("#sort", "lead")  # not the evidence of that name
    assert page.locator("label", has=page.locator("#low-margin")).inner_text().strip() == "Lead below"
    lead = keys["margin"][listed(page)[0]]
    assert page.locator("#rows .truth .number").first.inner_text() == f"lead {lead:.2f}"


def test_one_click_explains_why_a_and_not_b(page, reported):
    classifier, _, records = reported
    number = wrong_ones(records)[1]
    page.locator(f"#rows [data-number='{number}']").click()
    wait_for_picture(page)
    page.click("#why button >> nth=0")
    record = records[number]
    predicted, truth = record["targets"][0]["class_idx"], record["truth"]
    assert [state(page, key) for key in ("evidence", "class", "against")] == ["contrast", predicted, truth]
    expected = cam.explain(classifier, record["path"], predicted, evidence="contrast", against=truth)

    def values():
        return np.reshape(page.evaluate("[...gapcam.picture.view.values]"), expected.evidence_map.shape)

    assert np.abs(values() - expected.evidence_map).max() <= 1e-3
    margin = page.locator("#sums div").last.inner_text().split()[-1].replace("\u2212", "-")
    assert float(margin) == pytest.approx(expected.margin, abs=1.1e-3)
    page.click("#swap")
    assert np.abs(values() + expected.evidence_map).max() <= 1e-3
