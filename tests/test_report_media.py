"""The report in Chromium: on phones, on paper, and in the colors of the system."""

from __future__ import annotations

import pytest
from browser import opened, show_picture, state, wait_for_picture
from playwright.sync_api import Page
from reports import COUNT, wrong_ones

PHONE = {"width": 390, "height": 844}


def test_on_a_phone_the_answer_is_below_the_photograph_and_the_list_a_drawer(browser, reported):
    with opened(browser, reported[1], viewport=PHONE) as page:
        stage, answer, legend = (page.locator(name).bounding_box() for name in ("#stage", "#answer", "#legend"))
        assert 0 <= answer["y"] - (stage["y"] + stage["height"]) < 16
        assert answer["y"] + answer["height"] < legend["y"] < PHONE["height"]
        assert page.locator("#side").is_hidden()
        page.click("#open-list")
        assert page.locator("#side").bounding_box() == {
            "x": 0,
            "y": 0,
            "width": pytest.approx(343, abs=1),
            "height": 844,
        }
        assert page.evaluate("document.activeElement.id") == "list"
        page.locator("#rows .row").nth(3).click()
        wait_for_picture(page)
        assert (state(page, "picture"), page.locator("#side").is_hidden()) == (3, True)
        page.click("#open-list")
        page.select_option("#show", "wrong")
        page.keyboard.press("Escape")
        assert page.locator("#side").is_hidden()
        page.click("#open-list")
        page.click("#close-list")
        assert page.locator("#side").is_hidden()
        page.keyboard.press("/")
        page.keyboard.type("p1")
        assert (page.locator("#side").is_visible(), state(page, "text")) == (True, "p1")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 1400, "height": 900})
        assert page.locator("#list").is_visible()
        assert page.locator("#open-list").is_hidden()


def test_on_a_phone_the_probabilities_are_above_the_fold(browser, reported):
    with opened(browser, reported[1], viewport=PHONE) as page:
        for number in range(6):  # some are right, some wrong
            show_picture(page, number)
            chips = [chip.locator(".number").last for chip in page.locator("#chips .chip").all()]
            shares = [
                f"{100 * share:.1f} %" for *_, share in page.evaluate(f"gapcam.data.index.pictures[{number}].top")
            ]
            assert [chip.inner_text() for chip in chips] == shares
            assert max(chip.bounding_box()["y"] + chip.bounding_box()["height"] for chip in chips) < PHONE["height"]
        page.set_viewport_size({"width": 1400, "height": 900})
        page.locator("#panel #chips").wait_for()  # the page moves them when it hears of the new size


@pytest.mark.parametrize(("box", "table"), [(".table", "#groups"), (".wide-table", "#matrix")])
def test_on_a_phone_tables_of_the_summary_scroll_in_a_box_with_an_edge(browser, reported, box, table):
    with opened(browser, reported[1], "#view=summary", viewport=PHONE) as page:
        frame = page.locator(f"#summary {box}")
        assert frame.evaluate("(box) => getComputedStyle(box).borderRightStyle") == "solid"
        edges = frame.bounding_box()
        assert edges["x"] >= 0
        assert edges["x"] + edges["width"] <= PHONE["width"]
        if table == "#matrix":  # as with longer labels
            page.locator("#matrix td").first.evaluate("(cell) => { cell.style.minWidth = '600px'; }")
        frame.evaluate("(box) => { box.scrollLeft = 1e9; }")
        assert frame.evaluate("(box) => box.scrollLeft") > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_drawer_shows_the_selected_picture(browser, reported):
    with opened(browser, reported[1], viewport=PHONE) as page:
        show_picture(page, COUNT - 1)
        page.click("#open-list")
        row = page.locator("#rows [aria-selected=true]").bounding_box()
        assert row["y"] + row["height"] <= PHONE["height"] + 1


def system_color(page: Page, name: str) -> str:
    return page.evaluate(
        """(name) => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.cssText = `forced-color-adjust: none; color: ${name}`;
        return getComputedStyle(probe).color;
    }""",
        name,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_selections_and_bars_have_system_colors(browser, reported, scheme):
    with opened(browser, reported[1], "#evidence=contrast", forced_colors="active", color_scheme=scheme) as page:
        ground, text, ink = (system_color(page, name) for name in ("Highlight", "HighlightText", "CanvasText"))
        assert len({ground, text}) == 2
        style = "(node, name) => getComputedStyle(node)[name]"
        selected = page.locator("#rows [aria-selected=true]"), page.locator("#evidence [value=contrast]")
        for item in (*selected, page.locator("#chips [aria-pressed=true]"), page.locator("#view-pictures")):
            assert item.evaluate(style, "backgroundColor") == ground
            for part in [item, *item.locator("*:not(img)").all()]:
                assert part.evaluate(style, "color") == text
        assert page.locator("#rows [aria-selected=false]").first.evaluate(style, "backgroundColor") != ground
        kinds = ".is-wrong[aria-selected=false]", ":not(.is-wrong)"
        rows = [page.locator(f"#rows .row{kind}").first for kind in kinds]
        edges = [row.evaluate(style, "borderInlineStartColor") for row in rows]
        assert edges == [ink, system_color(page, "Canvas")]
        page.locator("#stage").focus()
        page.keyboard.press("ArrowUp")
        assert page.locator("#marker").evaluate(style, "borderTopColor") == "rgb(255, 255, 255)"
        assert page.locator("#cell .bar").first.evaluate(style, "backgroundColor") == ink
        assert page.locator("#why [aria-pressed=true]").evaluate(style, "color") == text
        page.keyboard.press("g")
        tile = page.locator("#tiles [aria-selected=true]")
        assert tile.evaluate(style, "backgroundColor") == ground
        page.keyboard.press("s")
        assert page.locator("#groups tr[aria-current]").evaluate(style, "backgroundColor") == ground


def test_paper_has_the_view_without_controls(browser, reported):
    with opened(browser, reported[1], color_scheme="dark", viewport={"width": 690, "height": 900}) as page:
        show_picture(page, wrong_ones(reported[2])[1])
        page.emulate_media(media="print")
        for name in (
            "nav",
            "#side",
            "#why",
            "#previous",
            ".settings",
            "#evidence",
            "#class",
            "#remarks",
            "#cell-title",
        ):
            assert page.locator(name).is_hidden(), name
        for name in ("#title", "#name", "#verdict", "#photo", "#answer", "#bar", "#chips", "#sums"):
            assert page.locator(name).is_visible(), name
        ground, ink = page.evaluate(
            "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
        )
        assert (ground, ink) == ("rgb(255, 255, 255)", "rgb(27, 30, 34)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 690
        page.evaluate("gapcam.state.set({ pin: 100 })")
        assert page.locator("#cell-title").is_visible()
        for view, names in {"summary": ("#groups", "#group-map", "#matrix", "#cards"), "grid": ("#tiles",)}.items():
            page.emulate_media(media="screen")
            page.evaluate("(view) => gapcam.state.set({ view })", view)
            page.wait_for_timeout(100)
            page.emulate_media(media="print")
            assert all(page.locator(name).is_visible() for name in names)
            assert page.evaluate("document.documentElement.scrollWidth") <= 690
        tiles = [tile.bounding_box() for tile in page.locator("#tiles .tile").all()]
        assert len(tiles) == COUNT
        assert len({(tile["x"], tile["y"]) for tile in tiles}) == COUNT
