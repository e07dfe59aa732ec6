"""The report in Chromium: missing or damaged data, ambiguous names, narrow screens, and accessibility."""

from __future__ import annotations

import os

import pytest
import torch
from browser import listed, opened, show_picture, state, wait_for_address, wait_for_picture
from reports import COUNT, LABELS, forty_maps, index_of, number_of, report_on_two, run_on_photos
from small import gap_linear, wrapped

import cam
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
        page.locator("#stored", has_text="The evidence of p5.png is missing. Keep report.html in").wait_for()
        assert page.locator("#name").text_content().endswith("p5.png")
        assert page.locator("#chips button").count() == 0
        assert page.locator("#sums").text_content() == ""
        assert page.locator("#photo").evaluate("(canvas) => canvas.width") == 0
        assert page.locator("#save-picture").is_disabled()
        assert page.locator("#legend").is_hidden()
        show_picture(page, number + 1)
        assert page.locator("#chips button").count() == 5
    (pictures / "p5.png.js").write_text("gapcam.receive(\n{")
    with opened(browser, many_pictures, refused="Unexpected") as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        page.locator("#stored", has_text="The evidence of p5.png is damaged. Run cam explain again").wait_for()


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


def test_tab_goes_down_the_rows_also_after_scrolling(page):
    page.locator("#rows button").first.focus()
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_selector(f"#rows [data-number='{COUNT - 1}']")
    assert page.evaluate("document.activeElement.dataset.number") == "0"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("row")
    order = "[...document.querySelectorAll('#rows .row')].map((row) => Number(row.dataset.number))"
    for top in (1e9, 0, 300):
        page.evaluate("(top) => { document.getElementById('list').scrollTop = top; }", top)
        page.wait_for_timeout(100)
        assert (numbers := page.evaluate(order)) == sorted(numbers)


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
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"logit {expected.map_logit:.2f} at this resolution".replace("-", "\u2212") in line
        assert f"{expected.map_logit:.3f}".replace("-", "\u2212") in page.locator("#sums").inner_text()
        page.keyboard.press("c")
        classes = page.evaluate("""() => {
            const { class: target, against } = gapcam.classes.selection(gapcam.state.current);
            return [target, against];
        }""")
        a, b = (cam.explain(classifier, path, c, resolution=64).map_logit for c in classes)
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"margin {a - b:.2f} at this resolution".replace("-", "\u2212") in line


def test_the_legend_isolates_labels_that_change_the_writing_direction(page):
    page.evaluate("gapcam.state.set({ class: 3 })")
    line, _ = page.evaluate("gapcam.save.legend()")
    assert line.startswith(f"Evidence for \u2068{LABELS[3]}\u2069: probability ")


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
