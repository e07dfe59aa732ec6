"""The report in Chromium: pictures that the user selects."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path

import pytest
from browser import listed, opened, state, wait_for_picture
from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import Page
from reports import COUNT, wrong_ones
from small import photo

from cam.cli.main import main
from cam.runs.manifest import read_records


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
        assert page.evaluate("String(getSelection())") == ""  # of text
        item.nth(7).click(modifiers=["Shift"])  # from 3
        item.nth(4).click(modifiers=[key])
        assert (selected(page), checked(page, box)) == ([2, 3, 5, 6, 7], [2, 3, 5, 6, 7])
        assert page.evaluate("document.activeElement.id") == box
        assert item.nth(2).get_attribute("aria-selected") == "false"  # the current picture is another
        assert item.nth(2).locator(".check").text_content() == "selected"
        assert page.locator("[aria-selected=true]").first.get_attribute("data-number") == "4"


def test_a_double_click_with_a_key_opens_no_file(page):
    page.locator("#rows .row").nth(2).dblclick(modifiers=["Control"])
    page.wait_for_timeout(100)
    assert (len(page.context.pages), selected(page)) == (1, [])


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


def test_touch_and_screen_readers_select_with_a_box(browser, reported):
    with opened(browser, reported[1], viewport={"width": 380, "height": 800}) as page:
        page.click("#notes summary")
        page.get_by_label("Selected", exact=True).check()
        assert selected(page) == [0]
        page.click("#next")
        wait_for_picture(page)
        assert not page.get_by_label("Selected", exact=True).is_checked()
        page.get_by_label("Selected", exact=True).check()
        page.click("#previous")
        page.get_by_label("Selected", exact=True).uncheck()
        assert selected(page) == [1]
        assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.parametrize("width", [380, 850, 1280])
def test_the_tools_of_the_selection_fit_below_the_list(browser, reported, width):
    with opened(browser, reported[1], viewport={"width": width, "height": 800}) as page:
        if width == 380:
            page.click("#open-list")
        first = page.locator("#rows .row").first.bounding_box()
        page.evaluate("gapcam.selection.set([0, 1, 2])")
        assert page.locator("#rows .row").first.bounding_box() == first
        right = first["x"] + first["width"]
        for name in (
            "#selected-count",
            "#selected-only",
            "#save-list",
            "#select-none",
            "#selected-tag",
            "#tag-selected",
        ):
            box = page.locator(name).bounding_box()
            assert box["x"] + box["width"] <= right, name
            assert page.locator(name).evaluate("(node) => node.scrollWidth <= node.clientWidth"), name  # not cut off
            assert box["y"] + box["height"] <= 800, name


def test_check_marks_have_system_colors(browser, reported):
    with opened(browser, reported[1], forced_colors="active") as page:
        page.evaluate("gapcam.selection.set([0, 1])")
        style = "(mark, name) => getComputedStyle(mark)[name]"
        for number in (0, 1):  # the current picture, and another
            mark = page.locator(f"#rows [data-number='{number}'] .check")
            assert mark.evaluate(style, "backgroundColor") != mark.evaluate(style, "color")
        row = page.locator("#rows [data-number='0']")
        assert row.locator(".check").evaluate(style, "backgroundColor") == row.evaluate(style, "backgroundColor")


NAMES = [
    "#1.png",
    " 2 .png",
    "-3.png",
    "[4]*.png",
    "\u05d0.png",
    os.fsdecode(b"caf\xe9\xff.png"),
    'it\'s "5".png',
    "album.zip/8.png",
]
FIRST = ["\ufeff6.png", "PK\3\4.png"]  # the beginnings of text and of an archive
BROKEN = ["two\nlines.png", "cr\r.png"]


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory) -> Path:
    """A run in a folder with odd names, and with an archive."""
    folder = tmp_path_factory.mktemp("odd") / "in"
    folder.mkdir()
    for number, name in enumerate([*NAMES, *FIRST, *BROKEN, "other.png"]):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo(30, 30 + number, number)).save(folder / name, "png")
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.write(folder / "other.png", "inner.png")
    with contextlib.chdir(folder):
        result = CliRunner().invoke(main, ["explain", ".", "packed.zip", "-m", "digits", "-o", "../out", "--report"])
    assert result.exit_code == 0, result.output
    return folder


def save_list(page: Page, paths: list[str], file: Path) -> None:
    page.evaluate(
        """(paths) => gapcam.selection.set(
        gapcam.data.index.pictures.flatMap(({ path }, n) => paths.includes(path) ? [n] : []))""",
        paths,
    )
    with page.expect_download() as download:
        page.click("#save-list")
    assert download.value.suggested_filename == "selection.txt"
    download.value.save_as(file)


@pytest.mark.parametrize("paths", [NAMES, [*BROKEN, *NAMES], FIRST[:1], FIRST[1:]], ids=["lines", "NUL", "BOM", "zip"])
def test_a_list_of_the_selected_explains_the_same_images(run, browser, odd_names, tmp_path, monkeypatch, paths):
    with opened(browser, odd_names.parent / "out" / "report.html") as page:
        save_list(page, paths, tmp_path / "selection.txt")
        assert page.inner_text("#selection-status") == ""
    assert (b"\0" in (tmp_path / "selection.txt").read_bytes()) == (paths[0] == BROKEN[0])
    monkeypatch.chdir(odd_names)
    result = run("explain", "--list", tmp_path / "selection.txt", "-m", "digits", "-o", tmp_path / "again")
    assert result.exit_code == 0, result.output
    first, again = (
        {record["path"]: record["targets"] for record in read_records(out / "manifest.jsonl")}
        for out in (odd_names.parent / "out", tmp_path / "again")
    )
    assert sorted(again) == sorted(paths)
    for path in paths:
        assert again[path][0]["logit"] == pytest.approx(first[path][0]["logit"], abs=1e-4)


def test_a_list_has_no_images_in_archives_and_says_so(browser, odd_names, tmp_path):
    with opened(browser, odd_names.parent / "out" / "report.html") as page:
        save_list(page, ["packed.zip/inner.png", "other.png"], tmp_path / "selection.txt")
        assert (tmp_path / "selection.txt").read_text() == "other.png\n"
        message = (
            "Without 1 picture in an archive, which a list cannot name: give cam explain the archive, with --pattern."
        )
        assert page.inner_text("#selection-status") == message
        page.click("#select-none")
        assert page.locator("#selection-status").is_hidden()
        page.fill("#text", "inner")
        page.keyboard.press("Escape")
        page.keyboard.press("x")
        page.on("download", lambda download: pytest.fail(download.suggested_filename))
        page.click("#save-list")
        assert page.inner_text("#selection-status") == message
        page.wait_for_timeout(200)
