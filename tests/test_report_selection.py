"""The report in Chromium: pictures that the user selects."""

from __future__ import annotations

import pytest
from browser import listed, opened, state, wait_for_picture
from playwright.sync_api import Page
from reports import COUNT, wrong_ones


def selected(page: Page) -> list[int]:
    return page.evaluate("gapcam.selection.all()")


def checked(page: Page, box: str) -> list[int]:
    """Numbers of the pictures with a check mark."""
    items = page.locator(f"#{box} [data-number]:has(.check)")
    return sorted(items.evaluate_all("(items) => items.map((item) => Number(item.dataset.number))"))


@pytest.mark.parametrize("box", ["list", "tiles"])
@pytest.mark.parametrize("key", ["Control", "Meta"])
def test_clicks_with_a_key_select(browser, reported, box, key):
    with opened(browser, reported[1], "#view=grid") as page:
        item = page.locator(f"#{box} [data-number]")
        item.nth(2).click(modifiers=[key])
        item.nth(5).click(modifiers=[key])
        assert (selected(page), checked(page, box), state(page, "picture")) == ([2, 5], [2, 5], 5)
        assert page.inner_text("#selected-count") == "2 selected"
        item.nth(3).click(modifiers=["Shift"])  # from 5 back to 3
        assert (selected(page), state(page, "view")) == ([2, 3, 4, 5], "grid")
        item.nth(7).click(modifiers=["Shift"])  # from 3
        item.nth(4).click(modifiers=[key])
        assert (selected(page), checked(page, box)) == ([2, 3, 5, 6, 7], [2, 3, 5, 6, 7])
        assert page.evaluate("[String(getSelection()), document.activeElement.id]") == ["", box]
        assert item.nth(2).get_attribute("aria-selected") == "false"  # the current picture is another
        assert item.nth(2).locator(".check").text_content() == "selected"
        assert page.locator("[aria-selected=true]").first.get_attribute("data-number") == "4"


def test_the_key_x_selects_the_current_picture(page):
    page.keyboard.press("x")
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("X")
    assert selected(page) == [0, 1]
    page.keyboard.press("x")
    assert (selected(page), checked(page, "list")) == ([0], [0])
    page.keyboard.press("s")
    page.keyboard.press("x")  # no picture is shown
    assert selected(page) == [0]
    page.keyboard.press("/")
    page.keyboard.type("x")
    assert (selected(page), state(page, "text")) == ([0], "x")


def test_all_that_the_filters_list_are_selected_and_listed_alone(page, reported):
    wrong = wrong_ones(reported[2])
    assert page.locator("#selected-only").is_hidden()
    page.select_option("#show", "wrong")
    page.click("#select-all")
    page.click("#clear")
    assert (len(listed(page)), selected(page)) == (COUNT, wrong)
    page.check("#selected-only")
    assert listed(page) == wrong
    assert page.inner_text("#count") == f"{len(wrong)} of {COUNT} pictures; 1 failed"
    page.locator("#rows .row").nth(2).click(modifiers=["Control"])  # no longer: the next one takes its place
    rest = wrong[:2] + wrong[3:]
    assert (listed(page), state(page, "picture")) == (rest, rest[0])
    page.locator("#rows .row").nth(2).click()
    page.keyboard.press("x")
    wait_for_picture(page)
    assert (listed(page), state(page, "picture")) == (rest[:2] + rest[3:], rest[3])
    page.click("#select-none")
    assert (selected(page), len(listed(page)), state(page, "selected")) == ([], COUNT, "off")
    assert page.locator("#selected-only").is_hidden()
    assert page.inner_text("#selected-count") == ""


def test_the_grid_lists_the_selected_alone(browser, reported):
    with opened(browser, reported[1], "#view=grid&selected=on") as page:
        assert (len(listed(page)), state(page, "selected")) == (COUNT, "off")  # nothing is selected yet
        page.evaluate("gapcam.selection.set([1, 4, 9])")
        page.check("#selected-only")
        assert page.locator("#tiles .tile").count() == 3
        page.evaluate("gapcam.selection.set([4, 9, 11, 12])")
        tiles = "[...document.querySelectorAll('#tiles .tile')].map((tile) => Number(tile.dataset.number))"
        assert page.evaluate(tiles) == [4, 9, 11, 12] == listed(page)


def test_others_hear_of_the_selection(page):
    page.evaluate("""() => {
        window.heard = [];
        gapcam.selection.listen(() => heard.push(gapcam.selection.all()));
        gapcam.selection.set([7, 3]);
        gapcam.selection.toggle(3);
        gapcam.selection.toggle(5);
    }""")
    assert page.evaluate("heard") == [[3, 7], [7], [5, 7]]
    assert page.evaluate("[5, 6].map(gapcam.selection.has)") == [True, False]
