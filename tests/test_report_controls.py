"""The report in Chromium: address, controls, downloads, summary, and many pictures."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from browser import listed, opened, pixels, read_number, show_picture, state, wait_for_address, wait_for_picture
from reports import COUNT, LABELS, NAMES, SHOWN, index_of, report_with_errors, run_on_photos, wrong_ones

import cam
from cam.drawing.colormaps import lookup
from cam.images.io import read_image
from cam.report.write import write_report


def test_the_address_holds_the_state(page, browser, reported):
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    picture = {"picture": 6, "class": 2, "evidence": "contrast", "against": 1, "opacity": 0.7, "threshold": 0.25}
    drawing = {"scale": "picture", "colormap": "inferno"}
    changes = {**picture, **drawing, "show": "wrong", "sort": "margin", "order": "down", "text": "p", "margin": 40}
    page.evaluate("(changes) => gapcam.state.set(changes)", changes)
    page.evaluate("gapcam.state.set({ pin: 70 })")
    expected = page.evaluate("({ ...gapcam.state.current })")
    assert {key: expected[key] for key in changes} == changes
    wait_for_address(page)
    with opened(browser, reported[1], page.evaluate("location.hash")) as other:
        assert other.evaluate("({ ...gapcam.state.current })") == expected
        assert page.evaluate("[...gapcam.picture.view.values]") == other.evaluate("[...gapcam.picture.view.values]")
        assert other.locator("#against").input_value().startswith("1 ")
        assert other.locator("#show").input_value() == "wrong"
        other.evaluate("location.hash = '#picture=nonsense&class=999&opacity=7&evidence=x&pin=-1'")
        other.wait_for_selector('html[data-shown="0"]', state="attached")
        keys = "picture", "class", "opacity", "evidence", "pin"
        assert [state(other, key) for key in keys] == [0, None, 0.85, "logit", None]


def test_back_returns_to_the_earlier_view(page):
    page.evaluate("gapcam.state.open(3)")
    page.keyboard.press("s")
    page.locator("#groups button").nth(1).click()
    group = state(page, "summary")
    page.click("#group-open")
    for expected in (["summary", 3, group], ["summary", 3, None], ["pictures", 3, None]):
        page.go_back()
        page.wait_for_timeout(500)  # a busy machine takes its time
        assert [state(page, key) for key in ("view", "picture", "summary")] == expected
    page.go_forward()
    page.wait_for_timeout(500)  # a busy machine takes its time
    assert page.locator("#summary").is_visible()


def test_controls_change_the_drawing(page):
    initial = pixels(page, "heat-canvas")
    page.evaluate("gapcam.state.set({ threshold: 0.5 })")
    assert 0 < (pixels(page, "heat-canvas")[..., 3] > 0).sum() < (initial[..., 3] > 0).sum()
    page.evaluate("gapcam.state.set({ threshold: 0, colormap: 'viridis' })")
    assert (pixels(page, "heat-canvas") != initial).any()
    page.locator("#opacity").fill("0.8")
    assert page.locator("#heat-canvas").evaluate("(canvas) => canvas.style.opacity") == "0.8"
    page.select_option("#scale", "picture")
    peak = page.evaluate("Math.max(...gapcam.picture.view.values.map(Math.abs))")
    assert read_number(page.locator("#high")) == pytest.approx(peak, abs=0.051)
    assert "scale of this picture" in page.locator("#scale-note").inner_text()
    page.select_option("#scale", "run")
    vmax = page.evaluate("gapcam.data.index.drawing.vmax")
    ends = [read_number(page.locator(end)) for end in ("#low", "#middle", "#high")]
    assert ends == pytest.approx([0, vmax / 2, vmax], abs=0.051)  # viridis leaves out evidence against the class
    page.select_option("#colormap", "signed")
    ends = [read_number(page.locator(end)) for end in ("#low", "#middle", "#high")]
    assert ends == pytest.approx([-vmax, 0, vmax], abs=0.051)
    bar = pixels(page, "bar")[0].astype(float)
    assert (bar[:, 3] == 255).all()  # opaque, also in a saved image
    assert np.abs(bar[127, :3] - 140).max() <= 1
    color = lookup("signed")[255].astype(float)
    share = 0.8 * color[3] / 255
    assert np.abs(bar[254, :3] - (share * color[:3] + (1 - share) * 140)).max() <= 1
    assert "same scale for all pictures" in page.locator("#scale-note").inner_text()
    page.click("#evidence [value=posterior]")
    assert [page.locator(end).inner_text() for end in ("#low", "#middle", "#high")] == ["0.0 %", "50.0 %", "100.0 %"]


def test_a_class_field_refuses_text_that_matches_no_class_or_several(page):
    assert page.evaluate("(text) => gapcam.format.findClass(text)", LABELS[0]) == 0
    assert page.evaluate("gapcam.format.findClass('1')") == 1
    assert page.evaluate("gapcam.format.findClass('document')") is None  # in two labels: undefined
    page.fill("#class", "bold")
    page.keyboard.press("Tab")
    assert state(page, "class") == 2
    page.fill("#class", "document")
    page.keyboard.press("Tab")
    assert page.locator("#class").get_attribute("aria-invalid") == "true"
    message = page.locator("#class").evaluate("(field) => field.validationMessage")
    assert message.startswith('"document" matches no class, or several')
    assert state(page, "class") == 2
    page.locator("#chips button[aria-pressed=false]").first.click()
    assert page.locator("#class").get_attribute("aria-invalid") is None


def test_a_click_pins_a_cell_and_another_moves_or_frees_it(page):
    box = page.locator("#stage").bounding_box()
    for share, is_pinned in ((0.3, True), (0.6, True), (0.6, False)):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        cell = page.evaluate("gapcam.picture.view.hovered")
        assert state(page, "pin") == (cell if is_pinned else None)


def test_png_saves_the_view(page, tmp_path):
    page.evaluate("gapcam.state.set({ pin: 100 })")
    with page.expect_download() as download:
        page.click("#save-picture")
    download.value.save_as(tmp_path / "view.png")
    image = read_image(tmp_path / "view.png")
    heat, photograph = pixels(page, "heat-canvas"), pixels(page, "photo")
    height, width = photograph.shape[:2]
    times = -(-480 // width)  # for a readable legend
    assert times > 1
    assert image.shape == (times * height + 112, times * width, 3)
    y, x = np.mgrid[: height * times, : width * times] // times
    share = page.evaluate("gapcam.state.current.opacity") * heat[y, x, 3:] / 255
    gray = photograph[y, x, :3] @ [0.2126, 0.7152, 0.0722]
    expected = share * heat[y, x, :3] + (1 - share) * (0.12 * 255 + 0.76 * gray)[..., None]
    similar = np.abs(image[: times * height] - expected).max(-1) <= 24  # enlarging smooths the heat
    assert similar[heat[y, x, 3] > 0].mean() > 0.85  # but for the outlines
    top, middle = page.evaluate("""() => {
        const { left, top, width } = gapcam.geometry.box(gapcam.picture.view.picture, 100);
        return [top, left + width / 2];
    }""")
    assert image[round(top * times * height), round(middle * times * width)].min() >= 240  # rim of the pinned cell
    for baseline in (18, 35, 52):  # the lines of the legend
        assert (image[times * height + baseline - 10 : times * height + baseline, :100] < 128).any()


def test_csv_saves_the_filtered_list(page, reported, tmp_path):
    records = reported[2]
    wrong = wrong_ones(records)
    page.select_option("#show", "wrong")
    with page.expect_download() as download:
        page.click("#save-table")
    download.value.save_as(tmp_path / "pictures.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pictures.csv").read_text("utf-8-sig"))))
    assert [row["path"].lstrip("'") for row in rows] == [records[n]["path"] for n in wrong]
    for row, n in zip(rows, wrong, strict=True):
        target = records[n]["targets"][0]
        assert float(row["logit"]) == pytest.approx(target["logit"], abs=1e-5)
        assert float(row["probability"]) == pytest.approx(target["probability"], abs=1e-5)
        top = page.evaluate("(n) => gapcam.data.index.pictures[n].top", n)
        assert float(row["lead"]) == pytest.approx(top[0][1] - top[1][1], abs=1e-5)
        assert (int(row["class_idx"]), row["verdict"]) == (target["class_idx"], "wrong")
    assert page.evaluate("gapcam.save.table()").count("\r\n") == len(rows) + 1
    page.evaluate("for (const row of gapcam.data.index.pictures) row.path = row.name")
    page.click("#clear")
    assert '"\'=1+1.png"' in page.evaluate("gapcam.save.table()")  # no formula


def test_many_pictures_are_loaded_from_files(browser, tmp_path):
    count = 20 * COUNT
    run_on_photos(tmp_path, count, NAMES)
    report = write_report(tmp_path / "run")
    assert report.stat().st_size < 600_000
    previews = (tmp_path / "run" / "report" / "previews").iterdir()
    assert sorted(path.name for path in previews) == [f"{number}.js" for number in range(5)]
    names = [row["name"] for row in index_of(report)["pictures"]]
    assert len(names) == count
    with opened(browser, report) as page:
        for name in NAMES:  # in addresses these need quoting
            show_picture(page, names.index(name))
            assert page.locator("#name").text_content().endswith(name)
            assert page.evaluate("gapcam.picture.view.values.length") == 256
        page.evaluate("document.getElementById('list').scrollTop = 1e9")
        last = page.locator(f"#rows [data-number='{count - 1}']")
        last.locator("img[src^='data:image/jpeg']").wait_for()
        last.click()
        wait_for_picture(page)
        assert page.locator("#rows .row").count() < 40
        page.keyboard.press("g")
        tile = page.locator(f"#tiles [data-number='{count - 1}']")
        tile.locator("canvas.heat[width='48']").wait_for()
        assert page.locator("#tiles .tile").count() < 150
        slowest = page.evaluate("""() => {
            const changes = [{ text: "p1" }, { text: "" }, { sort: "margin" }, { order: "down" }, { margin: 1 }];
            return Math.max(...changes.map((change) => {
                const start = performance.now();
                gapcam.state.set(change);
                document.getElementById("list").getBoundingClientRect();
                return performance.now() - start;
            }));
        }""")
        assert slowest < 300  # milliseconds; docs/report.md has the times of an idle machine


def test_a_new_order_is_shown_from_the_top(page):
    show_picture(page, listed(page)[-1])
    assert page.locator("#list").evaluate("(list) => list.scrollTop") > 0
    page.select_option("#sort", "margin")
    assert page.locator("#list").evaluate("(list) => list.scrollTop") == 0


def test_the_summary_has_the_means_of_python(page, reported):
    classifier, _, records = reported
    summary = page.evaluate("gapcam.data.index.summary")
    maps = [cam.explain(classifier, record["path"]).cam for record in records]

    def unpacked(entry: str) -> np.ndarray:
        values = page.evaluate(f"async () => [...await gapcam.data.unpack(gapcam.data.index.summary.{entry}.map)]")
        return np.reshape(values, maps[0].shape)

    assert np.abs(unpacked("all") - np.mean(maps, 0)).max() <= 1e-3
    assert summary["all"]["count"] == COUNT == sum(summary["all"]["histogram"])
    assert sum(group["count"] for group in summary["classes"]) == COUNT
    border = [1 - np.clip(m[1:-1, 1:-1], 0, None).sum() / np.clip(m, 0, None).sum() for m in maps]
    assert summary["all"]["border"] == pytest.approx(np.mean(border), abs=1e-5)
    truth, predicted = (summary["confusions"][0][key] for key in ("truth", "predicted"))
    pairs = [(record["truth"], record["targets"][0]["class_idx"]) for record in records]
    confused = [n for n in wrong_ones(records) if pairs[n] == (truth, predicted)]
    contrast = np.mean([maps[n] - cam.explain(classifier, records[n]["path"], truth).cam for n in confused], 0)
    assert np.abs(unpacked("confusions[0]") - contrast).max() <= 2e-3
    page.click("#view-summary")
    page.locator("#groups button").nth(1).click()
    assert page.locator("#group-title").text_content() == SHOWN[summary["classes"][0]["class"]]
    assert str(summary["classes"][0]["count"]) in page.locator("#group-text").inner_text()
    page.locator("#cards button").first.click()
    wait_for_picture(page)
    assert listed(page) == confused
    assert (state(page, "evidence"), state(page, "against")) == ("contrast", truth)


def test_the_histogram_counts_probabilities(page, reported):
    probabilities = [record["targets"][0]["probability"] for record in reported[2]]
    expected, _ = np.histogram(probabilities, bins=20, range=(0, 1))
    page.click("#view-summary")
    bars = page.locator("#group-histogram .histogram span")
    assert [int(bar.get_attribute("title").rsplit(" ", 1)[1]) for bar in bars.all()] == expected.tolist()
    heights = [float(height.rstrip("%")) for height in bars.evaluate_all("(all) => all.map((bar) => bar.style.height)")]
    assert heights == pytest.approx((100 * expected / expected.max()).tolist(), abs=0.01)


def test_the_summary_opens_all_pictures_of_a_class_and_of_a_confusion(page):
    rows = page.evaluate("gapcam.data.index.pictures.map(({ preview, ...row }) => row)")
    filters = {"show": "right", "text": "no such", "margin": 0, "sort": "margin", "order": "down"}
    page.evaluate("(filters) => gapcam.state.set(filters)", filters)
    page.keyboard.press("s")
    page.locator("#groups button").nth(1).click()
    c = state(page, "summary")
    page.click("#group-open")
    assert listed(page) == [n for n, row in enumerate(rows) if c in (row["top"][0][0], row["truth"])]
    assert state(page, "picture") == listed(page)[0]
    page.evaluate("(filters) => gapcam.state.set(filters)", filters)
    page.keyboard.press("s")
    page.locator("#cards button").first.click()
    wait_for_picture(page)
    assert len(listed(page)) == page.evaluate("gapcam.data.index.summary.confusions[0].count")
    assert state(page, "picture") == listed(page)[0]


def test_a_mean_map_is_shown_with_its_own_class(page):
    classes = page.evaluate("gapcam.data.index.summary.classes.map((group) => group.class)")
    page.keyboard.press("s")
    expected = []
    for c in classes[:2]:
        page.evaluate("(c) => gapcam.state.set({ summary: c })", c)
        page.wait_for_timeout(100)
        expected.append((page.locator("#group-high").inner_text(), pixels(page, "group-map").tolist()))
    assert expected[0] != expected[1]
    page.evaluate("([a, b]) => { gapcam.state.set({ summary: a }); gapcam.state.set({ summary: b }); }", classes[:2])
    page.wait_for_timeout(200)
    assert (page.locator("#group-high").inner_text(), pixels(page, "group-map").tolist()) == expected[1]
    values = page.evaluate("async () => [...await gapcam.data.unpack(gapcam.data.index.summary.classes[1].map)]")
    assert float(expected[1][0]) == pytest.approx(np.abs(values).max(), abs=0.051)


def test_a_card_says_how_many_pictures_its_map_averages(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.report.evidence._MAX_BYTES", 0)  # only the top classes are stored
    monkeypatch.setattr("cam.report.evidence.TOP", 2)
    _, report, _ = report_with_errors(tmp_path)
    confusions = index_of(report)["summary"]["confusions"]
    assert any(confusion["maps"] < confusion["count"] for confusion in confusions)
    with opened(browser, report) as page:
        page.keyboard.press("s")
        for n, confusion in enumerate(confusions):
            text = page.locator("#cards .card").nth(n).locator(".path").inner_text()
            assert (f", map of {confusion['maps']}" in text) == (0 < confusion["maps"] < confusion["count"])
            assert ("map not stored" in text) == (confusion["maps"] == 0)
