"""The report in Chromium: precision and recall, the confusion matrix, and photographs of confusions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import listed, opened, state, wait_for_picture
from playwright.sync_api import Browser, Page
from reports import COUNT, SHOWN, forty_maps, index_of, report_on_two, wrong_ones
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from small import photo

from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder


@pytest.fixture
def classes_of(reported) -> tuple[list[int], list[int]]:
    """True and predicted classes of the pictures."""
    records = reported[2]
    return [record["truth"] for record in records], [record["targets"][0]["class_idx"] for record in records]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def test_the_table_has_precision_recall_and_what_a_class_is_taken_for(page, classes_of):
    truth, predicted = classes_of
    page.click("#view-summary")
    counts = confusion_matrix(truth, predicted, labels=range(5))
    precision, recall = (
        score(truth, predicted, labels=range(5), average=None, zero_division=np.nan)
        for score in (precision_score, recall_score)
    )
    rows = page.locator("#groups tr")
    assert page.locator("#summary .table").evaluate("(box) => box.scrollWidth - box.clientWidth") == 0
    assert rows.count() == 1 + np.count_nonzero(counts.sum(0) + counts.sum(1))
    accuracy = percent(np.trace(counts) / COUNT)
    assert rows.first.locator("td").all_inner_texts()[:4] == [
        str(COUNT),
        accuracy,
        accuracy,
        f"others ({COUNT - np.trace(counts)})",
    ]
    for line in rows.all()[1:]:
        c = int(line.get_attribute("data-class"))
        cells = line.locator("td").all_inner_texts()
        assert cells[0] == str(predicted.count(c))
        expected = [percent(score[c]) if np.isfinite(score[c]) else "\u2013" for score in (precision, recall)]
        assert cells[1:3] == expected
        wrong = np.where(np.arange(5) == c, 0, counts[c])
        others = np.where(np.arange(5) == c, 0, counts[:, c])
        mistaken = f"for it: {SHOWN[others.argmax()]} ({others.max()})" if others.any() else "\u2013"
        assert cells[3] == (f"{SHOWN[wrong.argmax()]} ({wrong.max()})" if wrong.any() else mistaken)
        line.locator("button").click()
        text = page.locator("#group-text").inner_text()
        assert f", {truth.count(c)} with this true class. Precision {expected[0]}, recall {expected[1]}." in text
        assert ("Taken for:" in text) == wrong.any()
        assert ("Others taken for it:" in text) == (counts[:, c].sum() > counts[c, c])


def cell(page: Page, truth: int, predicted: int):
    return page.locator("#matrix tr").nth(1 + truth).locator("td").nth(predicted)


def test_the_matrix_counts_and_opens_the_pictures_of_each_pair(page, classes_of):
    truth, predicted = classes_of
    page.click("#view-summary")
    assert page.locator("#matrix tr").first.locator("th").all_inner_texts() == SHOWN
    assert page.locator("#matrix th[scope=row]").all_inner_texts() == SHOWN
    counts = confusion_matrix(truth, predicted, labels=range(5))
    for a, b in np.ndindex(5, 5):
        assert cell(page, a, b).inner_text() == (str(counts[a, b]) if counts[a, b] else "")
    wrong = counts * (1 - np.eye(5, dtype=int))
    for a, b in (np.unravel_index(wrong.argmax(), (5, 5)), (counts.diagonal().argmax(),) * 2):
        cell(page, a, b).locator("button").click()
        wait_for_picture(page)
        expected = [n for n, pair in enumerate(zip(truth, predicted, strict=True)) if pair == (a, b)]
        assert listed(page) == expected
        assert state(page, "picture") == expected[0]
        assert state(page, "evidence") == ("logit" if a == b else "contrast")
        page.keyboard.press("s")


def test_the_summary_says_that_filters_do_not_apply_to_it(page):
    page.click("#view-summary")
    assert page.locator("#unfiltered").is_hidden()
    page.evaluate("gapcam.state.set({ show: 'wrong' })")
    assert page.locator("#unfiltered").is_visible()
    assert page.locator("#groups td").first.inner_text() == str(COUNT)


def test_cards_show_the_most_confident_photograph(page, reported):
    records = reported[2]
    page.click("#view-summary")
    shares = [record["targets"][0]["probability"] for record in records]
    first = page.evaluate("(({ truth, predicted }) => [truth, predicted])(gapcam.data.index.summary.confusions[0])")
    pairs = [[record["truth"], record["targets"][0]["class_idx"]] for record in records]
    best = max((n for n in wrong_ones(records) if pairs[n] == first), key=shares.__getitem__)
    card = page.locator("#cards .card").first
    card.locator("img[src^='data:image/jpeg']").wait_for()
    thumbnail = page.evaluate("(n) => gapcam.data.index.pictures[n].preview.thumbnail", best)
    assert card.locator("img").get_attribute("src").endswith(thumbnail)
    assert card.locator(".texts > span").all_text_contents() == [SHOWN[first[0]], f"taken for {SHOWN[first[1]]}"]


def test_table_matrix_and_cards_are_one_tab_stop_each(page):
    page.click("#view-summary")
    for box in ("groups", "matrix", "cards"):
        buttons = page.locator(f"#{box} button")
        assert page.locator(f"#{box} button[tabindex='0']").count() == 1
        buttons.first.focus()
        page.keyboard.press("ArrowRight")
        assert buttons.nth(1).evaluate("(button) => button === document.activeElement && button.tabIndex === 0")
        page.keyboard.press("End")
        assert buttons.last.evaluate("(button) => button === document.activeElement")
        page.keyboard.press("Home")
    page.locator("#matrix tr").nth(1).locator("button").last.focus()
    place = "({ x, width, y }) => [x + width / 2, y]"
    middles = page.evaluate(
        f"[...document.querySelectorAll('#matrix button')].map((b) => b.getBoundingClientRect()).map({place})"
    )
    here = f"({place})(document.activeElement.getBoundingClientRect())"
    x, y = page.evaluate(here)
    page.keyboard.press("ArrowDown")
    line = min(top for _, top in middles if top > y + 2)
    in_line = [middle for middle in middles if abs(middle[1] - line) < 2]
    assert page.evaluate(here) == min(in_line, key=lambda middle: abs(middle[0] - x)) != min(in_line)
    page.keyboard.press("ArrowUp")
    assert page.evaluate(here)[1] == y


def test_without_true_classes_there_is_nothing_to_score(browser: Browser, tmp_path: Path):
    with opened(browser, report_on_two(forty_maps(), tmp_path), "#view=summary") as page:
        assert page.locator("#groups tr").first.locator("td").count() == 2
        assert page.locator("th.needs-truth").first.is_hidden()
        assert page.locator("#matrix-box").is_hidden()
        assert page.locator("#confusions").is_hidden()


def test_of_many_classes_the_pairs_are_listed_instead_of_a_matrix(browser: Browser, tmp_path: Path):
    for number in range(36):
        write_image(tmp_path / "photos" / f"{number:02}.png", photo(36, 36, number))
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(forty_maps(), find_pictures([tmp_path / "photos"]), tmp_path / "run", options)
    for classes, has_matrix in ((36, False), (20, True)):
        lines = [f"{number:02}.png,{number % classes}" for number in range(36)]
        (tmp_path / "truth.csv").write_text("\n".join(["path,label", *lines]))
        report = write_report(tmp_path / "run", str(tmp_path / "truth.csv"))
        confusions = index_of(report)["summary"]["confusions"]
        with opened(browser, report, "#view=summary") as page:
            assert page.locator("#matrix-box").is_visible() == has_matrix
            assert page.locator("#cards .card").count() == len(confusions) > 10
            never = page.locator("#groups tr", has_text="\u2013").last  # a class that was never predicted
            assert [never.locator("td").nth(n).inner_text() for n in (0, 1, 2)] == ["0", "\u2013", "0.0 %"]
            never.locator("button").click()
            assert page.locator("#group-text").inner_text().startswith("0 pictures with this prediction, ")
            assert page.locator("#group-map").is_hidden()
