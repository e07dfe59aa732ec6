"""The report in Chromium: hidden marks in names, classes in the filter, original files, small pictures."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from browser import listed, opened, show_picture, state, wait_for_picture
from PIL import Image
from playwright.sync_api import Page
from reports import SHOWN, index_of, number_of, run_on_photos
from small import gap_linear

import cam
from cam.images.find import find_pictures
from cam.images.io import write_image
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

NAMES = ["two\nlines.png", "left\u202eto\u2066right.png", "plain.png"]


def test_line_breaks_and_marks_of_direction_are_written_out(browser, tmp_path):
    run_on_photos(tmp_path, 3, NAMES)
    shown = ["left[U+202E]to[U+2066]right.png", "plain.png", "two[U+000A]lines.png"]
    with opened(browser, write_report(tmp_path / "run")) as page:
        assert sorted(page.locator("#rows .path").all_text_contents()) == shown
        for number in range(3):
            show_picture(page, number)
            row = page.locator("#rows [aria-selected=true]")
            assert page.locator("#name").text_content() == row.locator(".path").text_content()
            assert row.get_attribute("title").endswith(row.locator(".path").text_content())
        page.evaluate("gapcam.state.set({ class: 3 })")
        assert page.locator("#chips [aria-pressed=true] .name").text_content() == SHOWN[3]
        assert page.locator("#class").input_value() == f"3 {SHOWN[3]}"
        page.locator("#class").press("Enter")
        assert (state(page, "class"), page.locator("#class").get_attribute("aria-invalid")) == (3, None)
        assert f"\u2068{SHOWN[3]}\u2069" in page.evaluate("gapcam.save.legend()")[0]


DOGS = ["bull terrier", "beagle", "fox terrier", "10", "terrier", "cat"]


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A report of pictures that are predicted as one of several classes, and those classes."""
    folder = tmp_path_factory.mktemp("dogs")
    torch.manual_seed(7)
    network = gap_linear(6)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    rng = np.random.default_rng(5)
    for number in range(12):
        write_image(folder / "photos" / f"{number:02}.png", rng.integers(0, 256, (40, 40, 3), np.uint8) // (number + 1))
    classifier = cam.wrap(network, input_size=32, labels=DOGS)
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(classifier, find_pictures([folder / "photos"]), folder / "run", options)
    lines = ["path,label", *(f"{number:02}.png,{number % 6}" for number in range(12))]
    (folder / "truth.csv").write_text("\n".join(lines))
    report = write_report(folder / "run", str(folder / "truth.csv"))
    return report, [row["top"][0][0] for row in index_of(report)["pictures"]]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("terrier", {0, 2, 4}),
        (" TERRIER ", {0, 2, 4}),
        ("0 bull terrier", {0}),
        ("10", {3}),
        ("5", {5}),
        ("e", {0, 1, 2, 4}),
    ],
)
def test_the_filter_finds_all_classes_whose_label_contains_a_text(browser, dogs, text, classes):
    report, predicted = dogs
    with opened(browser, report) as page:
        page.fill("#of", text)
        page.keyboard.press("Tab")
        assert page.locator("#of").get_attribute("aria-invalid") is None
        expected = [number for number in range(12) if {predicted[number], number % 6} & classes]
        assert listed(page) == expected != list(range(12))
        with opened(browser, report, page.evaluate("gapcam.state.toHash(gapcam.state.current)")) as other:
            assert listed(other) == expected
            assert other.locator("#of").input_value() == text.strip()
        page.fill("#of", "")
        page.keyboard.press("Tab")
        assert len(listed(page)) == 12


def opened_file(page: Page, action) -> Path:
    """The file of the tab that an action opens."""
    with page.expect_popup() as popup:
        action()
    popup.value.wait_for_load_state()
    path = unquote(urlsplit(popup.value.url).path)
    popup.value.close()
    return Path(path)


def test_enter_a_double_click_and_the_name_open_the_original_file(page, reported):
    records = reported[2]
    page.locator("#list").focus()
    for number in (0, 1, 2):
        assert opened_file(page, lambda: page.keyboard.press("Enter")).samefile(records[number]["path"])
        page.keyboard.press("ArrowDown")
    wait_for_picture(page)
    assert opened_file(page, lambda: page.locator("#stage").dblclick()).samefile(records[3]["path"])
    assert state(page, "pin") is None
    assert opened_file(page, lambda: page.locator("#name a").click()).samefile(records[3]["path"])
    assert opened_file(page, lambda: page.locator("#rows .row").nth(5).dblclick()).samefile(records[5]["path"])


def test_a_file_that_is_gone_or_in_an_archive_is_not_linked(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = run_on_photos(tmp_path, 2, ["a.png", "b.png"])
    shutil.make_archive("packed", "zip", "photos")
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    pictures = find_pictures(["photos", "packed.zip"])
    explain_folder(classifier, pictures, Path("again"), options)
    Path("photos", "a.png").unlink()
    report = write_report(Path("again"))
    originals = {row["path"]: row.get("original") for row in index_of(report)["pictures"]}
    assert originals["photos/b.png"] == "../photos/b.png"
    assert [name for name, original in originals.items() if original] == ["photos/b.png"]
    with opened(browser, report.absolute()) as page:
        show_picture(page, number_of(report, "photos/a.png"))
        assert page.locator("#name a").get_attribute("href") is None
        page.locator("#list").focus()
        page.keyboard.press("Enter")
        page.locator("#stage").dblclick()
        page.wait_for_timeout(100)
        assert len(page.context.pages) == 1


def test_a_picture_smaller_than_its_view_shows_its_pixels(page):
    page.keyboard.press("o")  # the photograph alone
    page.evaluate("document.getElementById('outline').style.display = 'none'")
    shot = np.array(Image.open(BytesIO(page.locator("#photo").screenshot())).convert("RGB")).astype(int)
    height, width = page.evaluate("gapcam.data.index.pictures[0].size")
    times = shot.shape[1] / width
    assert times > 5
    y, x = ((np.arange(count) + 0.5) * times for count in (height, width))
    middle = shot[y.astype(int)[:, None], x.astype(int)]
    near = shot[(y + 0.3 * times).astype(int)[:, None], (x - 0.3 * times).astype(int)]
    assert np.array_equal(middle, near)
    assert (middle[1:] != middle[:-1]).any()
    assert page.locator("#rows img").first.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("gapcam.data.index.pictures[1].size = [3000, 4000]")
    show_picture(page, 1)
    assert page.locator("#photo").evaluate("(canvas) => getComputedStyle(canvas).imageRendering") == "auto"
