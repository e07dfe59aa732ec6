"""Chromium for the tests of the report."""

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
from playwright.sync_api import Browser, Locator, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, or skip the test."""
    names = os.environ.get("CAM_TEST_CHROMIUM"), "chromium", "chromium-headless-shell", "chromium-browser"
    program = next(filter(None, map(shutil.which, filter(None, names))), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or set CAM_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, report: Path, hash_: str = "", refused: str = "", **context) -> Iterator[Page]:
    """Open a report. Fail on any error except one that contains `refused`, and on any network request."""
    with browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context}) as window:
        page = window.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: errors.append(f"error: {error}"))
        page.on("request", lambda request: errors.append(request.url) if is_outside(request.url) else None)
        page.goto(report.as_uri() + hash_)
        wait_for_picture(page)
        yield page
        assert [error for error in errors if not refused or refused not in error] == []
        assert not refused or errors


def is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def pixels(page: Page, canvas: str) -> np.ndarray:
    """RGBA of a canvas, (H, W, 4)."""
    address = page.evaluate("(id) => document.getElementById(id).toDataURL()", canvas)
    return np.array(Image.open(BytesIO(b64decode(address.partition(",")[2]))).convert("RGBA")).astype(int)


def wait_for_picture(page: Page) -> None:
    """Wait until the picture of the state is shown."""
    number = page.evaluate("gapcam.state.current.picture")
    page.wait_for_selector(f'html[data-shown="{number}"]', state="attached")


def wait_for_address(page: Page) -> None:
    """Wait until the address holds the state; the page's policy forbids wait_for_function."""
    page.evaluate("""async () => {
        const { toHash, current } = gapcam.state;
        while (location.hash !== toHash(current)) await new Promise((resolve) => setTimeout(resolve, 20));
    }""")


def state(page: Page, key: str):
    return page.evaluate("(key) => gapcam.state.current[key]", key)


def listed(page: Page) -> list[int]:
    return page.evaluate("gapcam.list.listed()")


def show_picture(page: Page, number: int) -> None:
    page.evaluate("(number) => gapcam.state.open(number)", number)
    page.wait_for_selector(f'html[data-shown="{number}"]', state="attached")


def read_number(locator: Locator) -> float:
    return float(locator.inner_text().replace("\u2212", "-"))
