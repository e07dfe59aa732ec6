"""The page of cam app: what it shows is what the library says, from one forward pass (no browser needed)."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cam
from cam.app.result import ModelResult, read_upload, run_model
from cam.app.view import View
from cam.classifiers.classifier import Classifier
from cam.errors import ImageError, ModelError, UsageError
from cam.images.decode import decode_image
from cam.images.read import Limits
from cam.images.samples import ReadOptions
from cam.maps.evidence import Evidence

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def digits() -> Classifier:
    return cam.load_classifier("digits", device="cpu")


@pytest.fixture
def sevens(digits) -> ModelResult:
    return run_model(digits, cam.images.read_image(SAMPLES / "sevens.png"))


def small_network(head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), head).eval()


def test_any_class_and_evidence_is_what_the_library_explains_and_costs_no_other_pass(digits, sevens):
    runs: list[object] = []
    expected = {
        evidence: cam.explain(digits, SAMPLES / "sevens.png", list(range(10)), evidence=evidence)
        for evidence in get_args(Evidence)
    }
    hook = digits.network.register_forward_hook(lambda *arguments: runs.append(arguments))
    for evidence, explanations in expected.items():
        for expected in explanations:
            (found,) = sevens.explain([expected.class_idx], evidence)
            assert np.allclose(found.evidence_map, expected.evidence_map, atol=1e-4)
            assert (found.logit, found.probability, found.peak) == (expected.logit, expected.probability, expected.peak)
    hook.remove()
    assert runs == []
    (again,) = sevens.explain([3], "margin")
    assert again is sevens.explain([3, 4], "margin")[0]  # not even computed


def test_a_contrast_leaves_out_the_rival_and_refuses_it_alone(sevens):
    found = sevens.explain([7, 1, 9], "contrast", 1)
    assert [(one.class_idx, one.against.label) for one in found if one.against] == [(7, "1"), (9, "1")]
    with pytest.raises(ModelError, match="contrasted with itself"):
        sevens.explain([1], "contrast", 1)
    assert sevens.explain([7], "logit", 1)[0].against is None  # a rival is only for a contrast


def test_a_place_speaks_for_the_classes_with_the_largest_heat_there(digits, sevens):
    heats = np.stack([one.heat() for one in cam.explain(digits, SAMPLES / "sevens.png", list(range(10)))])
    place = sevens.place(300, 40, [0])
    order = np.argsort(-heats[:, 40, 300])
    assert list(place) == [c for c in order if c in (*order[:5], 0)]
    assert list(place.values()) == pytest.approx([heats[c, 40, 300] for c in place], abs=1e-4)
    assert sevens.place(400, 40, []) == sevens.place(-1, 0, []) == sevens.place(0, 288, []) == {}  # 400 x 288 pixels


def test_a_place_outside_the_crop_says_nothing():
    network = small_network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)))
    result = run_model(cam.wrap(network, input_size=32), np.full((32, 64, 3), 90, np.uint8))
    assert result.place(15, 10, []) == {}
    assert len(result.place(16, 10, [])) == 5


def test_of_a_head_that_is_run_again_only_the_first_and_the_given_classes_are_compared():
    network = small_network(nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 8)))
    result = run_model(
        cam.wrap(network, input_size=32), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    )
    last = result.ranked[-1]
    place = result.place(9, 9, [last])
    assert last in place
    assert set(place) <= {*result.ranked[:5], last}
    (explanation,) = result.explain([last], "logit")
    assert place[last] == pytest.approx(explanation.heat()[9, 9], abs=1e-5)
    with pytest.raises(UsageError, match="--evidence margin needs a head that is an average"):
        result.explain([0], "margin")


@pytest.mark.parametrize(
    ("size", "shown"),
    [((288, 400), (288, 400)), ((30, 40), (480, 640)), ((2000, 3000), (853, 1280)), ((40, 8), (1400, 280))],
)
def test_pictures_are_shown_neither_huge_nor_tiny(digits, size, shown):
    result = run_model(digits, np.zeros((*size, 3), np.uint8))
    assert result.shown.shape == (*shown, 3)
    view = View(result, 7, None, "logit", 0.85)
    assert view.overlay.shape[1] == shown[1]
    assert view.overlay.shape[0] > shown[0]


def saved(links: str) -> dict[str, bytes]:
    files = re.findall(r'<a download="([^"]+)" href="data:[\w/-]+;base64,([^"]+)">', links)
    return {name: base64.b64decode(data) for name, data in files}


def test_files_have_the_numbers_of_the_library(digits, sevens):
    files = saved(View(sevens, 9, None, "logit", 0.5).to_links("sevens.png"))
    assert list(files) == ["sevens-class9.jpg", "sevens-class9.json", "sevens-class9.csv"]
    record = json.loads(files["sevens-class9.json"])
    first, *others = sevens.ranked[:5]
    classes = [9, *(c for c in (first, *others) if c != 9)]
    expected = cam.explain(digits, SAMPLES / "sevens.png", classes)
    assert record["targets"] == json.loads(json.dumps([one.to_dict() for one in expected]))
    assert (record["size"], record["predicted"]) == ([288, 400], {"class_idx": 7, "label": "7"})
    rows = list(csv.DictReader(io.StringIO(files["sevens-class9.csv"].decode())))
    assert [(row["name"], row["label"]) for row in rows] == [("sevens.png", str(c)) for c in classes]
    assert float(rows[0]["logit"]) == pytest.approx(expected[0].logit)
    image = np.asarray(Image.open(io.BytesIO(files["sevens-class9.jpg"])), int)
    vmax = max(one.vmax for one in expected)
    assert np.abs(image - expected[0].overlay(legend=True, opacity=0.5, vmax=vmax)).mean() < 3


def test_the_mark_lies_on_the_place(sevens):
    view = View(sevens, 7, None, "logit", 0.85)
    picture = decode_image(
        base64.b64decode(re.findall(r'cam-heat.*?base64,([^"]+)', view.to_html(300, 40), re.S)[0]), "", 10**6
    )[0]
    changed = np.abs(picture.astype(int) - view.overlay[: picture.shape[0]]).max(2) > 90
    ys, xs = np.nonzero(changed)
    assert (abs(ys.mean() - 40), abs(xs.mean() - 300)) < (2, 2)


def test_labels_names_and_notes_are_text(tmp_path):
    bad = '<img src=x onerror="alert(1)">'
    network = small_network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)))
    classifier = cam.wrap(network, input_size=32, labels=[bad, "${1 + 1} {{x}}"], name=bad)
    view = View(run_model(classifier, np.full((32, 32, 3), 90, np.uint8)), 0, None, "logit", 0.85)
    html = view.to_strip(drawn=True) + view.to_html(3, 3) + view.to_links(f"{bad}.png")
    assert "<img src" not in html
    assert html.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;") >= 4


def test_an_upload_that_cannot_be_read_is_named_without_its_folder(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"^'bad\.png' is not an image in a supported format"):
        read_upload(tmp_path / "bad.png", Limits(), ReadOptions())
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"^'large\.png' has 40 x 30 pixels, over the limit of 1000"):
        read_upload(tmp_path / "large.png", Limits(max_pixels=1000), ReadOptions())
    with pytest.raises(ImageError, match=r"'large\.png' has .* bytes"):
        read_upload(tmp_path / "large.png", Limits(max_bytes=20), ReadOptions())


def test_the_command_says_what_is_missing(run, monkeypatch):
    result = run("app", "-m", "digits", "-m", "digits", "--weights", "one.pth")
    assert result.exit_code == 2
    assert "--weights must be given once for each --model, got 1 for 2. Give them in the order" in result.output
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("app")
    assert result.exit_code == 1
    assert "Run pip install 'gapcam[app]'" in result.output
