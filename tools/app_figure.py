"""Draw docs/app.png: the page of cam app with a photograph.

Needs the test extra, Chromium, and scikit-image, which has the photograph: Eileen Collins, by NASA, in the public
domain.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright
from skimage import data
from torchvision.models import SqueezeNet1_0_Weights

from cam.images.io import write_image

ROOT = Path(__file__).parents[1]
MODEL = ["-m", "tools/efficientnet_lite.py:lite0", "--mean", "0.498,0.498,0.498", "--std", "0.502,0.502,0.502"]


def main() -> None:
    """Start the app, show the photograph in it, and end it."""
    with TemporaryDirectory() as temporary:
        photo, labels = Path(temporary, "astronaut.png"), Path(temporary, "labels.txt")
        write_image(photo, data.astronaut())
        labels.write_text("\n".join(SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]))
        command = [sys.executable, str(ROOT / "cli.py"), "app", *MODEL, "--labels", str(labels), "--port", "7899"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as server:  # noqa: S603 - our own command
            try:
                while server.stdout and not server.stdout.readline().startswith(b"Open"):
                    pass
                take_screenshot(photo)
            finally:
                server.terminate()


def take_screenshot(photo: Path) -> None:
    """Choose the helmet, and save what the browser shows."""
    program = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page: Page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto("http://127.0.0.1:7899")
        page.locator("input[type=file]").first.set_input_files(photo)
        page.wait_for_selector(".cam-files a[href]")
        page.get_by_label("Class", exact=True).fill("football helmet")
        page.wait_for_selector(".cam-save-picture[download*='class560']")
        page.screenshot(path=ROOT / "docs" / "app.png")
        browser.close()


if __name__ == "__main__":
    main()
