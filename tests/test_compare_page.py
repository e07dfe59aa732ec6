"""The page of cam compare, in Chromium."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import is_outside
from PIL import Image
from playwright.sync_api import Browser, Page
from reports import LABELS, NAMES, SHOWN
from runs import explain_into
from small import gap_linear, photo
from torch import nn

import cam
from cam.audit import compare_page
from cam.audit.compare import Comparison, compare_runs
from cam.classifiers.truth import Truth
from cam.images.io import write_image
from cam.report.evidence import EvidenceWriter

COUNT = 30


def classifier(seed: int) -> cam.Classifier:
    network = gap_linear(5)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return cam.wrap(network, input_size=32, labels=LABELS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Two runs over photographs wider than the crop; names and labels contain markup."""
    folder = tmp_path_factory.mktemp("compared")
    for number in range(COUNT):
        name = NAMES[number] if number < len(NAMES) else f"p{number}.png"
        write_image(folder / "photos" / name, photo(36 + number % 3, 48, number))
    truth = Truth({str(path): number % 5 for number, path in enumerate(sorted((folder / "photos").iterdir()))})
    for name, seed in (("a", 7), ("b", 8)):
        options = {"save": frozenset({"cam"}), "outputs": (EvidenceWriter(),), "truth": truth}
        explain_into(folder / name, classifier(seed), folder / "photos", **options)
    return folder / "a", folder / "b"


@pytest.fixture(scope="module")
def compared(runs) -> tuple[Comparison, Path]:
    comparison = compare_runs(*runs)
    return comparison, compare_page.write_page(comparison, runs[0].parent / "out")


@contextmanager
def opened(browser: Browser, path: Path, **context) -> Iterator[Page]:
    """Open a page; fail on errors and on requests."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}) as window:
        page = window.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url) if is_outside(request.url) else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-shown]", state="attached")
        yield page
        assert errors == []


def choose(page: Page, verdict: str) -> None:
    page.locator(f"#filters button[value={verdict}]").click()
    page.wait_for_selector(f"html[data-shown^='{verdict} ']", state="attached")


def test_each_verdict_lists_its_images_the_most_moved_first(browser, compared):
    comparison, path = compared
    with opened(browser, path) as page:
        for verdict, count in comparison.summary["verdicts"].items():
            button = page.locator(f"#filters button[value={verdict}]")
            assert button.inner_text().endswith(f" {count}")
            choose(page, verdict)
            assert button.get_attribute("aria-pressed") == "true"
            names = [row["name"] for row in comparison.rows if row["verdict"] == verdict]
            assert page.locator("#cards h2 bdi").all_text_contents() == names[:20]
            assert page.locator("#more").is_visible() == (count > 20)
            assert page.locator("#meaning").inner_text().startswith(f"{count} picture")


def test_names_and_labels_are_text(browser, compared):
    comparison, path = compared
    with opened(browser, path) as page:
        for verdict in comparison.summary["verdicts"]:
            choose(page, verdict)
        page.locator("#classes summary").click()
        assert set(page.locator("#classes tbody bdi").all_text_contents()) <= set(SHOWN)
        assert page.title() == "a and b, compared"
        assert page.locator("#cards img").count() == 0


def test_captions_have_the_numbers_of_the_comparison(browser, compared):
    comparison, path = compared
    row = comparison.rows[0]
    with opened(browser, path) as page:
        panels = page.locator("#cards article").first.locator(".panel")
        assert panels.count() == len(row["changes"])
        for number, change in enumerate(row["changes"]):
            a, b, difference = panels.nth(number).locator("figcaption").all()
            texts = [caption.inner_text().replace("\u2212", "-") for caption in (a, b, difference)]
            assert float(texts[0].split()[-1]) == pytest.approx(change["logit_a"], abs=0.006)
            assert float(texts[1].split()[-1]) == pytest.approx(change["logit_b"], abs=0.006)
            total, cells, bias = map(float, re.findall(r"[+-][\d.]+", texts[2]))
            assert total == pytest.approx(change["change"], abs=0.006)
            assert cells + bias == pytest.approx(total, abs=0.011)
            assert bias == pytest.approx(change["base_change"], abs=0.006)


def test_heat_is_drawn_on_one_scale_and_the_difference_in_its_sign(browser, runs, compared):
    """At the center of the cell that changed most the color is warm for a gain and cold for a loss."""
    comparison, path = compared
    with opened(browser, path) as page:
        page.select_option("#scale", "one")
        verdict = comparison.rows[0]["verdict"]
        page.wait_for_selector(f"html[data-shown^='{verdict} ']", state="attached")
        page.wait_for_timeout(300)
        values, rows, columns, address = page.evaluate("""async () => {
            const { index, unpack } = gapcam.data;
            const { values, rows, columns } = index.rows[0].panels[0].maps[2];
            const canvas = document.querySelectorAll("#cards article canvas")[2];
            return [[...(await unpack(values))], rows, columns, canvas.toDataURL()];
        }""")
    drawn = np.array(Image.open(BytesIO(b64decode(address.partition(",")[2]))).convert("RGB")).astype(int)
    cam_difference = np.reshape(values, (len(rows), len(columns)))
    checked = 0
    for n in (cam_difference.argmax(), cam_difference.argmin()):
        row, column = np.unravel_index(n, cam_difference.shape)
        red, _, blue = drawn[int(rows[row] * len(drawn)), int(columns[column] * drawn.shape[1])]
        if abs(cam_difference[row, column]) > np.abs(cam_difference).max() / 3:
            assert (red - blue) * cam_difference[row, column] > 0
            checked += 1
    assert checked


def test_the_class_filter_and_show_more_keep_the_rest(browser, compared, monkeypatch, runs, tmp_path):
    comparison, path = compared
    verdict, count = max(comparison.summary["verdicts"].items(), key=lambda item: item[1])
    rows = [row for row in comparison.rows if row["verdict"] == verdict]
    with opened(browser, path) as page:
        choose(page, verdict)
        if count > 20:
            page.locator("#more").focus()
            page.keyboard.press("Enter")
            page.wait_for_selector(f"html[data-shown='{verdict} {count}']", state="attached")
            assert page.locator("#cards article").count() == count
            assert page.locator("#more").is_hidden()
        label = rows[0]["truth"]
        page.select_option("#class", label)
        mine = [row["name"] for row in rows if row["truth"] == label]
        page.wait_for_selector(f"html[data-shown='{verdict} {len(mine)}']", state="attached")
        assert page.locator("#cards h2 bdi").all_text_contents() == mine
    monkeypatch.setattr(compare_page, "SHOWN", 2)
    few = compare_page.write_page(comparison, tmp_path)
    with opened(browser, few) as page:
        choose(page, verdict)
        assert page.locator("#cards article").count() == 2
        assert f"{count} pictures" in page.locator("#meaning").inner_text()
        assert "the 2 most moved are in this page" in page.locator("#meaning").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(browser, compared, scheme):
    phone = {"viewport": {"width": 380, "height": 800}, "color_scheme": scheme}
    with opened(browser, compared[1], **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 380
        assert page.locator("#cards figure").first.bounding_box()["width"] > 100


def test_photographs_come_from_their_files_or_are_left_out(browser, runs, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(runs[0].parent / "photos", photos)
    for name, seed in (("a", 7), ("b", 8)):
        explain_into(tmp_path / name, classifier(seed), photos, save=frozenset({"cam"}))
    (photos / "p8.png").unlink()
    (photos / "p9.png").write_bytes(b"another file")
    path = compare_page.write_page(compare_runs(tmp_path / "a", tmp_path / "b"), tmp_path / "out")
    index = json.loads(path.read_text("ascii").split('id="index">')[1].split("</script>")[0])
    assert {row["name"] for row in index["rows"] if row["photo"] is None} == {"p8.png", "p9.png"}
    changed = [row for row in index["rows"] if row["verdict"] == "changed"]
    assert all(len(row["panels"]) == 1 and row["panels"][0]["maps"][2] is None for row in changed)
    with opened(browser, path) as page:
        choose(page, "changed")
        assert page.locator("#cards figure p").first.inner_text() == "No difference: only one run kept the map."
        assert page.locator("#cards article canvas").count() == 2 * min(20, len(changed))
