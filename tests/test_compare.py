"""cam compare: two runs over the same images, matched, graded and compared."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SAMPLES, explain_into, lines, write_photos
from safetensors.torch import load_file, save_file
from small import NETWORKS, three_classes
from torch import nn

import cam
from cam.audit.compare import Comparison, _differing, compare_runs
from cam.classifiers.truth import read_truth
from cam.errors import UsageError
from cam.explanations.options import TopClasses
from cam.images.find import find_pictures
from cam.report.evidence import EvidenceWriter

LABELS = ["cat", "dog", "bird"]
MAPS = {"save": frozenset({"cam"})}
REPORT = {"save": frozenset(), "outputs": (EvidenceWriter(),)}
BOTH = {"save": frozenset({"cam"}), "outputs": (EvidenceWriter(),)}


def classifier(seed: int = 0, labels=LABELS, size: int = 32) -> cam.Classifier:
    network = three_classes()
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return cam.wrap(network, input_size=size, labels=labels)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, photos) -> tuple[Path, Path]:
    """Two networks over the same photographs, with maps and evidence, and a true class each."""
    folder = tmp_path_factory.mktemp("runs")
    names = [(str(picture.path), str(picture.name)) for picture in find_pictures([photos])]
    table = folder / "truth.csv"
    table.write_text("path,label\n" + "".join(f"{name},{LABELS[n % 3]}\n" for n, (_, name) in enumerate(names)))
    for name, seed in (("a", 10), ("b", 11)):
        explain_into(folder / name, classifier(seed), photos, truth=read_truth(str(table), names, LABELS), **BOTH)
    return folder / "a", folder / "b"


@pytest.fixture(scope="module")
def compared(runs) -> Comparison:
    return compare_runs(*runs)


def test_every_row_has_the_answers_and_the_verdict_of_its_lines(runs, compared):
    a, b = ({line["name"]: line for line in lines(out)} for out in runs)
    assert sorted(row["name"] for row in compared.rows) == sorted(a)
    for row in compared.rows:
        ours, theirs = a[row["name"]], b[row["name"]]
        assert row["truth"] == ours["truth"]["label"]
        assert [row[key]["label"] for key in "ab"] == [line["predicted"]["label"] for line in (ours, theirs)]
        assert [row[key]["correct"] for key in "ab"] == [ours["correct"], theirs["correct"]]
        assert row["a"]["probability"] == ours["targets"][0]["probability"]
        same = ours["predicted"] == theirs["predicted"]
        changed = {(False, True): "fixed", (True, False): "broken", (False, False): "changed"}
        expected = ("moved" if row["moved"] >= 0.5 else "same") if same else changed[ours["correct"], theirs["correct"]]
        assert row["verdict"] == expected
    assert len({row["verdict"] for row in compared.rows}) >= 3


def test_rows_are_sorted_by_verdict_and_by_how_much_moved(compared):
    order = ["fixed", "broken", "changed", "moved", "same"]
    keys = [(order.index(row["verdict"]), -row["moved"]) for row in compared.rows]
    assert keys == sorted(keys)


def test_differences_add_up_to_the_changes_of_the_logits(runs, compared, photos):
    networks = classifier(10), classifier(11)
    for row in compared.rows:
        assert len(row["changes"]) == 1 + (row["a"]["label"] != row["b"]["label"])
        for change in row["changes"]:
            first, second = (cam.explain(one, photos / row["name"], change["label"]) for one in networks)
            assert change["logit_a"] == pytest.approx(first.logit, abs=1e-3)
            assert change["change"] == pytest.approx(second.logit - first.logit, abs=2e-3)
            assert change["base_change"] == pytest.approx(second.bias - first.bias, abs=1e-5)
            assert change["same_grid"]
            assert change["adding_error"] < 1e-3  # stored to half of 2**-10
    assert compared.summary["largest_adding_error"] < 1e-3


def test_the_moved_share_is_that_of_the_maps_of_each_answer(runs, compared, photos):
    networks = classifier(10), classifier(11)
    for row in compared.rows[:6]:
        maps = (cam.explain(one, photos / row["name"]).cam.clip(0) for one in networks)
        first, second = (part / part.sum() for part in maps)
        assert row["moved"] == pytest.approx(1 - np.minimum(first, second).sum(), abs=0.01)


def test_counts_by_verdict_class_and_accuracy(compared):
    rows, summary = compared.rows, compared.summary
    assert sum(summary["verdicts"].values()) == summary["compared"] == summary["with_truth"] == 12
    assert sum(row["verdict"] == "fixed" for row in rows) == summary["verdicts"]["fixed"]
    for counts in summary["by_class"]:
        mine = [row["verdict"] for row in rows if row["truth"] == counts["label"]]
        assert {verdict: mine.count(verdict) for verdict in summary["verdicts"]} == {
            verdict: counts[verdict] for verdict in summary["verdicts"]
        }
    gained = summary["verdicts"]["fixed"] - summary["verdicts"]["broken"]
    assert summary["b"]["accuracy"] - summary["a"]["accuracy"] == pytest.approx(gained / 12)
    assert [difference["setting"] for difference in summary["differ"]] == ["weights"]


def test_a_perturbed_checkpoint_changes_logits_exactly_where_its_maps_differ(run, tmp_path):
    """Stored maps in float32: the sum holds to rounding."""
    torch.manual_seed(3)
    tensors = load_file(SAMPLES.parent / "models" / "digits.safetensors")
    floats = {name: value for name, value in tensors.items() if value.is_floating_point()}
    save_file(
        tensors | {name: value * (1 + 0.03 * torch.randn_like(value)) for name, value in floats.items()},
        tmp_path / "other.safetensors",
    )
    for name, weights in (("a", []), ("b", ["--weights", tmp_path / "other.safetensors"])):
        arguments = "-m", "digits", *weights, "--target", "top10", "--save", "cam", "-o", tmp_path / name
        assert run("explain", SAMPLES, *arguments).exit_code == 0
    comparison = compare_runs(tmp_path / "a", tmp_path / "b")
    assert comparison.summary["compared"] == 10
    assert all(change["same_grid"] for row in comparison.rows for change in row["changes"])
    assert comparison.summary["largest_adding_error"] < 1e-5
    assert max(abs(change["change"]) for row in comparison.rows for change in row["changes"]) > 0.05


@pytest.mark.parametrize("kept", [MAPS, REPORT], ids=["maps", "report"])
@pytest.mark.parametrize("name", NETWORKS)
def test_differences_of_every_exact_head_add_up(tmp_path, photos, name, kept):
    """Two trainings of one architecture, with biases and scales of their own."""
    for run, seed in (("a", 4), ("b", 5)):
        network = NETWORKS[name]()
        torch.manual_seed(seed)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
        explain_into(tmp_path / run, cam.wrap(network, input_size=32), photos, targets=(TopClasses(5),), **kept)
    comparison = compare_runs(tmp_path / "a", tmp_path / "b")
    assert all(row["changes"] for row in comparison.rows)
    assert comparison.summary["largest_adding_error"] < (1e-5 if kept is MAPS else 1e-3)


def test_input_sizes_are_compared_on_the_photograph(tmp_path, photos):
    for name, size in (("a", 32), ("b", 48)):
        explain_into(tmp_path / name, classifier(1, size=size), photos, **MAPS)
    comparison = compare_runs(tmp_path / "a", tmp_path / "b")
    assert {change["same_grid"] for row in comparison.rows for change in row["changes"]} == {False}
    assert comparison.summary["largest_adding_error"] is None
    assert "subtracted, which is not exact" in " ".join(comparison.summary["notes"])
    settings = {difference["setting"] for difference in comparison.summary["differ"]}
    assert "preprocessing resize" in settings
    assert "weights" not in settings


def test_classes_are_matched_by_label_if_the_labels_differ(tmp_path, photos):
    """The same network with its classes in another order, and more names of one: nothing changes."""
    first, second = classifier(1), classifier(1)
    order = [2, 0, 1]
    with torch.no_grad():
        head = second.network[-1]
        head.weight.copy_(head.weight[order].clone())
        head.bias.copy_(head.bias[order].clone())
    renamed = cam.wrap(second.network, input_size=32, labels=["Bird", "cat, Felis catus", "dog"])
    explain_into(tmp_path / "a", first, photos, **REPORT)
    explain_into(tmp_path / "b", renamed, photos, **REPORT)
    for runs in (("a", "b"), ("b", "a")):
        comparison = compare_runs(*(tmp_path / name for name in runs))
        assert comparison.summary["verdicts"]["same"] == 12
        assert all(abs(change["change"]) < 1e-5 for row in comparison.rows for change in row["changes"])


def test_without_the_other_class_the_answers_are_compared_and_that_is_said(run, tmp_path, photos):
    for name, seed in (("a", 10), ("b", 11)):
        explain_into(tmp_path / name, classifier(seed), photos, **MAPS)
    comparison = compare_runs(tmp_path / "a", tmp_path / "b")
    changed = [row for row in comparison.rows if row["verdict"] == "changed"]
    assert changed  # no truth: neither fixed nor broken
    assert all(row["moved"] is not None for row in changed)
    assert {len(row["changes"]) for row in changed} == {0}
    assert f"{len(changed)} images with a class whose map only one run kept" in comparison.summary["notes"][0]
    assert "--report" in comparison.summary["notes"][0]
    assert {"changed": "another answer"}.items() <= comparison.summary["meanings"].items()
    shown = run("compare", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out").stdout
    assert re.findall(r"^ (\d+) +(changed|moved|same|fixed|broken)", shown, re.MULTILINE) == [
        (str(comparison.summary["verdicts"][name]), name) for name in ("changed", "moved", "same")
    ]


def test_a_missing_map_costs_its_line_only(run, runs, tmp_path):
    other = tmp_path / "b"
    shutil.copytree(runs[1], other)
    line = lines(other)[3]
    (other / line["files"]["report"]).unlink()
    result = run("compare", runs[0], other, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 3
    summary = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (summary["compared"], summary["failed"]) == (11, 1)
    assert summary["images"][-1]["name"] == line["name"]
    assert "has no evidence" in summary["images"][-1]["error"]
    assert "has no evidence" in (tmp_path / "out" / "compare.html").read_text()


def test_images_of_one_run_only_are_counted_and_named(tmp_path, photos):
    some = sorted(photos.iterdir())[:5]
    explain_into(tmp_path / "a", classifier(1), *some[:4], **MAPS)
    explain_into(tmp_path / "b", classifier(1), *some[1:], **MAPS)
    summary = compare_runs(tmp_path / "a", tmp_path / "b").summary
    assert summary["compared"] == 3
    assert summary["only_in_a"] == {"count": 1, "names": [some[0].name]}
    assert summary["only_in_b"] == {"count": 1, "names": [some[4].name]}


def test_other_files_of_the_same_name_are_noticed(tmp_path, photos):
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(photos / "1.png", tmp_path / "photos" / "0.png")
    for name, folder in (("a", photos), ("b", tmp_path / "photos")):
        explain_into(tmp_path / name, classifier(1), folder, **MAPS)
    assert (
        "1 image with other files of the same name in B"
        in compare_runs(tmp_path / "a", tmp_path / "b").summary["notes"]
    )


def test_the_command_prints_and_writes(run, runs, compared, tmp_path):
    out = tmp_path / "out"
    result = run("compare", *runs, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"12 compared, 0 failed: {out / 'compare.html'}" in result.stdout
    assert "most moved" in result.stdout
    assert f"{compared.summary['verdicts']['fixed']:>2}       fixed" in result.stdout
    with (out / "compare.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["name"] for line in table] == [row["name"] for row in compared.rows for _ in row["changes"]]
    assert float(table[0]["change"]) == pytest.approx(compared.rows[0]["changes"][0]["change"])
    assert table[0]["same_grid"] == "true"
    assert json.loads((out / "compare.json").read_text())["images"] == json.loads(json.dumps(compared.rows))
    printed = json.loads(run("compare", *runs, "-o", out, "--json").stdout)
    assert printed["images"] == compared.rows
    assert run("compare", *runs, "-o", out, "--quiet").output == ""


def test_a_run_against_itself_is_refused(runs):
    with pytest.raises(UsageError, match="are the same folder"):
        compare_runs(runs[0], runs[0].parent / "." / runs[0].name)


def test_runs_that_share_no_image_or_label_or_kept_no_map_are_refused(run, tmp_path, photos, runs):
    some = sorted(photos.iterdir())
    explain_into(tmp_path / "a", classifier(1), some[0], **REPORT)
    explain_into(tmp_path / "b", classifier(1), some[1], **REPORT)
    with pytest.raises(UsageError, match=r"no image of the same name, but '0.png' and '1.png'"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    explain_into(tmp_path / "c", classifier(1, ["x", "y", "z"]), some[0], **REPORT)
    explain_into(tmp_path / "d", classifier(1, ["x", "y", "z"]), some[0], **MAPS)
    for name in "cd":
        with pytest.raises(UsageError, match="share no label"):
            compare_runs(tmp_path / "a", tmp_path / name)
    explain_into(tmp_path / "e", classifier(1), some[0], save=frozenset())
    result = run("compare", runs[0], tmp_path / "e", "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "kept no maps. Run cam explain again, with --report or --save cam" in result.stderr
    assert not (tmp_path / "out").exists()


def test_complete_maps_add_up_to_the_error_that_is_stated(run, tmp_path):
    for name, model in (("a", "position-flatten"), ("b", "position-flatten-mlp")):
        result = run("explain", SAMPLES / "five.png", "-m", model, "-o", tmp_path / name, "--report")
        assert result.exit_code == 0, result.output
    comparison = compare_runs(tmp_path / "a", tmp_path / "b")
    assert [comparison.summary[key]["method"] for key in "ab"] == ["integrated", "integrated"]
    assert "head cost" not in {difference["setting"] for difference in comparison.summary["differ"]}
    change = comparison.rows[0]["changes"][0]
    first, second = (
        cam.explain(cam.load_classifier(model), SAMPLES / "five.png", change["label"])
        for model in ("position-flatten", "position-flatten-mlp")
    )
    missed = [one.logit - one.bias - one.cam.mean() for one in (first, second)]
    assert change["adding_error"] == pytest.approx(abs(missed[1] - missed[0]), abs=1e-3)


def test_truth_of_one_run_is_enough(runs, compared, tmp_path, photos):
    explain_into(tmp_path / "b", classifier(11), photos, **MAPS)
    explain_into(tmp_path / "a", classifier(10), photos, **MAPS)
    for pair in ((runs[0], tmp_path / "b"), (tmp_path / "a", runs[1])):
        comparison = compare_runs(*pair)
        assert comparison.summary["verdicts"] == compared.summary["verdicts"]
        assert comparison.summary["with_truth"] == 12


def test_settings_are_named_as_the_options_are():
    settings = {"fit": [None, "whole"], "bands": [None, [1, 2]], "weights": ["a", "b"]}
    texts = [difference["text"] for difference in _differing(settings)]
    assert texts == ["fit the model's own \u2192 whole", "bands none \u2192 1 x 2", "weights"]
