"""The report in Chromium: tags and notes of pictures, as a file that is downloaded and uploaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import listed, opened, show_picture, state, wait_for_picture
from playwright.sync_api import Page
from reports import COUNT, index_of


def paths(report: Path) -> list[str]:
    return [row["path"] for row in index_of(report)["pictures"]]


def write(page: Page, number: int, tags: str, note: str) -> None:
    show_picture(page, number)
    if not page.locator("#tags").is_visible():
        page.click("#notes summary")
    page.fill("#tags", tags)
    page.fill("#note-text", note)
    page.locator("#note-text").blur()


def download(page: Page) -> dict:
    with page.expect_download() as file:
        page.click("#save-notes")
    assert file.value.suggested_filename == "notes.json"
    return json.loads(Path(file.value.path()).read_text("utf-8"))


def upload(page: Page, content: object, name: str = "notes.json") -> str:
    """Upload a file, and return what the page says."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    if not page.locator("#load-notes").is_visible():
        page.click("#notes summary")
    page.evaluate("document.getElementById('notes-status').textContent = ''")
    with page.expect_file_chooser() as chooser:
        page.click("#load-notes")
    chooser.value.set_files([{"name": name, "mimeType": "application/json", "buffer": data}])
    page.locator("#notes-status", has_text=".json was not read").or_(
        page.locator("#notes-status", has_text="Notes of")
    ).wait_for()
    return page.inner_text("#notes-status")


def test_notes_are_downloaded_and_uploaded(browser, reported):
    report = reported[1]
    path = paths(report)
    markup = "<b>x</b>\u202e"
    with opened(browser, report) as page:
        write(page, 3, " blurred,label noise ,, blurred", "Two digits.\nAsk Ann \u00e9.")
        write(page, 1, markup, "")
        write(page, 2, "gone", "gone")
        write(page, 2, " , ", " ")
        show_picture(page, 1)
        assert page.locator("#notes-line").text_content() == ": <b>x</b>[U+202E]"
        assert page.locator("#notes b").count() == 0
        show_picture(page, 3)
        line = ": blurred, label noise; Two digits. Ask Ann \u00e9."
        assert page.locator("#notes-line").text_content() == line
        assert page.input_value("#tags") == "blurred, label noise"
        file = download(page)
    entries = {
        path[1]: {"tags": ["<b>x</b>[U+202E]"], "note": ""},
        path[3]: {"tags": ["blurred", "label noise"], "note": "Two digits.\nAsk Ann \u00e9."},
    }
    assert file == {"gapcam notes": 1, "pictures": entries}
    with opened(browser, report) as page:
        assert upload(page, file) == "Notes of 2 pictures read"
        show_picture(page, 3)
        assert page.locator("#notes-line").text_content() == line
        assert page.input_value("#note-text") == "Two digits.\nAsk Ann \u00e9."
        assert download(page) == file


def test_an_upload_is_added_to_what_is_there(browser, reported):
    path = paths(reported[1])
    notes = {
        path[0]: {"tags": ["b", "c"], "note": "theirs"},
        path[1]: {"note": "mine, and more\r\nbelow"},
        path[2]: {"tags": ["d"], "note": "part"},
        "elsewhere.png": {"tags": ["e"]},
        "__proto__": {"note": "f"},
        path[4]: {},
    }
    with opened(browser, reported[1]) as page:
        write(page, 0, "a,b", "mine")
        write(page, 1, "", "mine")
        write(page, 2, "", "a part of it")
        for _ in range(2):  # nothing is added twice
            said = upload(page, {"gapcam notes": 1, "pictures": notes})
            assert said == "Notes of 4 pictures read, 2 paths are not in this run"
        assert page.input_value("#tags") == "d"  # of the picture that is shown
        assert download(page)["pictures"] == {
            path[0]: {"tags": ["a", "b", "c"], "note": "mine\ntheirs"},
            path[1]: {"tags": [], "note": "mine, and more\nbelow"},
            path[2]: {"tags": ["d"], "note": "a part of it"},
            "elsewhere.png": {"tags": ["e"], "note": ""},
            "__proto__": {"tags": [], "note": "f"},
        }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "it is not JSON in UTF-8"),
        (json.dumps({"gapcam notes": 1, "pictures": {}}).encode("utf-16"), "it is not JSON in UTF-8"),
        (b'{"gapcam notes": 1, "pictures": {"a": {"note": "caf\xe9"}}}', "it is not JSON in UTF-8"),
        (None, "it has no notes of gapcam"),
        ([1], "it has no notes of gapcam"),
        ({"pictures": {}}, "it has no notes of gapcam"),
        ({"gapcam notes": 1, "pictures": []}, "it has no notes of gapcam"),
        ({"gapcam notes": 2, "pictures": {}}, "it is for another version of gapcam"),
        (["tags", {"tags": "no list"}], "tags or note of \u2068b\u2069 are not text"),
        (["tags", {"tags": [1]}], "tags or note of \u2068b\u2069 are not text"),
        (["note", {"note": None, "tags": None}], None),
        (["note", {"note": 3}], "tags or note of \u2068b\u2069 are not text"),
        (["note", "text"], "tags or note of \u2068b\u2069 are not text"),
    ],
)
def test_a_damaged_file_changes_nothing(browser, reported, content, reason):
    path = paths(reported[1])
    if isinstance(content, list) and len(content) == 2:
        content = {"gapcam notes": 1, "pictures": {path[0]: {"tags": ["new"]}, "b": content[1]}}
    with opened(browser, reported[1]) as page:
        write(page, 0, "old", "")
        said = upload(page, content, "my\u202e.json")
        if reason is None:
            assert said == "Notes of 1 picture read, 1 path is not in this run"
            return
        assert said == f"my[U+202E].json was not read: {reason}. Nothing has changed."
        assert download(page)["pictures"] == {path[0]: {"tags": ["old"], "note": ""}}


def test_the_selected_get_a_tag_and_the_search_finds_it(page):
    write(page, 5, "Shadow", "")
    page.evaluate("gapcam.selection.set([2, 5, 7])")
    page.get_by_label("Tag", exact=True).click()
    assert page.locator("#used-tags option").evaluate_all("(all) => all.map(({ value }) => value)") == ["Shadow"]
    page.keyboard.type("halo, Shadow")
    page.click("#tag-selected")
    assert page.inner_text("#selection-status") == "Tagged 3 pictures"
    assert page.input_value("#selected-tag") == ""
    assert page.input_value("#tags") == "Shadow, halo"
    page.fill("#tags", "Shadow, halo, ")
    page.fill("#note-text", "see p9")
    page.fill("#text", "HALO")
    assert listed(page) == [2, 5, 7]
    page.fill("#text", "see P9")
    assert listed(page) == [5]
    page.fill("#text", "")
    show_picture(page, 1)
    page.fill("#tags", "halo,")
    suggested = page.locator("#used-tags option").evaluate_all("(all) => all.map(({ value }) => value)")
    assert suggested == ["halo, Shadow"]


def test_the_picture_stays_while_its_notes_are_written(page):
    for number in (4, 6):
        write(page, number, "x1", "")
    page.fill("#text", "x1")
    assert (listed(page), state(page, "picture")) == ([4, 6], 6)
    page.fill("#tags", "")
    page.locator("#note-text").focus()
    page.keyboard.type("j/x")  # no shortcuts
    assert (state(page, "picture"), page.input_value("#note-text")) == (6, "j/x")
    assert page.evaluate("gapcam.selection.all()") == []
    page.evaluate("document.hasFocus = () => false")  # the user went to another window
    page.locator("#note-text").blur()
    assert state(page, "picture") == 6
    page.evaluate("delete document.hasFocus")
    page.locator("#note-text").focus()
    page.locator("#stage").focus()  # the list no longer has this picture
    wait_for_picture(page)
    assert (listed(page), state(page, "picture"), page.input_value("#tags")) == ([4], 4, "x1")
    page.fill("#text", "")
    assert len(listed(page)) == COUNT


def test_a_click_on_a_row_ends_the_writing_and_opens_its_picture(page):
    for number in (4, 6):
        write(page, number, "x1", "")
    page.fill("#text", "x1")
    page.locator("#note-text").fill("more")
    page.locator("#rows .row").nth(0).click()
    wait_for_picture(page)
    assert (listed(page), state(page, "picture")) == ([4, 6], 4)


def test_leaving_the_page_asks_before_notes_are_lost(page):
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.click("#notes summary")
    page.click("#tags")
    page.reload()
    assert asked == []
    page.click("#notes summary")
    page.click("#tags")
    page.keyboard.type("y")
    assert page.inner_text("#notes-status") == "Not downloaded yet"
    page.reload()
    assert asked == ["beforeunload"]
    assert page.locator("#notes-line").text_content() == ""
    write(page, 0, "z", "")
    download(page)
    assert page.inner_text("#notes-status") == ""
    page.reload()
    assert asked == ["beforeunload"]


def test_paper_has_the_note_without_its_fields(page):
    page.emulate_media(media="print")
    assert page.locator("#notes").is_hidden()
    page.emulate_media(media="screen")
    write(page, 0, "torn", "long " * 60)
    page.emulate_media(media="print")
    assert page.locator("#notes-line").inner_text() == f": torn; {'long ' * 60}".strip()
    assert page.locator("#notes summary").bounding_box()["height"] > 30  # in lines, not cut off
    for name in ("#tags", "#note-text", "#selected-this", "#save-notes", "#selection"):
        assert page.locator(name).is_hidden(), name


@pytest.mark.parametrize("view", ["pictures", "grid"])
def test_every_control_has_a_label(browser, reported, view):
    with opened(browser, reported[1], f"#view={view}") as page:
        page.evaluate("gapcam.selection.set([1])")
        page.evaluate("document.getElementById('notes').open = true")
        fields = page.locator("input, select, textarea, button, summary")
        unnamed = fields.evaluate_all("""(all) => all.filter((field) => field.checkVisibility()
            && !(field.labels?.length || field.ariaLabel)
            && !(field.matches("button, summary") && field.textContent.trim())
        ).map(({ id }) => id)""")
        assert unnamed == []
