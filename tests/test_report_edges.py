"""The report where something is not there: maps, names that are text, classes and pairs that exist."""

from __future__ import annotations

import os

import torch
from browser import opened, ready, written
from reports import COUNT, LABELS, explained, index_of, listed, many_maps, report_of, state
from small import gap_linear, wrapped

import cam
from cam.report.write import write_report


def test_a_map_that_was_not_kept_is_named_and_leaves_nothing_of_another(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._BYTES", 4000)
    with opened(browser, report_of(many_maps(), tmp_path)) as page:
        kept = page.evaluate("gapcam.picture.view.picture.classes")
        missing = min(set(range(40)) - set(kept))
        label = page.evaluate("(c) => gapcam.data.index.labels[c]", missing)
        for changes in ({"class": missing}, {"class": kept[0], "evidence": "contrast", "against": missing}):
            page.evaluate("(changes) => gapcam.state.set(changes)", changes)
            said = f"The map of {label} was not kept: of this picture the maps of {len(kept)} of 40 classes are."
            assert page.locator("#note").inner_text() == said
            assert page.locator("#save-picture").is_disabled()
            assert page.locator("#legend").is_hidden()
            assert page.locator("#heat-canvas").is_hidden()
            logit = page.evaluate("(c) => gapcam.picture.view.picture.logits[c].toFixed(3)", missing)
            assert f"{label}: logit {logit}; its map was not kept" in page.locator("#sums").inner_text()
        page.keyboard.press("1")
        page.keyboard.press("c")
        assert page.locator("#note").is_hidden()
        assert page.locator("#save-picture").is_enabled()
        assert page.locator("#legend").is_visible()


def test_names_that_are_not_text_have_their_links(browser, tmp_path):
    names = [os.fsdecode(name) for name in (b"caf\xe9.png", b"caf\xe8.png")]
    explained(tmp_path, 4, names)
    report = write_report(tmp_path / "run")
    number = [row["name"] for row in index_of(report)["pictures"]].index(names[0])
    with opened(browser, report) as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        ready(page)
        written(page)
        with opened(browser, report, page.evaluate("location.hash")) as other:
            assert state(other, "picture") == number


def test_a_pair_that_is_none_in_the_address_hides_nothing(browser, reported):
    with opened(browser, reported[1], "#pair=4>4") as page:
        assert len(listed(page)) == COUNT
    pair = index_of(reported[1])["summary"]["pairs"][0]
    with opened(browser, reported[1], f"#pair={pair['truth']}>{pair['predicted']}") as page:
        assert len(listed(page)) == pair["count"]


def test_no_class_is_held_against_itself(page):
    top = page.evaluate("gapcam.data.index.pictures[0].top.map(([c]) => c)")
    page.keyboard.press("c")
    page.locator("#against").fill(f"{top[0]} ")
    page.locator("#against").press("Enter")
    assert page.locator("#against").get_attribute("aria-invalid") == "true"
    page.locator("#against").fill(f"{top[2]} ")
    page.locator("#against").press("Enter")
    assert page.locator("#against").get_attribute("aria-invalid") is None
    page.locator("#chips button").nth(2).click()  # the one it is held against
    assert state(page, "class") == top[2]
    assert not page.locator("#against").input_value().startswith(f"{top[2]} ")
    assert page.evaluate("gapcam.picture.view.values.some((value) => value !== 0)")


def test_keys_go_on_from_a_row_that_was_scrolled_away(page):
    page.locator("#rows button").first.focus()
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_selector(f"#rows [data-number='{COUNT - 1}']")
    assert page.evaluate("document.activeElement.dataset.number") == "0"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("row")


def test_the_legend_of_a_finer_map_has_its_numbers(browser, tmp_path):
    classifier = wrapped()
    report = report_of(classifier, tmp_path, resolution=64)
    path = tmp_path / "photos" / "0.png"
    ours = cam.explain(classifier, path, resolution=64)
    with opened(browser, report) as page:
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"logit {ours.map_logit:.2f} of this finer input".replace("-", "\u2212") in line
        assert f"{ours.map_logit:.3f}".replace("-", "\u2212") in page.locator("#sums").inner_text()
        page.keyboard.press("c")
        own, other = page.evaluate("""() => {
            const { class: a, against } = gapcam.classes.chosen(gapcam.state.current);
            return [a, against];
        }""")
        a, b = (cam.explain(classifier, path, c, resolution=64).map_logit for c in (own, other))
        line, _ = page.evaluate("gapcam.save.legend()")
        assert f"margin {a - b:.2f} of this finer input".replace("-", "\u2212") in line


def test_a_step_from_the_summary_comes_into_sight(page):
    page.keyboard.press("s")
    page.evaluate("(n) => gapcam.state.open(n)", COUNT - 1)
    ready(page)
    row, box = (page.locator(name).bounding_box() for name in (f"#rows [data-number='{COUNT - 1}']", "#list"))
    assert box["y"] <= row["y"]
    assert row["y"] + row["height"] <= box["y"] + box["height"] + 1


def test_rows_are_in_the_order_of_tab(page):
    order = "[...document.querySelectorAll('#rows .row')].map((row) => Number(row.dataset.number))"
    for top in (1e9, 0, 300):
        page.evaluate("(top) => { document.getElementById('list').scrollTop = top; }", top)
        page.wait_for_timeout(100)
        numbers = page.evaluate(order)
        assert numbers == sorted(numbers)


def test_no_number_is_of_a_picture_that_is_not_yet_there(page):
    js = """() => {
        const { state, picture } = gapcam;
        state.open(7);
        const before = document.getElementById("place-title").textContent;
        picture.step(1, 1);
        picture.pin();
        document.getElementById("stage").dispatchEvent(new PointerEvent("pointermove", { clientX: 700, clientY: 300 }));
        const save = document.getElementById("save-picture").disabled;
        return [state.current.pin, document.getElementById("place-title").textContent === before, save];
    }"""
    pin, same, disabled = page.evaluate(js)
    assert (pin, same, disabled) == (None, True, True)
    ready(page)
    assert page.locator("#save-picture").is_enabled()


def test_of_namesakes_none_is_meant(browser, tmp_path):
    torch.manual_seed(0)
    classifier = cam.wrap(gap_linear(3), input_size=32, labels=["crane", "dog", "crane"])
    with opened(browser, report_of(classifier, tmp_path)) as page:
        assert page.evaluate("gapcam.format.classNamed('crane')") is None  # undefined
        assert page.evaluate("['2 crane', '0', 'DOG'].map(gapcam.format.classNamed)") == [2, 0, 1]


def test_a_place_that_is_sure_is_not_more_than_that(browser, tmp_path):
    torch.manual_seed(0)
    network = gap_linear(3)
    torch.nn.init.normal_(network[-1].weight, std=20)
    classifier = cam.wrap(network, input_size=32)
    with opened(browser, report_of(classifier, tmp_path), "#evidence=posterior") as page:
        peaks = page.evaluate("""[0, 1, 2].map((c) => Math.max(...gapcam.evidence.map(
            gapcam.picture.view.picture, { evidence: "posterior", class: c })))""")
        assert max(peaks) == 1
        assert "reaches" not in page.locator("#scale-note").inner_text()


def test_a_label_that_turns_its_line_round_leaves_the_numbers_alone(page):
    page.evaluate("gapcam.state.set({ class: 3 })")
    line, _ = page.evaluate("gapcam.save.legend()")
    assert line.startswith(f"Evidence for \u2068{LABELS[3]}\u2069: probability ")


def test_it_is_said_what_is_kept(browser, tmp_path):
    with opened(browser, report_of(wrapped(), tmp_path)) as page:
        said = "Kept of this picture: the maps of all 5 classes, right to 0.0005 logits."
        assert page.locator("#kept").inner_text() == said


def test_with_files_beside_it_the_page_may_load_those_and_nothing_else(tmp_path):
    explained(tmp_path, 101)
    report = write_report(tmp_path / "run").read_text("ascii")
    policy = report.split('Content-Security-Policy" content="')[1].split('"')[0]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"].split()[1:] == ["file:"]
    assert "connect-src" not in rules


def test_evidence_that_is_damaged_is_told_in_the_page(browser, tmp_path):
    explained(tmp_path, 101)
    report = write_report(tmp_path / "run")
    (tmp_path / "run" / "report" / "pictures" / "p5.png.js").write_text("gapcam.keep(\n{")
    number = [row["name"] for row in index_of(report)["pictures"]].index("p5.png")
    with opened(browser, report, refused="Unexpected") as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        page.locator("#kept", has_text="The evidence of p5.png is damaged. Run cam explain again").wait_for()
