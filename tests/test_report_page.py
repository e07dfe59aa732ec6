"""The report in a real browser: a picture, its places, keys and filters; names that are no more than names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import opened, ready
from reports import COUNT, LABELS, NAMES, listed, state, wrong

import cam
from cam.maps.projection import cell_positions


def test_names_are_shown_as_they_are_and_do_nothing(page, reported):
    _, _, records = reported
    assert page.locator("#rows .path bdi").all_inner_texts()[: len(NAMES)] == [
        Path(r["path"]).name for r in records[:6]
    ]
    assert set(NAMES) <= {Path(record["path"]).name for record in records}
    assert page.evaluate("document.title") == f"{reported[0].name}, {COUNT} pictures"
    assert page.locator("#rows img[src=x], #chips img, #name img, b").count() == 0
    predicted = [LABELS[record["targets"][0]["class_idx"]] for record in records]
    assert page.locator("#rows .prediction bdi").all_text_contents() == predicted[: page.locator("#rows .row").count()]
    for number, record in enumerate(records[:6]):
        page.evaluate("(n) => gapcam.state.open(n)", number)
        ready(page)
        assert page.locator("#name").text_content() == record["name"]
        assert page.locator("#name").get_attribute("title") == record["path"]
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top.map(([c]) => c)", number)
        assert page.locator("#chips .name").all_text_contents() == [LABELS[c] for c in top]
    page.keyboard.press("s")
    assert "torn" not in page.locator("#failed").inner_text()
    assert "broken.png" in page.locator("#failed").inner_text()
    assert page.locator("#summary img").count() == 0


def test_the_policy_forbids_the_network_and_code_that_comes_from_elsewhere(reported, browser):
    text = reported[1].read_text("ascii")
    assert "default-src 'none'" in text
    assert "connect-src" not in text  # so that it is that of default-src
    assert "file:" not in text.split("Content-Security-Policy")[1].split(">")[0]
    assert " onerror=" not in text.replace('\\"', "").split("<script type", 1)[0]
    with opened(browser, reported[1], refused="Content Security Policy") as page:
        fetched = page.evaluate("() => fetch('https://example.invalid/').then(() => 'there', () => 'refused')")
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.owned = 1";
            document.head.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.owned = 2'>");
        }""")
        page.wait_for_timeout(100)
        assert (fetched, page.evaluate("window.owned")) == ("refused", None)


def test_the_first_picture_is_there_with_its_numbers(page, reported):
    classifier, _, records = reported
    ours = cam.explain(classifier, records[0]["path"])
    assert page.locator("#chips .chip").first.locator(".number").all_inner_texts() == [
        f"{ours.logit:.2f}".replace("-", "\u2212"),
        f"{100 * ours.probability:.1f} %",
    ]
    part = float(ours.cam.mean())
    told = page.locator("#sums").inner_text().replace("\u2212", "-").split(LABELS[ours.class_idx])[1]
    numbers = [float(number) for number in re.findall(r"-?\d[\d.]*", told.partition(" (cells are kept to 0.0005)")[0])]
    assert numbers == pytest.approx([ours.cam.size, part, ours.bias, ours.logit, ours.logit], abs=2e-3)


@pytest.mark.parametrize(("y", "x"), [(0.3, 0.35), (0.62, 0.5), (0.5, 0.8)])
def test_a_hovered_place_says_what_python_says(page, reported, y, x):
    classifier, _, records = reported
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    maps = [cam.explain(classifier, records[0]["path"], class_idx) for class_idx in range(5)]
    ours = maps[0]
    rows, columns = (np.array(values) for values in cells(ours))
    height, width = ours.frame.photo
    row, column = np.abs((rows + 0.5) / height - y).argmin(), np.abs((columns + 0.5) / width - x).argmin()
    assert page.locator("#place-title").inner_text().startswith(f"Row {row + 1}, column {column + 1} of")
    expected = sorted(((float(each.cam[row, column]), each.class_idx) for each in maps), reverse=True)
    shown = page.locator("#place tr")
    assert shown.count() == 5
    for n, (value, class_idx) in enumerate(expected):
        assert shown.nth(n).locator("bdi").inner_text() == LABELS[class_idx]
        assert float(shown.nth(n).locator(".number").inner_text().replace("\u2212", "-")) == pytest.approx(
            value, abs=1.1e-3
        )


def cells(explanation: cam.Explanation):
    return cell_positions(explanation.cam.shape, explanation.grid, explanation.frame)


def test_nothing_is_said_of_what_was_not_seen(page):
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
    assert page.locator("#marker").is_hidden()
    assert "Point at" in page.locator("#place-title").inner_text()


def test_a_place_is_pinned_by_a_click_and_by_keys(page):
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    pinned = state(page, "pin")
    assert pinned is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    assert ", pinned" in page.locator("#place-title").inner_text()
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


KEYS = {"j": 1, "ArrowRight": 1, "k": -1, "ArrowLeft": -1}


def test_every_key_does_what_help_says(page, reported):
    top = page.evaluate("gapcam.data.index.pictures[0].top.map(([c]) => c)")
    for key in "54321":
        page.keyboard.press(key)
        assert state(page, "class") == top[int(key) - 1]
    presses = [(lambda key=key: page.keyboard.press(key), by) for key, by in KEYS.items()]
    for step, by in [*presses, (lambda: page.click("#next"), 1), (lambda: page.click("#previous"), -1)]:
        before = state(page, "picture")
        step()
        ready(page)
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
    page.keyboard.type("oj")  # no keys while a text is typed
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
    rows = page.evaluate("gapcam.data.index.pictures.map(({ thumbnail, ...row }) => row)")
    assert len(rows) == COUNT
    return rows


def test_filters(page, reported):
    _, _, records = reported
    rows = rows_of(page)
    page.select_option("#show", "wrong")
    assert listed(page) == wrong(records) != []
    assert page.locator("#count").inner_text() == f"{len(wrong(records))} of {COUNT} pictures; 1 not explained"
    page.select_option("#show", "right")
    assert listed(page) == [n for n in range(COUNT) if n not in wrong(records)]
    page.click("#clear")
    assert listed(page) == list(range(COUNT))
    margins = [row["top"][0][1] - row["top"][1][1] for row in rows]
    middle = float(np.median(margins))
    page.locator("#low-margin").press_sequentially(str(middle))  # at once, without leaving the field
    assert listed(page) == [n for n in range(COUNT) if margins[n] < middle]
    page.click("#clear")
    c = rows[0]["top"][0][0]
    page.fill("#of", f"{c} ")
    page.keyboard.press("Tab")
    assert listed(page) == [n for n, row in enumerate(rows) if c in (row["top"][0][0], row["truth"])]
    page.click("#clear")
    first = wrong(records)[0]
    pair = f"{rows[first]['truth']}>{rows[first]['top'][0][0]}"
    page.select_option("#pair", pair)
    assert listed(page) == [n for n in wrong(records) if f"{rows[n]['truth']}>{rows[n]['top'][0][0]}" == pair]
    page.click("#clear")
    page.fill("#text", "QUOTE'")
    assert [records[n]["path"].endswith(NAMES[1]) for n in listed(page)] == [True]
    page.fill("#text", "no such picture")
    assert page.locator("#nothing").is_visible()


def test_sorts(page):
    rows = rows_of(page)
    keys = {
        "confidence": [row["top"][0][2] for row in rows],
        "margin": [row["top"][0][1] - row["top"][1][1] for row in rows],
        "completeness": [row["completeness"] for row in rows],
        "border": [row["border"] for row in rows],
    }
    for sort, values in keys.items():
        page.select_option("#sort", sort)
        down = sort in ("completeness", "border")  # the suspicious first
        for largest_first in (down, not down):
            assert [values[n] for n in listed(page)] == sorted(values, reverse=largest_first)
            assert ("largest" in page.locator("#order").inner_text()) == largest_first
            page.click("#order")


def test_why_a_not_b_is_one_click(page, reported):
    classifier, _, records = reported
    number = wrong(records)[1]
    page.locator(f"#rows [data-number='{number}']").click()
    ready(page)
    page.click("#why")
    record = records[number]
    target = record["targets"][0]
    assert (state(page, "evidence"), state(page, "class"), state(page, "against")) == (
        "contrast",
        target["class_idx"],
        record["truth"],
    )
    ours = cam.explain(classifier, record["path"], target["class_idx"], evidence="contrast", against=record["truth"])
    values = page.evaluate("[...gapcam.picture.view.values]")
    assert np.abs(np.reshape(values, ours.evidence_map.shape) - ours.evidence_map).max() <= 1e-3
    said = page.locator("#sums div").last.inner_text().split()[-1].replace("\u2212", "-")
    assert float(said) == pytest.approx(ours.margin, abs=1.1e-3)
    page.click("#swap")
    assert (
        np.abs(
            np.reshape(page.evaluate("[...gapcam.picture.view.values]"), ours.evidence_map.shape) + ours.evidence_map
        ).max()
        <= 1e-3
    )
