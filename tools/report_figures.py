"""Measure the report: write the table of docs/report.md, and screenshots of a report on scenes of digits.

Usage: python tools/report_figures.py PHOTOGRAPHS TRUTH.csv
Needs Chromium, scikit-learn and the weights of squeezenet1_0.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from cam.images.io import resize, write_image
from cam.images.tables import read_table
from cam.invariance.demo.scenes import compose, uci_digits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

MEASURE = Path(__file__).with_name("report_measure.js").read_text("ascii")


def main() -> None:
    photographs, truth = (str(Path(path).resolve()) for path in sys.argv[1:3])
    program = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    with TemporaryDirectory() as temporary, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        make_scenes(Path(temporary, "scenes"))
        take_screenshots(browser, explain(Path(temporary), "scenes", "digits", "digits", "folder"))
        start = time.perf_counter()
        report = explain(Path(temporary), photographs, "photographs", "squeezenet1_0", truth)
        out = report.parent
        rows = [measure("100", browser, report, time.perf_counter() - start)]
        for count in (2_000, 5_000):
            seconds = repeat_run(out, Path(temporary, str(count)), count, truth)
            rows.append(measure(f"{count:,}", browser, Path(temporary, str(count), "report.html"), seconds))
        write_table(rows, evidence_sizes(out))
        browser.close()


def explain(folder: Path, pictures: str, out: str, model: str, truth: str) -> Path:
    """Run cam explain in a folder, for short paths in the report."""
    cam("explain", pictures, "-m", model, "-o", out, "--report", "--truth", truth, "--quiet", folder=folder)
    return folder / out / "report.html"


def cam(*arguments: str, folder: Path = ROOT) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def make_scenes(folder: Path, count: int = 60) -> None:
    """Write scenes of two digits, in folders named by the larger digit; the model confuses some."""
    glyphs, classes = uci_digits("test")
    rng = np.random.default_rng(11)
    for number in range(count):
        pair = rng.choice(len(glyphs), 2, replace=False)
        scene = compose(glyphs[pair], classes[pair], (72, 96), rng, digit_size=(24, 38))
        areas = (scene.boxes[:, 2] - scene.boxes[:, 0]) * (scene.boxes[:, 3] - scene.boxes[:, 1])
        image = resize(scene.image, (432, 576), "bicubic")
        write_image(folder / str(scene.classes[areas.argmax()]) / f"scene-{number + 1:02}.png", image)


def take_screenshots(browser: Browser, report: Path) -> None:
    index = json.loads(report.read_text("ascii").split('id="index">')[1].split("</script>")[0])
    rows = index["pictures"]
    wrong = [row["name"] for row in rows if row["truth"] != row["top"][0][0]]
    right = min((row for row in rows if row["name"] not in wrong), key=lambda row: row["top"][0][2])["name"]
    contrast = f"evidence=contrast&show=wrong&picture={wrong[0]}"
    views: dict[str, tuple[str, dict[str, Any]]] = {
        "list": ("#sort=confidence", {}),
        "contrast": (f"#{contrast}&pin={peak(browser, report, contrast)}", {}),
        "dark": (f"#evidence=margin&picture={right}", {"color_scheme": "dark"}),
        "narrow": (f"#picture={right}", {"viewport": {"width": 390, "height": 844}}),
        "grid": ("#view=grid&sort=margin", {}),
        "summary": ("#view=summary", {"viewport": {"width": 1280, "height": 1040}}),
    }
    plain = f"picture={right}"
    views["picture"] = f"#{plain}&pin={peak(browser, report, plain)}", {}
    for name, (hash_, context) in views.items():
        with browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}) as window:
            page = opened(window.new_page(), report, hash_)
            page.screenshot(path=DOCS / f"report-{name}.png")


def peak(browser: Browser, report: Path, hash_: str) -> int:
    """The cell with the most evidence."""
    with browser.new_context() as window:
        page = opened(window.new_page(), report, f"#{hash_}")
        cell = page.evaluate("gapcam.picture.view.values.indexOf(Math.max(...gapcam.picture.view.values))")
    return int(cell)


def opened(page: Page, report: Path, hash_: str = "") -> Page:
    page.goto(report.as_uri() + hash_)
    page.wait_for_selector("html[data-shown]", state="attached")
    page.wait_for_timeout(300)  # thumbnails and fonts
    return page


def repeat_run(out: Path, to: Path, count: int, truth: str) -> float:
    """Copy a run with its images repeated up to `count`; return the seconds that its report takes."""
    classes = dict(row for _, row in read_table(Path(truth), ("path", "label")))
    (to / "report" / "pictures").mkdir(parents=True)
    shutil.copy(out / "report" / "model.json", to / "report")
    about = json.loads((out / "run.json").read_text())
    (to / "run.json").write_text(json.dumps({**about, "explained": count}))
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    with (to / "manifest.jsonl").open("w") as manifest, (to / "truth.csv").open("w") as table:
        for number in range(count):
            record = records[number % len(records)]
            name = f"{number:05}-{record['name']}"
            file = f"report/pictures/{name}.js"
            (to / file).symlink_to(out / record["files"]["report"])
            manifest.write(json.dumps({**record, "path": name, "name": name, "files": {"report": file}}) + "\n")
            csv.writer(table).writerow([name, classes[record["name"]]])
    start = time.perf_counter()
    cam("report", str(to), "--truth", str(to / "truth.csv"))
    return time.perf_counter() - start


def measure(name: str, browser: Browser, report: Path, seconds: float) -> list[str]:
    loads = []
    for _ in range(5):
        with browser.new_context(viewport={"width": 1400, "height": 900}) as window:
            page = window.new_page()
            page.goto(report.as_uri())
            page.wait_for_selector("html[data-shown]", state="attached")
            loads.append(page.evaluate("performance.getEntriesByName('shown')[0].startTime"))
            times = page.evaluate(MEASURE) if len(loads) == 5 else {}
    size = report.stat().st_size / 1e6
    return [
        name,
        f"{seconds:.0f} s",
        f"{size:.1f} MB",
        f"{statistics.median(loads):.0f} ms",
        *(spread(times[kind]) for kind in ("hover", "class", "next", "jump", "filter", "scroll", "grid")),
    ]


def spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f} / {max(times):.0f}"


def evidence_sizes(out: Path) -> str:
    """Describe the size of the evidence of a picture, without photograph and thumbnail."""
    sizes, classes = [], []
    for path in sorted((out / "report" / "pictures").rglob("*.js")):
        _, entry, details, *_ = path.read_text("ascii").splitlines()
        thumbnail, photo = json.loads(entry.removesuffix(","))["preview"]["thumbnail"], json.loads(details)["photo"]
        sizes.append((path.stat().st_size - len(thumbnail) - len(photo)) / 1000)
        classes.append(len(json.loads(details)["maps"].get("classes", range(1000))))
    return (
        f"Evidence of an image, base64: {statistics.median(sizes):.0f} KB, at most {max(sizes):.0f} KB; the maps of "
        f"{min(classes)} to {max(classes)} of 1000 classes, {statistics.median(classes):.0f} in the middle."
    )


def write_table(rows: Sequence[Sequence[str]], note: str) -> None:
    head = ["images", "written in", "report.html", "first image"]
    head += ["hover", "class", "next", "any", "filter", "scroll", "grid"]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    document = DOCS / "report.md"
    text = re.sub(
        "(?s)(<!-- figures -->\n).*(<!-- end -->)", rf"\g<1>{table}\n\n{note}\n\g<2>", document.read_text("utf-8")
    )
    document.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
