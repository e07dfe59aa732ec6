"""cam app and its page in Chromium, for its tests."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, Route, expect

ROOT = Path(__file__).parents[1]


class Server(NamedTuple):
    address: str
    temporary: Path  # the folder of all its temporary files
    log: Path  # what it prints
    process: subprocess.Popen[bytes]


@contextmanager
def started(temporary: Path, *options: str) -> Iterator[Server]:
    """Run cam app on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead_proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}  # nobody listens there
    environment = {**os.environ, **dead_proxy, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "cli.py"), "app", "--device", "cpu", "--port", str(port), *options]
    log = temporary / "log.txt"
    # As from a terminal: a shell has jobs in the background ignore SIGINT, and so do their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, cwd=temporary, stdout=output, stderr=output) as process,
    ):
        signal.signal(signal.SIGINT, before)
        try:
            while not (match := re.search(r"Open (\S+) in a browser", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield Server(match[1], temporary, log, process)
        finally:
            process.kill()


@contextmanager
def opened(browser: Browser, server: Server, requested: list[str]) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1400, "height": 900}, service_workers="block") as window:
        page = window.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("websocket", lambda websocket: requested.append(websocket.url))
        page.goto(server.address)
        expect(page.locator("p[role=status]")).to_contain_text("click a sample")
        yield page


def click_sample(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Sample {name}", exact=True).click()


def upload(page: Page, file: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(file)


def first_classes(page: Page, side: int = 0) -> list[str]:
    return [
        text.split("\n")[0]
        for text in page.locator(".cam-side").nth(side).locator(".cam-strip button").all_inner_texts()
    ]


def record(page: Page, side: int = 0) -> dict:
    link = page.locator(".cam-side").nth(side).get_by_text("Save numbers").get_attribute("href")
    return json.loads(base64.b64decode(link.partition("base64,")[2]))


def wait_for_files(page: Page, name: str, class_idx: int) -> None:
    expect(page.locator(".cam-save-picture").first).to_have_attribute("download", f"{name}-digits-class{class_idx}.jpg")


def delay(page: Page, function: str, seconds: float) -> None:
    """Let the server answer one of its functions late."""

    def later(route: Route) -> None:
        if route.request.post_data_json["fn_name"] == function:
            page.wait_for_timeout(1000 * seconds)
        route.continue_()

    page.route("**/component_server/**", later)
