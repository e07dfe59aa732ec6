"""The report in Chromium: the list and the grid, with the keyboard and the pointer."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from browser import listed, opened, pixels, show_picture, state, wait_for_picture
from PIL import Image
from playwright.sync_api import Page
from reports import COUNT, SHOWN


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.id")


def active(page: Page, box: str) -> str | None:
    """The number of the picture that a screen reader is at; it must be selected, and in view."""
    return page.locator(f"#{box}").evaluate("""(box) => {
        const item = document.getElementById(box.getAttribute("aria-activedescendant"));
        if (!item || item.getAttribute("aria-selected") !== "true") return null;
        const [outer, inner] = [box.getBoundingClientRect(), item.getBoundingClientRect()];
        return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1 ? item.dataset.number : "out of view";
    }""")


@pytest.mark.parametrize("view", ["pictures", "grid"])
def test_the_list_is_one_tab_stop(browser, reported, view):
    with opened(browser, reported[1], f"#view={view}") as page:
        page.locator("#text").focus()
        stops = []
        for _ in range(40):
            page.keyboard.press("Tab")
            stops.append(focused(page))
            if stops[-1] == "":  # the end of the page
                break
        assert stops.count("list") == 1
        assert stops.count("tiles") == (view == "grid")
        assert page.locator("#list [tabindex], #list button, #tiles [tabindex], #tiles button").count() == 0


@pytest.mark.parametrize("box", ["list", "tiles"])
def test_keys_go_through_the_pictures_from_the_first_to_the_last(browser, reported, box):
    with opened(browser, reported[1], "#view=grid", viewport={"width": 900, "height": 560}) as page:
        page.locator(f"#{box}").focus()
        columns = page.evaluate("(box) => Math.max(1, Math.floor(document.getElementById(box).clientWidth / 132))", box)
        columns = 1 if box == "list" else columns
        assert columns in (1, 4)
        lines = page.evaluate(
            """([box, height]) => Math.floor(document.getElementById(box).clientHeight / height)
        """,
            [box, 64 if box == "list" else 200],
        )
        steps = [("ArrowDown", columns), ("ArrowRight", columns + 1), ("ArrowDown", 2 * columns + 1)]
        below = min(COUNT - 1, columns * (1 + lines))
        steps += [("ArrowLeft", 2 * columns), ("ArrowUp", columns), ("PageDown", below)]
        steps += [
            ("PageUp", max(0, below - columns * lines)),
            ("End", COUNT - 1),
            ("ArrowDown", COUNT - 1),
            ("Home", 0),
            ("ArrowUp", 0),
        ]
        for key, expected in steps:
            page.keyboard.press(key)
            assert (state(page, "picture"), active(page, box)) == (expected, str(expected)), key
        assert (focused(page), state(page, "view")) == (box, "grid")
        item = page.locator(f"#{box} [aria-selected=true]")
        assert [item.get_attribute(name) for name in ("aria-posinset", "aria-setsize")] == ["1", str(COUNT)]
        page.keyboard.press("j")  # the other keys still work
        assert state(page, "picture") == 1
        if box == "list":
            return  # see test_report_names.py
        page.keyboard.press("Enter")
        wait_for_picture(page)
        assert (state(page, "view"), page.locator("#stage").is_visible()) == ("pictures", True)
        assert focused(page) == "stage"


def test_a_click_gives_the_list_the_keyboard(page):
    page.locator("#rows .row").nth(2).click()
    wait_for_picture(page)
    assert (state(page, "picture"), focused(page)) == (2, "list")
    page.keyboard.press("ArrowDown")
    wait_for_picture(page)
    assert state(page, "picture") == 3
    assert page.locator("#rows .row[aria-selected=true] .path").inner_text() == page.locator("#name").inner_text()


def test_rows_are_in_order_after_scrolling(page):
    order = "[...document.querySelectorAll('#rows .row')].map((row) => Number(row.dataset.number))"
    for top in (1e9, 0, 300):
        page.evaluate("(top) => { document.getElementById('list').scrollTop = top; }", top)
        page.wait_for_timeout(100)
        assert (numbers := page.evaluate(order)) == sorted(numbers)
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_timeout(100)
    assert page.locator("#list").get_attribute("aria-activedescendant") is None  # the selected row does not exist
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    assert active(page, "list") == "1"


def heat_of(page: Page, number: int) -> np.ndarray:
    """RGBA of the heat of a tile, (H, W, 4)."""
    heat = page.locator(f"#tiles [data-number='{number}'] canvas.heat[width='48']")
    address = heat.evaluate("(canvas) => canvas.toDataURL()")
    return np.array(Image.open(BytesIO(b64decode(address.partition(",")[2]))).convert("RGBA")).astype(int)


def test_the_grid_has_the_heat_of_every_picture(page):
    expected = []
    for number in (0, 7, 8):
        show_picture(page, number)
        expected.append(pixels(page, "heat-canvas"))
    page.click("#view-grid")
    assert page.locator("#center").is_hidden()
    assert page.locator("#list").is_visible()
    for number, heat in zip((0, 7, 8), expected, strict=True):
        assert np.array_equal(heat_of(page, number), heat)
    note = "Evidence for the predicted class: warm speaks for it, cold against it; same scale for all pictures."
    assert page.locator("#grid-note").inner_text() == note
    tile = page.locator("#tiles [data-number='0']")
    row = page.evaluate("(({ top, truth }) => ({ top, truth }))(gapcam.data.index.pictures[0])")
    assert tile.locator(".prediction").inner_text() == SHOWN[row["top"][0][0]]
    assert tile.locator(".number").inner_text() == f"{100 * row['top'][0][2]:.1f} %"
    assert tile.locator(".truth .wrong bdi").inner_text() == SHOWN[row["truth"]]
    page.keyboard.press("o")
    assert tile.locator("canvas.heat").is_hidden()
    page.keyboard.press("o")
    page.evaluate("gapcam.state.set({ colormap: 'viridis' })")
    assert (heat_of(page, 0) != expected[0]).any()


def test_the_grid_has_the_order_and_the_filters_of_the_list(page):
    page.click("#view-grid")
    page.select_option("#show", "wrong")
    page.select_option("#sort", "margin")
    numbers = page.evaluate("[...document.querySelectorAll('#tiles .tile')].map((tile) => Number(tile.dataset.number))")
    assert numbers == listed(page)
    assert len(numbers) == 8
    page.locator("#tiles .tile").nth(5).click()
    wait_for_picture(page)
    assert (state(page, "picture"), state(page, "view")) == (numbers[5], "pictures")
    page.go_back()
    page.wait_for_timeout(100)
    assert page.locator("#tiles").is_visible()
    page.keyboard.press("g")
    assert page.locator("#stage").is_visible()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_tiles_keep_the_shape_of_their_photographs(browser, reported, width):
    with opened(browser, reported[1], "#view=grid", viewport={"width": width, "height": 800}) as page:
        page.locator("#tiles canvas.heat[width='48']").first.wait_for()
        shots = page.locator("#tiles .shot")
        for number in range(3):
            box, tile = shots.nth(number).bounding_box(), page.locator("#tiles .tile").nth(number).bounding_box()
            height, breadth = page.evaluate("(n) => gapcam.data.index.pictures[n].size", number)
            assert box["width"] / box["height"] == pytest.approx(breadth / height, rel=0.01)
            assert tile["x"] <= box["x"]
            assert box["x"] + box["width"] <= tile["x"] + tile["width"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#tiles").evaluate("(tiles) => tiles.clientHeight") < 800
        labels = page.locator("#tiles .tile bdi")
        for label in labels.all():  # two lines, and all of the text if that is enough
            lines, hidden = label.evaluate("(label) => [label.clientHeight, label.scrollHeight - label.clientHeight]")
            assert lines <= 37
            assert hidden <= 1 or lines >= 33
        bottoms = page.evaluate("""[...document.querySelectorAll("#tiles .tile")].map((tile) =>
            tile.getBoundingClientRect().bottom - tile.querySelector(".texts").getBoundingClientRect().bottom)""")
        assert min(bottoms) >= 0
