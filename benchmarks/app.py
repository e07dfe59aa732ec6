"""Measure cam app: the first overlay of a picture against the library, and a change of class in the browser.

    python benchmarks/app.py photos/ -m squeezenet1_0 --rounds 9

The first overlay is the time from the uploaded file to the HTML, against `cam.explain` and the overlay with its legend
as JPEG, in turns in one process. A change of class is the time in Chromium from a click on one of the first classes
until the new overlay is decoded. The pictures are resized to 640 pixels. Needs the test extra and Chromium.
"""

from __future__ import annotations

import os
import shutil
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright
from tables import spread

import cam
from cam.app.serve import own_gradio, serve
from cam.classifiers.classifier import Classifier
from cam.images.find import find_pictures
from cam.images.io import read_image, shrink, write_image
from cam.images.read import Limits
from cam.images.samples import ReadOptions

_CHANGE = """([strip, index]) => new Promise((resolve) => {
    const before = document.querySelector(".cam-heat img").src, started = performance.now();
    document.querySelectorAll(strip)[index].click();
    const look = () => {
        const image = document.querySelector(".cam-heat img");
        if (image.src === before) return requestAnimationFrame(look);
        image.decode().then(() => requestAnimationFrame(() => resolve(performance.now() - started)));
    };
    look();
})"""


def first_overlays(classifier: Classifier, photos: list[Path], rounds: int) -> list[float]:
    """Ratios of the page's time for a new picture to that of the library, one for each round."""
    from cam.app.page import Page

    page = Page({"model": classifier}, Limits(), ReadOptions())
    choice: dict[str, Any] = {
        "models": ["model"],
        "target": "",
        "rival": "runner-up",
        "evidence": "logit",
        "opacity": "0.85",
    }
    choice |= {"x": None, "y": None}
    ratios = []
    for number in range(rounds + 1):
        of_page = of_library = 0.0
        for photo in photos:
            new = shutil.copy(photo, photo.with_stem(f"{photo.stem}-{number}"))  # else it would be known
            started = time.perf_counter()
            page.show({**choice, "path": new})
            shown = time.perf_counter()
            cam.explain(classifier, photo).encode(".jpg")
            of_page += shown - started
            of_library += time.perf_counter() - shown
        ratios += [of_page / of_library] if number else []  # the first warms up
    return ratios


def changes(classifier: Classifier, photo: Path, rounds: int) -> list[float]:
    """Milliseconds from the click on another class until its overlay is decoded, in Chromium."""
    with (
        serve({"model": classifier}, "127.0.0.1", 7871, Limits(), ReadOptions()) as address,
        sync_playwright() as chrome,
    ):
        browser = chrome.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(photo)
        page.wait_for_selector(".cam-files a[href]")
        times = []
        for number in range(rounds + 2):
            page.wait_for_timeout(500)  # until the strip is drawn
            elapsed = page.evaluate(_CHANGE, [".cam-side .cam-strip button", 1 + number % 3])
            times += [float(elapsed)] if number > 1 else []
        browser.close()
    return times


def main() -> None:
    """Print both."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    classifier = cam.load_classifier(arguments.model, device="cpu")
    with own_gradio():
        folder, photos = os.environ["GRADIO_TEMP_DIR"], []
        for number, picture in enumerate(find_pictures([arguments.photos])[:10]):
            photos.append(Path(folder, f"{number}.jpg"))
            write_image(photos[-1], shrink(read_image(picture.path), 640))
        ratios = first_overlays(classifier, photos, arguments.rounds)
        print(f"first overlay, over cam.explain and drawing: {spread(ratios)}")
        times = changes(classifier, photos[0], 3 * arguments.rounds)
        print(f"change of class: median {median(times):.0f} ms, from {min(times):.0f} to {max(times):.0f}")


if __name__ == "__main__":
    main()
