"""The server and the page of cam app in Chromium: no request leaves it, users do not mix, errors are sentences."""

from __future__ import annotations

import base64
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import pytest
from app_browser import (
    ROOT,
    Server,
    click_sample,
    delay,
    first_classes,
    opened,
    record,
    started,
    upload,
    wait_for_files,
)
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import cam

pytest.importorskip("gradio", reason="pip install 'gapcam[app]'")
SAMPLES = ROOT / "samples"

_GIVE = """([data, kind, place]) => {
    const given = new DataTransfer(), bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    given.items.add(new File([bytes], "given.png", { type: "image/png" }));
    const settings = { dataTransfer: given, clipboardData: given, bubbles: true, cancelable: true };
    const event = kind === "drop" ? new DragEvent(kind, settings) : new ClipboardEvent(kind, settings);
    document.querySelector(place).dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = ["-m", "digits", "-m", "position-gap", "--max-pixels", "200000", "--max-bytes", "300000"]
    with started(tmp_path_factory.mktemp("app"), *models) as running:
        yield running


@pytest.fixture
def requested() -> list[str]:
    """Addresses that pages requested."""
    return []


@pytest.fixture
def page(browser: Browser, server: Server, requested: list[str]) -> Iterator[Page]:
    with opened(browser, server, requested) as shown:
        yield shown


def test_the_first_click_shows_something_and_no_request_leaves_the_computer(page, server, requested):
    click_sample(page, "sevens")
    wait_for_files(page, "sevens", 7)
    page.get_by_label("margin", exact=True).check()
    expect(page.locator(".cam-heat img").first).to_have_attribute("alt", re.compile("Evidence for 7"))
    assert len(requested) > 10
    assert [url for url in requested if not url.startswith((server.address, "data:", "blob:"))] == []
    digits = cam.load_classifier("digits", device="cpu")
    labels = [one.label for one in cam.explain(digits, SAMPLES / "sevens.png", "top5")]
    assert first_classes(page) == labels
    assert record(page)["targets"][0]["logit"] == pytest.approx(
        cam.explain(digits, SAMPLES / "sevens.png").logit, abs=1e-3
    )


def test_another_class_leaves_the_picture_in_its_place(page):
    click_sample(page, "two-and-six")
    heat = page.locator(".cam-heat").first
    wait_for_files(page, "two-and-six", 2)
    before, source = heat.bounding_box(), heat.locator("img").get_attribute("src")
    page.locator(".cam-side").first.locator(".cam-strip button").nth(1).focus()
    page.keyboard.press("Enter")
    wait_for_files(page, "two-and-six", 6)
    assert heat.locator("img").get_attribute("src") != source
    assert heat.bounding_box() == before
    expect(page.locator(".cam-strip [aria-pressed=true]").last).to_contain_text("6")
    expect(page.get_by_label("Class", exact=True)).to_have_value("6")


def test_a_click_asks_a_place_and_both_models_answer(page):
    click_sample(page, "sevens")
    wait_for_files(page, "sevens", 7)
    heat = page.locator(".cam-heat").first
    box = heat.bounding_box()
    picture = float(heat.get_attribute("data-photo-share")) * box["height"]  # the rest is the legend
    heat.click(position={"x": 0.75 * box["width"], "y": 0.25 * picture})
    captions = page.locator(".cam-place caption")
    expect(captions.nth(1)).to_have_text(re.compile(r"at x (299|300), y (71|72)$"))
    mark = page.locator(".cam-heat i").first.bounding_box()
    assert mark["x"] + mark["width"] / 2 == pytest.approx(box["x"] + 0.75 * box["width"], abs=2)
    assert mark["y"] + mark["height"] / 2 == pytest.approx(box["y"] + 0.25 * picture, abs=2)
    heat.click(position={"x": 0.5 * box["width"], "y": box["height"] - 3})  # the legend is no place
    digits, other = (cam.load_classifier(name, device="cpu") for name in ("digits", "position-gap"))
    heats = [one.heat()[72, 300] for one in cam.explain(digits, SAMPLES / "sevens.png", list(range(10)))]
    best = page.locator(".cam-place").first.locator("tr").first
    assert best.locator("th").inner_text() == str(int(np.argmax(heats)))
    assert float(best.locator("td").inner_text()) == pytest.approx(float(max(heats)), rel=0.1)
    assert record(page, 1)["targets"][0]["logit"] == pytest.approx(
        cam.explain(other, SAMPLES / "sevens.png", "7").logit, abs=1e-3
    )
    x = page.get_by_label("Place: x, pixels")
    x.press("Control+a")
    x.press("Backspace")
    page.wait_for_timeout(300)  # a half-typed place asks nothing
    x.press_sequentially("12")
    expect(captions.first).to_have_text(re.compile(r"at x 12, y (71|72)$"))
    x.fill("9999")
    expect(captions.first).to_have_text(re.compile(r"at x 399, y"))


def test_a_rival_makes_it_a_contrast_and_not_with_the_class_itself(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    rival = page.get_by_label("Rival, for contrast")
    rival.fill("6")
    overlay = page.locator(".cam-heat img").first
    expect(overlay).to_have_attribute("alt", re.compile("Evidence for 2 over 6: margin"))
    assert page.get_by_label("contrast", exact=True).is_checked()
    expect(page.locator(".cam-side").first.locator(".cam-strip button")).to_have_count(5)
    page.get_by_label("Class", exact=True).fill("6")
    expect(overlay).to_have_attribute("alt", re.compile("Evidence for 6 over 2"))
    expect(rival).to_have_value("runner-up")


_SECOND_MODEL = """
import os
from pathlib import Path
import numpy as np, torch
from torch import nn
import cam
from cam.app.serve import own_gradio
from cam.images.io import write_image
from cam.images.read import Limits
from cam.images.samples import ReadOptions
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
network[-1].bias.data = torch.tensor([50.0, 0.0])  # the first class is predicted
models = {"digits": cam.load_classifier("digits"), "other": cam.wrap(network, input_size=32, labels=["7", "a"])}
image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
with own_gradio():
    from cam.app.page import Page
    path = str(Path(os.environ["GRADIO_TEMP_DIR"], "a.png"))
    write_image(Path(path), image)
    values = {"target": "2", "rival": "7", "evidence": "contrast", "opacity": "0.85", "x": None, "y": None}
    answer = Page(models, Limits(), ReadOptions()).show({**values, "path": path, "models": ["digits", "other"]})
    print([view["title"].partition(":")[0] for view in answer["sides"]], answer["rival"])
"""


def test_the_second_model_contrasts_no_class_with_itself():
    """It has no 2, and predicts the rival, 7."""
    command = [sys.executable, "-c", _SECOND_MODEL]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout == "['2 over 7', '7 over a'] 7\n"


def test_the_focus_passes_through_the_lists_and_changes_nothing(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    source = page.locator(".cam-heat img").first.get_attribute("src")
    chosen = page.get_by_label("Class", exact=True)
    chosen.focus()
    assert chosen.input_value() == ""  # so that the list has all classes
    assert page.locator("#cam-classes option").count() == 10
    for _ in range(3):
        page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    assert [chosen.input_value(), page.get_by_label("Rival, for contrast").input_value()] == ["2", "runner-up"]
    assert page.get_by_label("logit", exact=True).is_checked()
    assert page.locator(".cam-heat img").first.get_attribute("src") == source


def test_a_control_without_a_picture_says_what_to_do(page):
    page.get_by_label("margin", exact=True).check()
    page.get_by_label("Place: x, pixels").fill("9")
    page.wait_for_timeout(500)
    expect(page.locator("p[role=status]")).to_contain_text("click a sample")
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)


@pytest.mark.parametrize(("kind", "place"), [("drop", "h1"), ("paste", "body")])
def test_a_picture_is_dropped_and_pasted_anywhere(page, kind, place):
    data = base64.b64encode((SAMPLES / "five.png").read_bytes()).decode()
    page.evaluate(_GIVE, [data, kind, place])
    wait_for_files(page, "given", 5)


def test_what_is_typed_replaces_the_class_and_an_unknown_one_is_a_sentence(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    page.get_by_label("Class", exact=True).click()
    page.keyboard.type("6")
    wait_for_files(page, "two-and-six", 6)
    page.get_by_label("Class", exact=True).fill("sixty")
    page.keyboard.press("Enter")
    expect(page.locator("#cam-status")).to_contain_text("Class 'sixty' is not among the labels")
    assert page.locator(".cam-heat").first.is_visible()
    page.get_by_label("Class", exact=True).fill("2")
    wait_for_files(page, "two-and-six", 2)
    expect(page.locator("#cam-status")).to_have_text(re.compile("^digits, 2: probability.* at x [0-9]+, y [0-9]+: 2 "))


def test_a_late_answer_leaves_what_is_being_typed(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    delay(page, "show", 1)
    page.locator(".cam-strip button[name='6']").first.click()
    chosen = page.get_by_label("Class", exact=True)
    chosen.click()
    page.keyboard.type("si")
    wait_for_files(page, "two-and-six", 6)
    assert chosen.input_value() == "si"
    page.keyboard.press("Escape")
    chosen.fill("")
    page.keyboard.press("Tab")
    assert chosen.input_value() == "6"


def test_files_are_those_of_the_picture_or_none(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    delay(page, "draw", 1)
    page.locator(".cam-strip button[name='6']").first.click()
    expect(page.locator(".cam-heat img").first).to_have_attribute("alt", re.compile("Evidence for 6"))
    assert page.locator(".cam-save-picture").first.get_attribute("href") is None
    expect(page.locator(".cam-strip button[name='6']").first).to_have_attribute("aria-pressed", "true")
    wait_for_files(page, "two-and-six", 6)
    source = page.locator(".cam-heat img").first.get_attribute("src")
    assert page.locator(".cam-save-picture").first.get_attribute("href") == source


def test_a_choice_without_an_answer_can_be_made_again(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    page.route("**/component_server/**", lambda route: route.abort())
    button = page.locator(".cam-strip button[name='6']").first
    button.focus()
    page.keyboard.press("Space")
    expect(page.locator("#cam-status")).to_contain_text("gave no answer")
    page.unroute("**/component_server/**")
    page.keyboard.press("Space")  # the focus stays
    wait_for_files(page, "two-and-six", 6)
    assert button.evaluate("(button) => button === document.activeElement")


def test_another_model_begins_anew_whatever_is_clicked_meanwhile(page):
    click_sample(page, "two-and-six")
    wait_for_files(page, "two-and-six", 2)
    delay(page, "show", 1)
    page.locator(".cam-strip button[name='6']").first.click()
    page.locator("select[name=model]").select_option("position-gap")
    expect(page.locator("#cam-status")).to_have_text("Running the network")
    expect(page.locator(".cam-side h2")).to_have_text(["position-gap", "digits"])
    predicted = cam.explain(cam.load_classifier("position-gap", device="cpu"), SAMPLES / "two-and-six.png")
    expect(page.get_by_label("Class", exact=True)).to_have_value(predicted.label)
    assert page.locator("#cam-classes option").count() == 10


def test_two_models_are_two(page):
    models = page.locator("select[name=model]"), page.locator("select[name=second]")
    click_sample(page, "five")
    wait_for_files(page, "five", 5)
    models[0].select_option("position-gap")
    assert [model.input_value() for model in models] == ["position-gap", "digits"]
    expect(page.locator(".cam-side h2")).to_have_text(["position-gap", "digits"])
    models[1].select_option("position-gap")
    assert models[1].input_value() == ""
    expect(page.locator(".cam-side").nth(1)).to_be_hidden()


def test_users_at_once_see_their_own_pictures(browser, server, requested):
    with opened(browser, server, requested) as one, opened(browser, server, requested) as other:
        for first, second in (("five", "small-eight"), ("three-in-clutter", "five")):
            click_sample(one, first)
            click_sample(other, second)
            for page, name in ((one, first), (other, second)):
                class_idx = {"five": 5, "small-eight": 8, "three-in-clutter": 3}[name]
                wait_for_files(page, name, class_idx)
                assert record(page)["image"] == f"{name}.png"
        one.get_by_role("slider").fill("0.2")
        one.locator(".cam-side").first.locator(".cam-strip button").nth(1).click()
        expect(one.locator(".cam-strip [aria-pressed=true]").nth(1)).not_to_contain_text("3")
        wait_for_files(other, "five", 5)
        assert record(other)["targets"][0]["label"] == "5"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("<b>no.png", r"'bno\.png' is not an image in a supported format. Convert it"),
        ("cut.png", r"'cut\.png' is damaged or cut short"),
        ("wide.png", r"'wide\.png' has 1000 x 900 pixels, over the limit of 200000"),
        ("bomb.png", r"'bomb\.png' has 60000 x 60000 pixels, over the limit of 200000"),
        ("heavy.png", "exceed the maximum allowed size"),
        ("text.txt", "Invalid file type"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(page, tmp_path, name, sentence):
    sample = (SAMPLES / "five.png").read_bytes()
    header = b"IHDR" + (60000).to_bytes(4) * 2 + sample[24:29]
    bomb = sample[:12] + header + crc32(header).to_bytes(4) + sample[33:]
    content = {"cut.png": sample[:20000], "bomb.png": bomb, "heavy.png": bytes(400000)}.get(name, b"no image")
    (tmp_path / name).write_bytes(content)
    if name == "wide.png":
        Image.new("RGB", (1000, 900)).save(tmp_path / name)
    upload(page, tmp_path / name)
    expect(page.get_by_text(re.compile(sentence)).first).to_be_visible()
    assert not page.locator(".cam-heat").first.is_visible()
    assert "Traceback" not in page.content()


def test_a_turned_photograph_is_upright(page, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees to the right
    photo = Image.open(SAMPLES / "four-left.png").convert("RGB")
    photo.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upload(page, tmp_path / "turned.jpg")
    wait_for_files(page, "turned", 4)
    assert record(page)["size"] == [288, 400]
    assert record(page)["targets"][0]["peak"][1] < 133  # on the left


def test_the_server_reads_what_was_uploaded_only(page, server):
    with page.expect_request(lambda request: "component_server" in request.url) as sent:
        click_sample(page, "five")
        wait_for_files(page, "five", 5)
    body = sent.value.post_data_json
    assert body["fn_name"] == "show"
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.5)
        for path in (f"http://localhost:{elsewhere.getsockname()[1]}/five.png", str(SAMPLES / "five.png"), ""):
            body["data"]["path"] = path
            answer = page.request.post(sent.value.url, data=body).json()
            assert list(answer) == ["error"]
            assert "was not uploaded to this page" in answer["error"]
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert page.request.get(f"{server.address}gradio_api/file=/etc/passwd").status == 403
    assert page.request.get(f"{server.address}gradio_api/file={SAMPLES / 'five.png'}").status == 403


def test_a_port_in_use_is_an_error(server):
    command = [sys.executable, str(ROOT / "cli.py"), "app", "--port", server.address.rpartition(":")[2].strip("/")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert re.search(r"Error: --port \d+ of --host 127\.0\.0\.1 cannot be used: it is taken", result.stderr)
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_it_and_removes_the_pictures(page, server, tmp_path):
    """The last test: it ends the server of the others."""
    shutil.copy(SAMPLES / "five.png", tmp_path / "mine.png")
    upload(page, tmp_path / "mine.png")
    wait_for_files(page, "mine", 5)
    assert list(server.temporary.rglob("mine.png"))
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 130
    *_, last = server.log.read_text().splitlines()
    assert last == "Stopped."
    assert not list(server.temporary.rglob("*.png"))
    assert not list(server.temporary.glob("cam-app-*"))
