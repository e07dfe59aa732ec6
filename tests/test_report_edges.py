"""The report in Chromium: missing or damaged data, ambiguous names, any screen, and any eyes."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
import torch
from browser import listed, opened, show_picture, state, wait_for_address, wait_for_picture
from reports import COUNT, SHOWN, forty_maps, index_of, number_of, report_on_two, run_on_photos
from small import gap_linear, wrapped

import cam
from cam.drawing.colormaps import lookup
from cam.report.write import write_report


def test_a_map_that_is_not_stored_is_named(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._MAX_BYTES", 4000)
    with opened(browser, report_on_two(forty_maps(), tmp_path)) as page:
        stored = page.evaluate("gapcam.picture.view.picture.classes")
        missing = min(set(range(40)) - set(stored))
        label = page.evaluate("(c) => gapcam.data.index.labels[c]", missing)
        for changes in ({"class": missing}, {"class": stored[0], "evidence": "contrast", "against": missing}):
            page.evaluate("(changes) => gapcam.state.set(changes)", changes)
            message = f"The map of {label} is not stored: this picture has the maps of {len(stored)} of 40 classes."
            assert page.locator("#note").inner_text() == message
            assert page.locator("#save-picture").is_disabled()
            assert page.locator("#legend").is_hidden()
            assert page.locator("#heat-canvas").is_hidden()
            logit = page.evaluate("(c) => gapcam.picture.view.picture.logits[c].toFixed(3)", missing)
            assert f"{label}: logit {logit}; its map is not stored" in page.locator("#sums").inner_text()
        page.keyboard.press("1")
        page.keyboard.press("c")
        assert page.locator("#note").is_hidden()
        assert page.locator("#save-picture").is_enabled()
        assert page.locator("#legend").is_visible()


@pytest.fixture(scope="module")
def many_pictures(tmp_path_factory):
    """A report whose page loads files."""
    folder = tmp_path_factory.mktemp("many")
    run_on_photos(folder, 101)
    return write_report(folder / "run")


def test_a_page_with_files_may_load_only_those(many_pictures):
    policy = many_pictures.read_text("ascii").split('Content-Security-Policy" content="')[1].split('"')[0]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert rules["script-src"].split()[1:] == ["file:"]
    assert "connect-src" not in rules


def test_missing_and_damaged_files_are_reported_in_the_page(browser, many_pictures):
    pictures = many_pictures.parent / "report" / "pictures"
    (pictures / "p5.png.js").unlink()
    number = number_of(many_pictures, "p5.png")
    with opened(browser, many_pictures, refused="ERR_FILE_NOT_FOUND") as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        page.locator("#note", has_text="p5.png is missing. Keep the folder report next to report.html.").wait_for()
        note, stage = (page.locator(name).bounding_box() for name in ("#note", "#stage"))
        assert stage["width"] / stage["height"] == pytest.approx(48 / 38, rel=0.01)  # where the photograph would be
        assert stage["y"] <= note["y"] < note["y"] + note["height"] <= stage["y"] + stage["height"] + 1
        assert page.locator("#name").text_content().endswith("p5.png")
        row = index_of(many_pictures)["pictures"][number]
        assert page.locator("#chips .name").all_text_contents() == [SHOWN[c] for c, *_ in row["top"]]
        shares = [f"{100 * probability:.1f} %" for *_, probability in row["top"]]
        assert page.locator("#chips .number:last-child").all_inner_texts() == shares
        assert page.locator("#verdict").inner_text() == f"{SHOWN[row['top'][0][0]]} {shares[0]}"
        assert page.locator("#answer").inner_text() == ""
        assert page.locator("#remarks").is_hidden()
        assert page.locator("#sums").text_content() == ""
        assert page.locator("#photo").evaluate("(canvas) => canvas.width") == 0
        assert page.locator("#save-picture").is_disabled()
        assert page.locator("#legend").is_hidden()
        show_picture(page, number + 1)
        assert page.locator("#chips button").count() == 5
    (pictures / "p5.png.js").write_text("gapcam.receive(\n{")
    with opened(browser, many_pictures, refused="Unexpected") as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        page.locator("#note", has_text="The evidence of p5.png is damaged. Run cam explain again").wait_for()


def test_file_names_that_are_not_valid_text_have_links(browser, tmp_path):
    names = [os.fsdecode(name) for name in (b"caf\xe9.png", b"caf\xe8.png")]
    run_on_photos(tmp_path, 4, names)
    report = write_report(tmp_path / "run")
    number = number_of(report, names[0])
    with opened(browser, report) as page:
        show_picture(page, number)
        wait_for_address(page)
        with opened(browser, report, page.evaluate("location.hash")) as other:
            assert state(other, "picture") == number


def test_an_unknown_confusion_in_the_address_is_ignored(browser, reported):
    with opened(browser, reported[1], "#confusion=4>4") as page:
        assert len(listed(page)) == COUNT
    first = index_of(reported[1])["summary"]["confusions"][0]
    with opened(browser, reported[1], f"#confusion={first['truth']}>{first['predicted']}") as page:
        assert len(listed(page)) == first["count"]


def test_a_class_is_never_compared_with_itself(page):
    top = page.evaluate("gapcam.data.index.pictures[0].top.map(([c]) => c)")
    page.keyboard.press("c")
    for c, invalid in ((top[0], "true"), (top[2], None)):
        page.locator("#against").fill(f"{c} ")
        page.locator("#against").press("Enter")
        assert page.locator("#against").get_attribute("aria-invalid") == invalid
    page.locator("#chips button").nth(2).click()  # the class in "against"
    assert state(page, "class") == top[2]
    assert not page.locator("#against").input_value().startswith(f"{top[2]} ")
    assert page.evaluate("gapcam.picture.view.values.some((value) => value !== 0)")


def test_a_label_of_two_classes_selects_neither(browser, tmp_path):
    torch.manual_seed(0)
    classifier = cam.wrap(gap_linear(3), input_size=32, labels=["crane", "dog", "crane"])
    with opened(browser, report_on_two(classifier, tmp_path)) as page:
        assert page.evaluate("gapcam.format.findClass('crane')") is None  # undefined
        assert page.evaluate("['2 crane', '0', 'DOG'].map(gapcam.format.findClass)") == [2, 0, 1]


def test_opening_a_picture_from_the_summary_scrolls_to_its_row(page):
    page.keyboard.press("s")
    show_picture(page, COUNT - 1)
    row, box = (page.locator(name).bounding_box() for name in (f"#rows [data-number='{COUNT - 1}']", "#list"))
    assert box["y"] <= row["y"]
    assert row["y"] + row["height"] <= box["y"] + box["height"] + 1


def test_the_legend_of_a_finer_map_has_its_logits(browser, tmp_path):
    classifier = wrapped()
    report = report_on_two(classifier, tmp_path, resolution=64)
    path = tmp_path / "photos" / "0.png"
    expected = cam.explain(classifier, path, resolution=64)
    with opened(browser, report) as page:
        line, *_ = page.evaluate("gapcam.save.legend()")
        assert f"logit {expected.map_logit:.2f} at this resolution".replace("-", "\u2212") in line
        assert f"{expected.map_logit:.3f}".replace("-", "\u2212") in page.locator("#sums").inner_text()
        page.keyboard.press("c")
        classes = page.evaluate("""() => {
            const { class: target, against } = gapcam.classes.selection(gapcam.state.current);
            return [target, against];
        }""")
        a, b = (cam.explain(classifier, path, c, resolution=64).map_logit for c in classes)
        line, *_ = page.evaluate("gapcam.save.legend()")
        assert f"lead {a - b:.2f} at this resolution".replace("-", "\u2212") in line


def test_the_legend_isolates_labels_that_change_the_writing_direction(page):
    page.evaluate("gapcam.state.set({ class: 3 })")
    line, answer, _ = page.evaluate("gapcam.save.legend()")
    assert answer.startswith(f"\u2068{SHOWN[3]}\u2069, ")
    assert line.startswith(f"Evidence for \u2068{SHOWN[3]}\u2069: probability ")


def test_nothing_is_computed_before_a_picture_is_loaded(page):
    js = """() => {
        const { state, picture } = gapcam;
        state.open(7);
        const before = document.getElementById("cell-title").textContent;
        picture.step(1, 1);
        picture.pin();
        document.getElementById("stage").dispatchEvent(new PointerEvent("pointermove", { clientX: 700, clientY: 300 }));
        const disabled = document.getElementById("save-picture").disabled;
        return [state.current.pin, document.getElementById("cell-title").textContent === before, disabled];
    }"""
    assert page.evaluate(js) == [None, True, True]
    wait_for_picture(page)
    assert page.locator("#save-picture").is_enabled()


def test_a_posterior_never_exceeds_1(browser, tmp_path):
    torch.manual_seed(0)
    network = gap_linear(3)
    torch.nn.init.normal_(network[-1].weight, std=20)
    report = report_on_two(cam.wrap(network, input_size=32), tmp_path)
    with opened(browser, report, "#evidence=posterior") as page:
        peaks = page.evaluate("""[0, 1, 2].map((c) => Math.max(...gapcam.evidence.map(
            gapcam.picture.view.picture, { evidence: "posterior", class: c })))""")
        assert max(peaks) == 1
        assert "reaches" not in page.locator("#scale-note").inner_text()


@pytest.mark.parametrize("width", [390, 700, 1000])
def test_narrow_screens_need_no_sideways_scrolling(browser, reported, width):
    with opened(browser, reported[1], viewport={"width": width, "height": 844}) as page:
        for view in ("summary", "pictures"):
            page.click(f"#view-{view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = ["center", "panel", "side"] if width > 800 else ["center", "panel"]  # on phones the list is a drawer
        assert page.locator("#side").is_visible() == (width > 800)
        boxes = page.evaluate(
            """(ids) => ids.map((id) => {
            const { left, right, top, bottom } = document.getElementById(id).getBoundingClientRect();
            return { left, right, top, bottom };
        })""",
            shown,
        )
        for n, one in enumerate(boxes):
            for two in boxes[n + 1 :]:
                across = min(one["right"], two["right"]) - max(one["left"], two["left"])
                down = min(one["bottom"], two["bottom"]) - max(one["top"], two["top"])
                assert min(across, down) <= 0.5  # no overlap
        assert page.locator("#center").evaluate("(center) => center.scrollHeight - center.clientHeight") <= 1
        page.locator("#stage").click()
        assert state(page, "pin") is not None


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
    js = """() => [...document.querySelectorAll("input:not([type=range]), select, button:not(.link)")].map(
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
    table = lookup("signed")[1:].astype(float)
    share = 0.85 * table[:, 3:] / 255
    on_gray = share * table[:, :3] + (1 - share) * 128
    seen = np.clip(linear(on_gray) @ np.transpose(CONES[missing]), 0, 1)
    colors = cv2.cvtColor(np.float32(seen[None]), cv2.COLOR_LRGB2Lab)[0]
    negative, zero, positive = colors[:40], colors[120:136], colors[-40:]
    for one, two in ((negative, positive), (negative, zero), (positive, zero)):
        assert np.linalg.norm(one[:, None] - two[None], axis=2).min() >= 20  # 2.3 is just noticeable
