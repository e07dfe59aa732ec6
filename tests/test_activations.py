"""Probabilities belong to the task: softmax of exclusive classes, sigmoids of independent ones, none of values."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from browser import opened
from click.testing import Result
from reports import index_of
from runs import lines
from small import gap_linear, photo, wrapped
from torch import nn

import cam
from cam.classifiers.activations import activate, choose_activation
from cam.classifiers.provenance import describe
from cam.errors import UsageError
from cam.evaluation.faithfulness import evaluate_faithfulness
from cam.evaluation.grid import evaluate_grid
from cam.evaluation.methods import evidence_methods
from cam.evaluation.placement import evaluate_placement
from cam.images.io import write_image
from cam.invariance.figures import write_figures
from cam.invariance.measure import measure_invariance

CLASSES = 7
FACTORY = f"""
import torch
from torch import nn

def make(classes={CLASSES}):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*body, nn.Linear(8, classes))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return network

def one():
    return make(1)
"""


@pytest.fixture
def explained(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Explain an image with a network of several findings, or of `one`, with a report."""
    (tmp_path / "findings.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "findings", raising=False)
    write_image(tmp_path / "a.png", photo(40, 50))

    def explain(name: str, *options: object) -> tuple[Result, Path]:
        fixed = "--input-size", 32, "--device", "cpu", "--save", "overlay,cam", "--report"
        out = tmp_path / "out"
        return run("explain", tmp_path / "a.png", "-m", f"findings:{name}", "-o", out, *fixed, *options), out

    return explain


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(0)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def test_probabilities_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]])
    assert activate(logits, "softmax").tolist() == [pytest.approx([1 / 4, 3 / 4])]
    assert activate(logits, "sigmoid").tolist() == [pytest.approx([1 / 2, 3 / 4])]
    assert activate(logits, "none").isnan().all()


def configured(problem_type: object, *, as_dict: bool = False) -> nn.Module:
    network = nn.Linear(1, 1)
    network.config = {"problem_type": problem_type} if as_dict else SimpleNamespace(problem_type=problem_type)
    return network


@pytest.mark.parametrize(
    ("given", "network", "own", "classes", "expected"),
    [
        (None, nn.Identity(), None, 14, ("softmax", "activation: softmax, assumed for 14 class scores")),
        (None, nn.Identity(), None, 1, ("sigmoid", "activation: sigmoid, assumed for one class score")),
        ("sigmoid", configured("regression"), "softmax", 14, ("sigmoid", "")),
        ("none", nn.Identity(), None, 1, ("none", "")),
        (None, nn.Identity(), "softmax", 14, ("softmax", "")),
        (None, nn.Identity(), "softmax", 1, ("sigmoid", "activation: sigmoid, assumed")),
        (
            None,
            configured("regression"),
            "softmax",
            1,
            ("none", "activation: none, by the network's problem_type 'regr"),
        ),
        (
            None,
            nn.Sequential(configured("multi_label_classification")),
            None,
            3,
            ("sigmoid", "activation: sigmoid, by"),
        ),
        (
            None,
            configured("single_label_classification", as_dict=True),
            None,
            3,
            ("softmax", "activation: softmax, by"),
        ),
        (None, configured("single_label_classification"), None, 1, ("sigmoid", "activation: sigmoid, by")),
        (None, configured(None), None, 3, ("softmax", "activation: softmax, assumed")),
        (None, configured(3), None, 3, ("softmax", "activation: softmax, assumed")),
    ],
)
def test_the_activation_is_the_callers_then_that_of_the_config_then_the_models_own(
    given, network, own, classes, expected
):
    activation, note = choose_activation(given, network, own, classes)
    assert activation == expected[0]
    assert note.startswith(expected[1]) if expected[1] else note == ""


def test_wrong_activations_are_named():
    with pytest.raises(UsageError, match="--activation must be softmax, sigmoid or none, got 'tanh'"):
        wrapped(activation="tanh")
    with pytest.raises(UsageError, match="--activation softmax of one class score is always 1"):
        wrapped("one-logit", activation="softmax")


def test_a_multi_label_network_has_a_sigmoid_for_each_class():
    classifier = wrapped(activation="sigmoid")
    explanations = [cam.explain(classifier, photo(40, 50), class_idx) for class_idx in range(5)]
    logits = np.array([explanation.logit for explanation in explanations])
    np.testing.assert_allclose([e.probability for e in explanations], sigmoid(logits), atol=1e-6)
    posterior = cam.explain(classifier, photo(40, 50), 2, evidence="posterior")
    np.testing.assert_allclose(posterior.evidence_map, sigmoid(posterior.cam + posterior.bias), atol=1e-6)
    assert describe(classifier, {})["activation"] == "sigmoid"


def test_a_network_that_says_its_problem_is_believed():
    network = gap_linear(5)
    network.config = SimpleNamespace(problem_type="multi_label_classification")
    classifier = cam.wrap(network, input_size=32)
    assert classifier.activation == "sigmoid"
    facts = describe(classifier, {})
    assert facts["notes"][1:] == ["activation: sigmoid, by the network's problem_type 'multi_label_classification'"]


def test_one_logit_is_two_classes_unless_it_is_a_value():
    binary, value = wrapped("one-logit"), wrapped("one-logit", activation="none")
    assert (binary.labels, value.labels) == (("negative", "positive"), ("output",))
    for_it, against = (cam.explain(binary, photo(40, 50), class_idx) for class_idx in (1, 0))
    assert for_it.logit == -against.logit
    assert for_it.probability == pytest.approx(sigmoid(for_it.logit), abs=1e-6)
    assert for_it.probability + against.probability == pytest.approx(1)
    explanation = cam.explain(value, photo(40, 50))
    assert (explanation.class_idx, explanation.label, explanation.probability) == (0, "output", None)
    assert explanation.logit == pytest.approx(for_it.logit, abs=1e-6)
    np.testing.assert_allclose(explanation.cam, for_it.cam, atol=1e-6)
    assert explanation.cam.min() < 0 < explanation.cam.max()  # signed
    assert cam.wrap(gap_linear(1), input_size=32, activation="none", labels=["age"]).labels == ("age",)
    with pytest.raises(UsageError, match="2 labels for the 1 classes"):
        wrapped("one-logit", activation="none", labels=["young", "old"])


def test_the_legend_of_a_value_has_no_percentage(monkeypatch):
    explanation = cam.explain(wrapped("one-logit", activation="none"), photo(40, 50))
    texts: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "cam.explanations.explanation.make_legend",
        lambda size, **given: texts.append(given) or np.zeros((9, size[1], 3), np.uint8),
    )
    explanation.overlay(legend=True)
    assert texts[0]["details"] == f"value {explanation.logit:.2f}"
    assert texts[0]["notes"][0].startswith(f"value {explanation.logit:.2f} = mean of the map")
    assert texts[0]["unit"] == "evidence (value)"


@pytest.mark.parametrize(
    ("kind", "evidence", "message"),
    [
        ("gap-linear", "posterior", "--evidence posterior needs probabilities, and the scores of .* are values"),
        ("one-logit", "margin", "--evidence margin compares classes, and 'Sequential' has one output"),
        ("one-logit", "contrast", "--evidence contrast compares classes, and 'Sequential' has one output"),
    ],
)
def test_evidence_that_values_do_not_have_is_refused(kind, evidence, message):
    classifier = wrapped(kind, activation="none")
    with pytest.raises(UsageError, match=message):
        cam.explain(classifier, photo(40, 50), evidence=evidence)
    with pytest.raises(UsageError, match=message):
        evidence_methods(classifier, [evidence])


def test_benchmarks_of_probabilities_refuse_values():
    classifier = wrapped(activation="none")
    with pytest.raises(UsageError, match="The grid pointing game needs probabilities"):
        evaluate_grid(classifier, {}, lambda _: [])
    with pytest.raises(UsageError, match="The faithfulness benchmark needs probabilities"):
        evaluate_faithfulness(classifier, [], [])
    with pytest.raises(UsageError, match="The placement benchmark needs probabilities"):
        evaluate_placement(classifier, [])


def test_softmax_end_to_end(explained, browser):
    result, out = explained("make", "-t", f"top{CLASSES}")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1:] == [
        f"activation: softmax, assumed for {CLASSES} class scores; --activation says another"
    ]
    targets = lines(out)[0]["targets"]
    expected = softmax(np.array([target["logit"] for target in targets]))
    np.testing.assert_allclose([target["probability"] for target in targets], expected, atol=1e-6)
    about = json.loads((out / "run.json").read_text())
    assert (about["activation"], about["settings"]["activation"]) == ("softmax", "softmax")
    assert about["notes"] == result.stderr.splitlines()
    assert f"{100 * targets[0]['probability']:.1f} %" in result.stdout
    with opened(browser, out / "report.html") as page:
        assert page.inner_text("#verdict") == f"{targets[0]['label']} {100 * expected[0]:.1f} %"


PROBABILITIES = """async () => {
    const picture = await gapcam.data.evidence(0);
    const { map, probability } = gapcam.evidence;
    const { index } = gapcam.data;
    const row = { ...index.pictures[0], top: index.pictures[0].top.slice(0, 1) };
    return index.labels.map((_, c) => [
        probability(row, picture, c), [...map(picture, { evidence: "posterior", class: c })]
    ]);
}"""


def test_sigmoid_end_to_end(explained, browser):
    result, out = explained("make", "-t", f"top{CLASSES}", "--activation", "sigmoid", "--evidence", "posterior")
    assert result.exit_code == 0, result.output
    (note,) = result.stderr.splitlines()
    assert note.startswith("input 32x32, center crop of the image resized to shorter side 32, bilinear, mean 0.485")
    assert note.endswith(": assumed, changed by --input-size")
    targets = {target["class_idx"]: target for target in lines(out)[0]["targets"]}
    expected = {c: sigmoid(target["logit"]) for c, target in targets.items()}
    assert {c: target["probability"] for c, target in targets.items()} == pytest.approx(expected, abs=1e-6)
    about = json.loads((out / "run.json").read_text())
    assert (about["activation"], about["settings"]["activation"], about["notes"]) == ("sigmoid", "sigmoid", [note])
    maps = {c: np.load(out / target["files"]["cam"]) for c, target in targets.items()}
    for c, arrays in maps.items():
        assert arrays["probability"] == pytest.approx(expected[c], abs=1e-6)
        np.testing.assert_allclose(arrays["evidence_map"], sigmoid(arrays["cam"] + arrays["bias"]), atol=1e-6)
    entry = index_of(out / "report.html")["pictures"][0]
    assert {c: share for c, _, share in entry["top"]} == pytest.approx(
        {c: expected[c] for c, *_ in entry["top"]}, abs=1e-6
    )
    with opened(browser, out / "report.html") as page:
        for c, (share, cells) in enumerate(page.evaluate(PROBABILITIES)):
            assert share == pytest.approx(expected[c], abs=1e-3)
            np.testing.assert_allclose(cells, sigmoid(maps[c]["cam"] + maps[c]["bias"]).ravel(), atol=1e-3)
        first = entry["top"][0][0]
        assert page.inner_text("#chips .chip >> nth=0 >> .number >> nth=1") == f"{100 * expected[first]:.1f} %"


def test_values_end_to_end(explained, browser):
    result, out = explained("one", "--activation", "none")
    assert result.exit_code == 0, result.output
    (target,) = lines(out)[0]["targets"]
    assert (target["label"], target["probability"]) == ("output", None)
    assert result.stdout.splitlines()[0].split() == ["image", "class", "value", "peak", "(y,", "x)"]
    assert re.search(rf"a\.png +output +{target['logit']:.2f} ", result.stdout)
    assert "%" not in result.stdout
    assert np.isnan(np.load(out / target["files"]["cam"])["probability"])
    index = index_of(out / "report.html")
    assert index["pictures"][0]["top"] == [[0, pytest.approx(target["logit"]), None]]
    assert sum(index["summary"]["all"]["histogram"]) == 0
    shown = f"{target['logit']:.2f}".replace("-", "\u2212")
    with opened(browser, out / "report.html", "#evidence=posterior") as page:
        page.keyboard.press("c")
        assert page.evaluate("gapcam.state.current.evidence") == "logit"
        assert page.evaluate("[...document.querySelectorAll('#evidence button')].filter((b) => !b.hidden).length") == 1
        assert page.inner_text("#verdict") == f"output {shown}"
        assert page.inner_text("#list .prediction .number") == shown
        assert page.evaluate("gapcam.save.legend()[0]") == f"Evidence for \u2068output\u2069: value {shown}"
        assert page.evaluate("gapcam.save.table()").splitlines()[1].split(",")[4] == '""'
        for text in ("#chips", "#cell", "#sums"):
            assert "%" not in page.inner_text(text)
        page.click("#view-summary")
        assert page.is_hidden("#group-probabilities")


def test_a_run_with_another_activation_is_another_run(explained):
    assert explained("make", "--activation", "sigmoid")[0].exit_code == 0
    result, _ = explained("make", "--activation", "softmax")
    assert result.exit_code == 2
    assert "(--activation sigmoid, now --activation softmax)" in result.output


def test_invariance_of_a_value_has_no_probabilities(tmp_path):
    classifier = wrapped("one-logit", activation="none")
    result = measure_invariance(classifier, photo(16, 16), steps=2)
    facts = result.facts()
    assert "probability" not in facts
    assert facts["value"]["mean"] == pytest.approx(float(result.logits.astype(np.float64).mean()))
    assert "probability" not in str(result)
    assert "NaN" not in result.to_json()
    assert len(write_figures(result, tmp_path)) == 4


def test_every_command_says_what_it_assumes(explained, run, tmp_path):
    assert explained("make")[0].exit_code == 0
    arguments = tmp_path / "a.png", "-m", "findings:make", "--input-size", 32
    expected = f"activation: softmax, assumed for {CLASSES} class scores; --activation says another"
    commands = (
        ("invariance", *arguments, "--steps", 2, "-o", tmp_path / "moved"),
        ("evaluate", "sanity", *arguments, "--stages", 2),
    )
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines()[1:] == [expected]
        assert run(*command, "--json").stderr == ""
