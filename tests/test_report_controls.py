"""The report in a real browser: links, controls, what is saved, the summary, any screen, many pictures."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from browser import opened, pixels, ready, written
from reports import COUNT, LABELS, NAMES, explained, index_of, listed, state, wrong
from small import wrapped

from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.images.io import read_image
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder


def test_the_address_holds_the_state(page, browser, reported):
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = {"picture": 5, "class": 2, "evidence": "contrast", "against": 1, "opacity": 0.7, "threshold": 0.25}
    drawn = {"scale": "picture", "colormap": "cividis"}
    changes = {**shown, **drawn, "show": "wrong", "sort": "margin", "order": "down", "text": "p", "margin": 40}
    page.evaluate("(changes) => gapcam.state.set(changes)", changes)
    page.evaluate("gapcam.state.set({ pin: 70 })")
    expected = page.evaluate("({ ...gapcam.state.current })")
    assert {key: expected[key] for key in changes} == changes
    written(page)
    with opened(browser, reported[1], page.evaluate("location.hash")) as other:
        assert other.evaluate("({ ...gapcam.state.current })") == expected
        assert page.evaluate("[...gapcam.picture.view.values]") == other.evaluate("[...gapcam.picture.view.values]")
        assert other.locator("#against").input_value().startswith("1 ")
        assert other.locator("#show").input_value() == "wrong"
        other.evaluate("location.hash = '#picture=nonsense&class=999&opacity=7&evidence=x&pin=-1'")
        other.wait_for_selector('html[data-shown="0"]', state="attached")
        state_ = other.evaluate("({ ...gapcam.state.current })")
        assert (state_["picture"], state_["class"], state_["opacity"], state_["evidence"], state_["pin"]) == (
            0,
            None,
            0.5,
            "logit",
            None,
        )


def test_back_leads_to_what_was_in_sight(page):
    page.evaluate("gapcam.state.open(3)")
    page.keyboard.press("s")
    page.locator("#groups button").nth(1).click()
    group = state(page, "summary")
    page.click("#group-open")
    for view, picture, summary in (("summary", 3, group), ("summary", 3, None), ("pictures", 3, None)):
        page.go_back()
        page.wait_for_timeout(100)
        assert [state(page, key) for key in ("view", "picture", "summary")] == [view, picture, summary]
    page.go_forward()
    page.wait_for_timeout(100)
    assert page.locator("#summary").is_visible()


def test_controls_draw_what_they_say(page):
    plain = pixels(page, "heat-canvas")
    page.evaluate("gapcam.state.set({ threshold: 0.5 })")
    some = pixels(page, "heat-canvas")
    assert 0 < (some[..., 3] > 0).sum() < (plain[..., 3] > 0).sum()
    page.evaluate("gapcam.state.set({ threshold: 0, colormap: 'viridis' })")
    assert (pixels(page, "heat-canvas") != plain).any()
    page.locator("#opacity").fill("0.8")
    assert page.locator("#heat-canvas").evaluate("(canvas) => canvas.style.opacity") == "0.8"
    page.select_option("#scale", "picture")
    peak = page.evaluate("Math.max(...gapcam.picture.view.values.map(Math.abs))")
    assert float(page.locator("#high").inner_text()) == pytest.approx(peak, abs=0.051)
    assert "this picture's own scale" in page.locator("#scale-note").inner_text()
    page.select_option("#scale", "run")
    vmax = page.evaluate("gapcam.data.index.drawing.vmax")
    assert float(page.locator("#high").inner_text()) == pytest.approx(vmax, abs=0.051)
    assert float(page.locator("#low").inner_text().replace("\u2212", "-")) == pytest.approx(-vmax, abs=0.051)
    assert page.locator("#middle").inner_text() == "0.0"
    assert "one scale for all pictures" in page.locator("#scale-note").inner_text()
    page.click("#evidence [value=posterior]")
    ends = ("low", "0.0 %"), ("middle", "50.0 %"), ("high", "100.0 %")
    assert all(page.locator(f"#{end}").inner_text() == said for end, said in ends)
    page.fill("#class", "bold")
    page.keyboard.press("Tab")
    assert state(page, "class") == 2
    page.fill("#class", "no such class")
    page.keyboard.press("Tab")
    assert page.locator("#class").get_attribute("aria-invalid") == "true"
    said = page.locator("#class").evaluate("(field) => field.validationMessage")
    assert said.startswith('"no such class" is the name of no class, or of several')
    assert state(page, "class") == 2


def test_the_view_is_saved_as_a_picture(page, tmp_path):
    page.evaluate("gapcam.state.set({ pin: 100 })")
    with page.expect_download() as saved:
        page.click("#save-picture")
    saved.value.save_as(tmp_path / "view.png")
    image = read_image(tmp_path / "view.png")
    heat, photograph = pixels(page, "heat-canvas"), pixels(page, "photo")
    height, width = photograph.shape[:2]
    times = -(-280 // width)  # for the legend to be read
    assert times > 1
    assert image.shape == (times * height + 78, times * width, 3)
    assert heat[20, 24, 3] == 255
    y, x = np.mgrid[: height * times, : width * times] // times
    expected = (heat[y, x, :3] + photograph[y, x, :3]) / 2
    inside = np.abs(image[: times * height] - expected).max(-1) <= 24  # smoothed on the way up
    assert inside[heat[y, x, 3] == 255].mean() > 0.9
    top, middle = page.evaluate("""() => {
        const { left, top, width } = gapcam.geometry.box(gapcam.picture.view.picture, 100);
        return [top, left + width / 2];
    }""")
    rim = image[round(top * times * height), round(middle * times * width)]
    assert rim.min() >= 240  # the pinned cell
    assert (image[times * height + 5 :] < 128).any()  # the legend


def test_the_table_is_saved(page, reported, tmp_path):
    _, _, records = reported
    page.select_option("#show", "wrong")
    with page.expect_download() as saved:
        page.click("#save-table")
    saved.value.save_as(tmp_path / "pictures.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pictures.csv").read_text("utf-8-sig"))))
    assert [row["path"].lstrip("'") for row in rows] == [records[n]["path"] for n in wrong(records)]
    for row, n in zip(rows, wrong(records), strict=True):
        target = records[n]["targets"][0]
        assert float(row["logit"]) == pytest.approx(target["logit"], abs=1e-5)
        assert float(row["probability"]) == pytest.approx(target["probability"], abs=1e-5)
        assert (int(row["class_idx"]), row["verdict"]) == (target["class_idx"], "wrong")
    assert page.evaluate("gapcam.save.table()").count("\r\n") == len(rows) + 1
    page.evaluate("for (const row of gapcam.data.index.pictures) row.path = row.name")
    page.click("#clear")
    assert '"\'=1+1.png"' in page.evaluate("gapcam.save.table()")  # no formula


def test_twenty_times_as_many_pictures_lie_beside_the_page(browser, tmp_path):
    count = 20 * COUNT
    explained(tmp_path, count, NAMES)
    report = write_report(tmp_path / "run")
    assert report.stat().st_size < 600_000
    thumbnails = (tmp_path / "run" / "report" / "thumbnails").iterdir()
    assert sorted(path.name for path in thumbnails) == [f"{number}.js" for number in range(5)]
    names = [row["name"] for row in index_of(report)["pictures"]]
    assert len(names) == count
    with opened(browser, report) as page:
        for name in NAMES:  # whose files need their addresses quoted
            page.evaluate("(n) => gapcam.state.open(n)", names.index(name))
            ready(page)
            assert page.locator("#name").text_content().endswith(name)
            assert page.evaluate("gapcam.picture.view.values.length") == 256
        page.evaluate("document.getElementById('list').scrollTop = 1e9")
        last = page.locator(f"#rows [data-number='{count - 1}']")
        last.locator("img[src^='data:image/jpeg']").wait_for()
        last.click()
        ready(page)
        assert page.locator("#rows .row").count() < 40
        slowest = page.evaluate("""async () => {
            const box = document.getElementById("list");
            const changes = [{ text: "p1" }, { text: "" }, { sort: "margin" }, { order: "down" }, { margin: 1 }];
            const acts = [...changes, { margin: null }].map((change) => () => gapcam.state.set(change));
            for (let i = 0; i < 20; i++) acts.push(() => { box.scrollTop = (i / 20) * box.scrollHeight; });
            for (let i = 0; i < 20; i++) acts.push(() => gapcam.list.step(i % 3 ? 7 : -5));
            let slowest = 0;
            for (const act of acts) {
                const start = performance.now();
                act();
                box.getBoundingClientRect();
                slowest = Math.max(slowest, performance.now() - start);
                await new Promise((go) => requestAnimationFrame(go));
            }
            return slowest;
        }""")
        assert slowest < 300  # milliseconds; docs/report.md has what it takes on a machine that is not shared
        ready(page)


def test_a_file_that_is_not_beside_the_page_is_told(browser, tmp_path):
    explained(tmp_path, 101)
    report = write_report(tmp_path / "run")
    (tmp_path / "run" / "report" / "pictures" / "p5.png.js").unlink()
    number = [row["name"] for row in index_of(report)["pictures"]].index("p5.png")
    with opened(browser, report, refused="ERR_FILE_NOT_FOUND") as page:
        page.evaluate("(n) => gapcam.state.open(n)", number)
        page.locator("#kept", has_text="The evidence of p5.png is not beside this page. Keep report.html in").wait_for()
        assert page.locator("#name").text_content().endswith("p5.png")
        assert page.locator("#chips button").count() == 0
        assert page.locator("#sums").text_content() == ""
        assert page.locator("#photo").evaluate("(canvas) => canvas.width") == 0
        assert page.locator("#save-picture").is_disabled()
        assert page.locator("#legend").is_hidden()
        page.evaluate("(n) => gapcam.state.open(n)", number + 1)
        page.wait_for_selector(f'html[data-shown="{number + 1}"]', state="attached")
        assert page.locator("#chips button").count() == 5


def test_a_run_in_which_nothing_was_explained_has_no_report(tmp_path):
    explained(tmp_path, 1)
    (tmp_path / "photos" / "p0.png").write_bytes(b"torn")
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset(), overwrite=True)
    explain_folder(wrapped(), find_pictures([tmp_path / "photos"]), tmp_path / "run", options)
    with pytest.raises(UsageError, match="explained no picture"):
        write_report(tmp_path / "run")


def test_a_class_that_is_not_one_is_refused_until_it_is(page):
    first = LABELS[0]
    assert page.evaluate("(text) => gapcam.format.classNamed(text)", first) == 0
    assert page.evaluate("gapcam.format.classNamed('1')") == 1
    assert page.evaluate("gapcam.format.classNamed('document')") is None  # stands in two labels: undefined
    for field in ("#of", "#class"):
        page.locator(field).fill("document")
        page.locator(field).press("Enter")
        assert page.locator(field).get_attribute("aria-invalid") == "true"
    page.locator("#clear").click()
    assert (page.locator("#of").input_value(), page.locator("#of").get_attribute("aria-invalid")) == ("", None)
    page.locator("#chips button").nth(1).click()
    assert page.locator("#class").get_attribute("aria-invalid") is None


def test_a_new_order_is_shown_from_its_top(page):
    page.evaluate("(n) => gapcam.state.open(n)", listed(page)[-1])
    ready(page)
    assert page.locator("#list").evaluate("(list) => list.scrollTop") > 0
    page.select_option("#sort", "margin")
    assert page.locator("#list").evaluate("(list) => list.scrollTop") == 0
