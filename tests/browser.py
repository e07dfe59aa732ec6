"""A real browser for the tests of the report: Debian's Chromium, wherever one is found."""

from __future__ import annotations

import os
import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, or skip the test with the reason."""
    names = os.environ.get("CAM_TEST_CHROMIUM"), "chromium", "chromium-headless-shell", "chromium-browser"
    program = next(filter(None, map(shutil.which, filter(None, names))), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one with CAM_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, report: Path, hash_: str = "", refused: str = "", **context) -> Iterator[Page]:
    """Open a report; nothing may go wrong in it but what is to be refused, and nothing be asked of a network."""
    with browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context}) as surroundings:
        page = surroundings.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda request: wrong.append(request.url) if is_outside(request.url) else None)
        page.goto(report.as_uri() + hash_)
        ready(page)
        yield page
        assert [each for each in wrong if not refused or refused not in each] == []
        assert not refused or wrong


def pixels(page: Page, canvas: str) -> np.ndarray:
    """What a canvas shows, (H, W, 4)."""
    address = page.evaluate("(id) => document.getElementById(id).toDataURL()", canvas)
    return np.array(Image.open(BytesIO(b64decode(address.partition(",")[2]))).convert("RGBA")).astype(int)


def is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def ready(page: Page) -> None:
    """Wait for the picture of the address."""
    number = page.evaluate("gapcam.state.current.picture")
    page.wait_for_selector(f'html[data-shown="{number}"]', state="attached")


def written(page: Page) -> None:
    """Wait for the address to hold the state; a function that is polled would be refused by the page's policy."""
    page.evaluate("""async () => {
        const { toHash, current } = gapcam.state;
        while (location.hash !== toHash(current)) await new Promise((go) => setTimeout(go, 20));
    }""")
