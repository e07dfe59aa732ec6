"""The layout of the report on any screen, and its colors for any eyes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from browser import opened, state, wait_for_picture

from cam.drawing.colormaps import lookup


@pytest.mark.parametrize("width", [390, 700, 1000])
def test_narrow_screens_need_no_sideways_scrolling(browser, reported, width):
    with opened(browser, reported[1], viewport={"width": width, "height": 844}) as page:
        for view in ("summary", "pictures"):
            page.click(f"#view-{view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.evaluate("""["center", "panel", "side"].map((id) => {
            const { left, right, top, bottom } = document.getElementById(id).getBoundingClientRect();
            return { left, right, top, bottom };
        })""")
        for n, one in enumerate(boxes):
            for two in boxes[n + 1 :]:
                across = min(one["right"], two["right"]) - max(one["left"], two["left"])
                down = min(one["bottom"], two["bottom"]) - max(one["top"], two["top"])
                assert min(across, down) <= 0.5  # no overlap
        assert page.locator("#center").evaluate("(center) => center.scrollHeight - center.clientHeight") <= 1
        page.locator("#stage").click()
        assert state(page, "pin") is not None


def test_on_a_narrow_screen_an_opened_picture_scrolls_into_view(browser, reported):
    with opened(browser, reported[1], viewport={"width": 390, "height": 844}) as page:
        page.locator("#rows button").nth(3).click()
        wait_for_picture(page)
        assert -1 <= page.locator("#center").evaluate("(center) => center.getBoundingClientRect().top") < 100


def test_every_control_has_a_name_and_shows_its_focus(page):
    unnamed = page.evaluate("""[...document.querySelectorAll("button, input, select")].filter((control) => !(
        control.textContent.trim() || control.ariaLabel || control.labels?.length)).map((control) => control.id)""")
    assert unnamed == []
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate("document.activeElement.type") == "range"


def test_labels_by_id_name_elements_of_the_page(page):
    ids = page.evaluate("""["aria-labelledby", "aria-describedby", "for", "list"].flatMap((name) =>
        [...document.querySelectorAll(`[${name}]`)].map((node) => node.getAttribute(name)))""")
    assert {"group-title", "help-title", "cell-title", "classes"} <= set(ids)
    assert page.evaluate("(ids) => ids.filter((id) => !document.getElementById(id))", ids) == []


def linear(rgb) -> np.ndarray:
    """Linear RGB, 0 to 1, of sRGB, 0 to 255."""
    shares = np.asarray(rgb) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast_ratio(one, two) -> float:
    """WCAG 2 contrast of two RGB colors."""
    dark, light = sorted(linear([one, two]) @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, reported, scheme):
    with opened(browser, reported[1], color_scheme=scheme) as page:
        js = """() => {
            const probe = document.body.appendChild(document.createElement("i"));
            const read = (name) => {
                probe.style.color = `var(${name})`;
                return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
            };
            return ["--text", "--quiet", "--wrong", "--accent"].flatMap((text) =>
                ["--ground", "--panel", "--selected"].map((ground) => [text, read(text), read(ground)]));
        }"""
        for name, text, ground in page.evaluate(js):
            assert contrast_ratio(text, ground) >= 4.5, name  # WCAG 2, AA


def test_controls_have_contrast(page):
    js = """() => [...document.querySelectorAll("input:not([type=range]), select, button:not(.link, .row)")].map(
        (control) => [control.id, getComputedStyle(control).borderTopColor, getComputedStyle(control).backgroundColor]
            .map((text, n) => n ? text.match(/[\\d.]+/g).slice(0, 3).map(Number) : text))"""
    for name, edge, ground in page.evaluate(js):
        assert contrast_ratio(edge, ground) >= 3, name  # WCAG 2, 1.4.11


# Linear RGB as seen without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1).
CONES = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("missing", CONES)
def test_the_color_blind_can_tell_positive_from_negative_evidence(missing):
    seen = np.clip(linear(lookup("signed")[1:]) @ np.transpose(CONES[missing]), 0, 1)
    colors = cv2.cvtColor(np.float32(seen[None]), cv2.COLOR_LRGB2Lab)[0]
    negative, zero, positive = colors[:40], colors[120:136], colors[-40:]
    for one, two in ((negative, positive), (negative, zero), (positive, zero)):
        assert np.linalg.norm(one[:, None] - two[None], axis=2).min() >= 20  # 2.3 is just noticeable
