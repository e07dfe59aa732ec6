"""The evidence that a run stores: right to known precision, small, and the same numbers in the page as in Python."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import opened, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from playwright.sync_api import Browser
from reports import forty_maps, report_on_two
from runs import animals, explain_into
from small import gap_linear, photo, seeing_white, wrapped
from torch import nn

import cam
from cam.classifiers.classifier import Classifier
from cam.drawing.colormaps import lookup, to_color_indices
from cam.errors import UsageError
from cam.explanations.explain import explain_images
from cam.explanations.options import ExplainOptions, TopClasses
from cam.images.find import find_pictures
from cam.images.io import read_image, write_image
from cam.maps.activation import AllClasses
from cam.maps.geometry import Frame, stretched
from cam.maps.projection import project
from cam.report.evidence import QUANTUM, EvidenceWriter, border_share, evidence_script, pack_maps
from cam.report.packing import pack, unpack
from cam.report.read import RunEvidence
from cam.report.summary import Summary
from cam.report.write import write_report
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

TOLERANCE = 1e-3  # logits
ROUNDING = QUANTUM / 2 + 1e-5


@settings(max_examples=60)
@given(
    arrays(np.float64, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e5, 1e5)),
    st.sampled_from([1.0, QUANTUM, 2.0**-15]),
)
def test_packed_numbers_are_right_to_half_a_quantum(values, quantum):
    packed = pack(values, quantum)
    unpacked = unpack(packed).astype(np.float64)
    assert unpacked.shape == values.shape
    float32_rounding = np.abs(values) * np.finfo(np.float32).eps
    assert (np.abs(unpacked - values) <= quantum / 2 + float32_rounding).all()
    assert json.loads(json.dumps(packed)) == packed


def test_border_share_of_small_maps():
    assert border_share(np.array([[0, 1, 0], [0, 3, 0], [0, -9, 0]])) == 0.25
    assert border_share(np.full((3, 3), -1.0)) == 0


def test_the_mean_of_maps_has_the_cells_of_the_first():
    summary = Summary()
    entry = {"top": [[0, 1.0, 0.9]], "border": 0.0}
    summary.add(entry, np.zeros((2, 4)))
    summary.add(entry, np.array([[1.0, 3.0]]))
    (group,) = summary.to_json()["classes"]
    assert unpack(group["map"]).tolist() == [[0.5, 0.75, 1.25, 1.5]] * 2


def all_classes(classes: int, channels: int, side: int = 7, scale: float = 1.0) -> AllClasses:
    """Features behind a ReLU; they are the maps if there are as many channels as classes."""
    torch.manual_seed(0)
    features = torch.randn(channels, side, side).relu() * 3
    weight = None if channels == classes else torch.randn(classes, channels) / 8
    bias = torch.randn(classes)
    cams = features if weight is None else torch.einsum("ck,khw->chw", weight * scale, features)
    logits = cams.mean((1, 2)) + bias
    return AllClasses(logits, logits.softmax(0), logits, bias, features, weight, scale)


@pytest.mark.parametrize(
    ("classes", "channels", "kind"), [(1000, 512, "features"), (1000, 2048, "all"), (9, 30, "all")]
)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_maps_of_all_classes_are_right_to_half_a_quantum(classes, channels, kind, scale):
    evidence = all_classes(classes, channels, scale=scale)
    cams = evidence.cams()
    packed = pack_maps(evidence, cams)
    values = unpack(packed["values"])
    if kind == "features":
        values = np.tensordot(evidence.weight.numpy().astype(np.float64) * packed["scale"], values, 1)
    assert packed["kind"] == kind
    assert np.abs(values - cams).max() <= ROUNDING
    assert len(json.dumps(packed)) <= 141_000


@pytest.mark.parametrize(("classes", "channels", "side"), [(1000, 512, 7), (9, 30, 7), (2, 2, 7), (1000, 1000, 13)])
def test_leaders_compare_each_class_with_all_others(classes, channels, side):
    evidence = all_classes(classes, channels, side)
    cams = evidence.cams()
    best, winner, second, total = unpack(pack_maps(evidence, cams)["leaders"])
    ordered = np.sort(cams, axis=0)
    assert np.abs(best - ordered[-1]).max() <= ROUNDING
    assert np.abs(second - ordered[-2]).max() <= ROUNDING
    assert (winner / QUANTUM == cams.argmax(0)).all()
    scores = torch.from_numpy(cams) + evidence.bias[:, None, None]
    assert np.abs(total - scores.logsumexp(0).numpy()).max() <= ROUNDING


def test_maps_over_the_size_limit_are_cut_to_the_most_important_classes():
    evidence = all_classes(1000, 1000, side=13)
    cams, logits = evidence.cams(), evidence.logits.numpy()
    packed = pack_maps(evidence, cams)
    classes = packed["classes"]
    assert packed["kind"] == "selected"
    assert 110_000 < len(json.dumps(packed)) <= 146_000
    assert len(set(classes)) == len(classes)
    assert np.abs(unpack(packed["values"]) - cams[classes]).max() <= ROUNDING
    assert classes[:5] == np.argsort(-logits, kind="stable")[:5].tolist()
    strongest = set(np.argsort(cams, axis=0)[-5:].ravel().tolist())
    assert set(classes) <= strongest or strongest <= set(classes)


def test_evidence_averaged_over_inputs_is_refused():
    with pytest.raises(UsageError, match="--tta"):
        RunOptions(explain=ExplainOptions(tta=True), outputs=(EvidenceWriter(),))


def many_classes() -> Classifier:
    """Fewer channels than classes: features and weight are stored."""
    torch.manual_seed(4)
    body = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
    return cam.wrap(nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 30)), input_size=32)


def many_normed() -> Classifier:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.norm, self.linear = nn.Conv2d(3, 6, 3, stride=2), nn.LayerNorm(6), nn.Linear(6, 20)

        def forward(self, x):
            return self.linear(self.norm(self.body(x).relu().mean((2, 3))))

    torch.manual_seed(5)
    return cam.wrap(Normed(), input_size=32)


HEADS = {
    "gap-linear": (wrapped, "all"),
    "conv-gap": (lambda: wrapped("conv-gap"), "all"),
    "gap-norm-linear": (lambda: wrapped("gap-norm-linear"), "all"),
    "one-logit": (lambda: wrapped("one-logit"), "all"),
    "linear, features": (many_classes, "features"),
    "norm, features": (many_normed, "features"),
    "conv-gap, selected": (forty_maps, "selected"),
}

READ = """async ([number, count]) => {
    const { evidence, index } = gapcam.data;
    const { map, cam, mean, probability, strongest } = gapcam.evidence;
    const picture = await evidence(number);
    const stored = picture.classes || index.labels.map((_, c) => c);
    const classes = [...stored.slice(0, count), ...stored.slice(-count)];
    return [picture.kind, stored, classes.map((c) => {
        const against = c === stored[0] ? stored[1] : stored[0];
        return {
            class: c,
            against,
            maps: Object.fromEntries(["logit", "contrast", "margin", "posterior"].map((evidence) =>
                [evidence, [...map(picture, { evidence, class: c, against })]])),
            logit: picture.logits[c],
            probability: probability(index.pictures[number], picture, c),
            sum: mean(cam(picture, c)) + index.bias[c],
        };
    }), strongest(picture, 7, 5)];
}"""


@pytest.mark.parametrize("head", HEADS)
def test_the_page_computes_every_kind_of_evidence_as_python_does(head, browser: Browser, tmp_path: Path, monkeypatch):
    make, kind = HEADS[head]
    classifier = make()
    if kind == "selected":
        monkeypatch.setattr("cam.report.evidence._MAX_BYTES", 4000)
    report = report_on_two(classifier, tmp_path)
    run = RunEvidence.open(tmp_path / "run")
    with opened(browser, report) as page:
        for number, record in enumerate(run.records):
            page_kind, stored, classes, strongest = page.evaluate(READ, [number, 6])
            assert page_kind == kind
            assert 5 <= len(stored) < 40 if kind == "selected" else len(stored) == len(classifier.labels)
            for shown in classes:
                c = shown["class"]
                for evidence, values in shown["maps"].items():
                    against = shown["against"] if evidence == "contrast" else None
                    expected = cam.explain(classifier, record["path"], c, evidence=evidence, against=against)
                    difference = np.reshape(values, expected.evidence_map.shape) - expected.evidence_map
                    assert np.abs(difference).max() <= TOLERANCE, (c, evidence)
                assert abs(shown["logit"] - expected.logit) <= TOLERANCE
                assert abs(shown["sum"] - expected.logit) <= TOLERANCE
                assert abs(shown["probability"] - expected.probability) <= TOLERANCE
                assert np.abs(run.cam(run.details(record), c) - expected.cam).max() <= ROUNDING
            at_cell = {c: cam.explain(classifier, record["path"], c).cam.flat[7] for c in stored}
            best = sorted(at_cell, key=at_cell.__getitem__, reverse=True)[: len(strongest)]
            assert [shown["value"] for shown in strongest] == pytest.approx([at_cell[c] for c in best], abs=TOLERANCE)
            assert [at_cell[shown["class"]] for shown in strongest] == pytest.approx(
                [at_cell[c] for c in best], abs=2 * TOLERANCE
            )


def test_a_finer_map_adds_up_to_the_logit_at_its_resolution(browser: Browser, tmp_path: Path):
    classifier = wrapped()
    report = report_on_two(classifier, tmp_path, resolution=64)
    expected = cam.explain(classifier, tmp_path / "photos" / "0.png", 2, resolution=64)
    with opened(browser, report) as page:
        js = """async () => {
            const picture = await gapcam.data.evidence(0);
            return [picture.logits[2], picture.mapLogits[2], [...gapcam.evidence.cam(picture, 2)]];
        }"""
        logit, map_logit, values = page.evaluate(js)
    assert abs(logit - expected.logit) <= TOLERANCE
    assert abs(map_logit - expected.map_logit) <= TOLERANCE
    assert abs(logit - map_logit) > 5 * TOLERANCE
    assert np.abs(np.reshape(values, expected.cam.shape) - expected.cam).max() <= TOLERANCE


def test_a_finer_map_changes_no_probability(browser: Browser, tmp_path: Path):
    torch.manual_seed(3)
    network = gap_linear(9)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    classifier = cam.wrap(network, input_size=32)
    report = report_on_two(classifier, tmp_path, resolution=64)
    expected = [cam.explain(classifier, tmp_path / "photos" / "0.png", c, resolution=64) for c in range(9)]
    unlisted = sorted(range(9), key=lambda c: expected[c].logit)[-6]
    finer = torch.tensor([explanation.map_logit for explanation in expected]).softmax(0)[unlisted]
    assert abs(finer / expected[unlisted].probability - 1) > 20 * TOLERANCE
    with opened(browser, report) as page:
        js = """async (c) => {
            const { evidence, index } = gapcam.data;
            return gapcam.evidence.probability(index.pictures[0], await evidence(0), c);
        }"""
        for c in range(9):
            assert page.evaluate(js, c) == pytest.approx(expected[c].probability, rel=2 * TOLERANCE)


def test_the_box_of_a_cell_ends_halfway_to_the_next_centers(browser: Browser, tmp_path: Path):
    """Cells of 4 x 4 pixels of the middle 32 x 32 of a photograph that is resized to 32 x 44."""
    report = report_on_two(seeing_white(), tmp_path)
    with opened(browser, report) as page:
        page.evaluate("gapcam.state.set({ pin: 19 })")  # row 2, column 3
        marker = page.evaluate("(({ left, top, width, height }) => [left, top, width, height])(marker.style)")
        corner = page.evaluate("gapcam.geometry.box(gapcam.picture.view.picture, 63)")
    shares = [float(length.removesuffix("%")) / 100 for length in marker]
    assert shares == pytest.approx([(6 + 12) / 44, 8 / 32, 4 / 44, 4 / 32], abs=1e-5)
    right, bottom = corner["left"] + corner["width"], corner["top"] + corner["height"]
    assert (corner["left"], corner["top"], right, bottom) == pytest.approx((34 / 44, 28 / 32, 48 / 56, 1), abs=1e-5)


def test_of_equal_logits_the_first_classes_are_listed():
    evidence = all_classes(1000, 1000, side=2)
    equal = replace(evidence, logits=torch.zeros(1000), map_logits=torch.zeros(1000))
    grid, frame = stretched((2, 2), (8, 8)), Frame((8, 8), (8, 8), (0, 0), (8, 8))
    entry = evidence_script(equal, np.zeros((8, 8, 3), np.uint8), grid, frame).splitlines()[1]
    assert [c for c, _, _ in json.loads(entry.rstrip(b","))["top"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("evidence", "colormap"), [("logit", "signed"), ("posterior", "viridis")])
def test_the_page_draws_heat_as_overlays_do(evidence, colormap, browser: Browser, tmp_path: Path):
    classifier = wrapped()
    report = report_on_two(classifier, tmp_path)
    explanation = cam.explain(classifier, tmp_path / "photos" / "0.png", 1, evidence=evidence)
    heat = project(explanation.evidence_map, explanation.grid, explanation.frame)
    with opened(browser, report, f"#class=1&evidence={evidence}&scale=picture&colormap={colormap}") as page:
        drawn = pixels(page, "heat-canvas")
    assert drawn.shape == (*heat.shape, 4)
    unseen = np.isnan(heat)
    assert unseen.any()
    assert (drawn[unseen, 3] == 0).all()
    vmax = float(np.abs(explanation.evidence_map).max())
    indices = np.rint(np.clip(to_color_indices(heat, vmax), 1, 255)).astype(int)
    colors = lookup(colormap)[indices].astype(int)
    shares = colors[..., 3:] / 255  # of a color that is nearly transparent little is kept
    difference = np.abs(
        np.concatenate([shares * (drawn[..., :3] - colors[..., :3]), drawn[..., 3:] - colors[..., 3:]], 2)
    )
    assert difference[~unseen].max() <= 12  # one entry of the colormap, where rounding differs
    assert difference[~unseen].mean() < 0.5


REAL = 6  # photographs


@pytest.fixture(scope="module")
def squeezenet_weights(shared_data: Path) -> cam.Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(shared_data / "torch_home"))
        return cam.load_classifier("squeezenet1_0")


@pytest.fixture(scope="module")
def real_run(squeezenet_weights: cam.Classifier, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("squeezenet")
    pictures = find_pictures([shared_data / "imagenet" / "images"])[5 : 5 + REAL]
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset(), batch_size=REAL)
    explain_folder(squeezenet_weights, pictures, out, options)
    return out


def test_photograph_and_thumbnail_have_the_longer_sides_of_their_places(tmp_path: Path):
    write_image(tmp_path / "a.png", photo(600, 900))
    explain_into(tmp_path / "out", animals(), tmp_path / "a.png", outputs=(EvidenceWriter(),), save=frozenset())
    run = RunEvidence.open(tmp_path / "out")
    images = run.details(run.records[0])["photo"], run.entry(run.records[0])["preview"]["thumbnail"]
    assert [Image.open(BytesIO(b64decode(image))).size for image in images] == [(640, 427), (144, 96)]


def test_a_thousand_classes_take_150_kb_a_picture(real_run: Path):
    run = RunEvidence.open(real_run)
    for record in run.records:
        entry, details = run.entry(record), run.details(record)
        size = (real_run / record["files"]["report"]).stat().st_size
        assert 20_000 < size - len(entry["preview"]["thumbnail"]) - len(details["photo"]) <= 150_000
        assert len(details["maps"].get("classes", range(1000))) >= 400


def test_the_page_is_exact_on_real_photographs(real_run: Path, squeezenet_weights: cam.Classifier, browser: Browser):
    report = write_report(real_run)
    assert report.stat().st_size < REAL * 250_000 + 300_000
    images = [read_image(record["path"]) for record in RunEvidence.open(real_run).records]
    js = """async ([n, evidence]) => {
        const [[a], [b]] = gapcam.data.index.pictures[n].top;
        const picture = await gapcam.data.evidence(n);
        return [...gapcam.evidence.map(picture, { evidence, class: a, against: b })];
    }"""
    with opened(browser, report) as page:
        assert page.evaluate("performance.getEntriesByName('shown')[0].startTime") < 5000
        for evidence in ("logit", "contrast", "margin", "posterior"):
            results = explain_images(squeezenet_weights, images, [[TopClasses(1)]] * REAL, ExplainOptions(evidence))
            for number, ((explanation,), _) in enumerate(results):
                values = np.reshape(page.evaluate(js, [number, evidence]), (13, 13))
                assert np.abs(values - explanation.evidence_map).max() <= TOLERANCE
