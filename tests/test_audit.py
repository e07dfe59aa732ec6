"""`cam audit` finds a shortcut that was planted in one class, and nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import cam
from cam.audit.audit import audit_run
from cam.audit.collect import _notes
from cam.audit.read import RunMaps
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.truth import Truth
from cam.cli.main import main
from cam.errors import UsageError
from cam.explanations.options import OneClass
from cam.images.find import find_pictures
from cam.report.evidence import EvidenceWriter
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

SIDE, CLASSES = 12, 6
COLORS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)], np.float32)


def color_classifier() -> cam.Classifier:
    """One feature for each of six colors, averaged: a class is the color of which there is most."""
    network = nn.Sequential(nn.Conv2d(3, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6))
    with torch.no_grad():
        colors = torch.from_numpy(2 * COLORS - 1)
        network[0].weight.copy_(colors[:, :, None, None])
        network[0].bias.copy_(0.5 - torch.from_numpy(COLORS).sum(1))
        network[4].weight.copy_(8 * torch.eye(6))
        network[4].bias.zero_()
    preprocessing = Preprocessing(SIDE, (SIDE, SIDE), (0.0,) * 3, (1.0,) * 3)
    return cam.wrap(network, preprocessing=preprocessing, labels=[f"color {i}" for i in range(CLASSES)])


def spots(folder: Path, each: int, tagged: int, shape: tuple[int, int] = (SIDE, SIDE)) -> tuple[list[Path], list[int]]:
    """Images of a spot of the color of their class anywhere; the first ones of class 2 have a tag of it, too."""
    rng = np.random.default_rng(0)
    files, classes = [], []
    for number in range(each * CLASSES):
        class_idx = number % CLASSES
        image = rng.uniform(0.3, 0.6, (*shape, 3)).astype(np.float32)
        y, x = rng.integers(0, np.array(shape) - 4)
        image[y : y + 4, x : x + 4] = 0.3 * image[y : y + 4, x : x + 4] + 0.7 * COLORS[class_idx]
        if class_idx == 2 and number // CLASSES < tagged:
            image[1:3, -3:-1] = COLORS[2]
        files.append(folder / f"{number:03}.png")
        classes.append(class_idx)
        Image.fromarray((255 * image).astype(np.uint8)).save(files[-1])
    return files, classes


def run_over(
    folder: Path, each: int = 60, tagged: int = 0, *, copies: int = 0, mislabeled: int = 0, report: bool = False
) -> Path:
    """Explain spots, copies of the first ones saved as another file, and the first ones under another label."""
    files, classes = spots(folder, each, tagged)
    for number in range(copies):
        files.insert(2 * number + 1, folder / f"{number:03}-copy.png")
        classes.insert(2 * number + 1, classes[2 * number])
        Image.open(files[2 * number]).save(files[2 * number + 1])
    classes[:mislabeled] = [(class_idx + 1) % CLASSES for class_idx in classes[:mislabeled]]
    kept = {"outputs": (EvidenceWriter(),), "save": frozenset[str]()} if report else {"save": frozenset({"cam"})}
    truth = Truth(dict(zip(map(str, files), classes, strict=True)))
    explain_folder(color_classifier(), find_pictures(files), folder / "out", RunOptions(truth=truth, **kept))
    return folder / "out"


@pytest.mark.parametrize("report", [False, True])
def test_a_planted_tag_is_named_first(tmp_path, report):
    out = run_over(tmp_path, tagged=15, report=report)
    audit = audit_run(out)
    (finding,) = audit.standing_out
    assert (finding.label, finding.place, finding.images) == ("color 2", "top right", 60)
    assert sorted(finding.members) == sorted(str(tmp_path / f"{2 + 6 * n:03}.png") for n in range(15))
    assert set(finding.cells) == {(1, 9), (1, 10), (2, 9), (2, 10)}
    assert finding.box == pytest.approx((9 / 12, 1 / 12, 11 / 12, 3 / 12), abs=0.02)
    assert finding.chance is not None
    assert finding.chance < 0.01
    # Each of the four pixels has the feature 1 - 0.5 in full color, weighted by 8, in a mean over 144.
    assert finding.logits == pytest.approx(4 * 8 * 0.5 / 144, rel=0.01)
    assert finding.correct == 1
    assert [channel for channel, _ in finding.channels[:1]] == ([2] if report else [])  # only a report has features
    assert all(separation > 0 for _, separation in finding.channels)
    assert (len(audit.paths), audit.classes, audit.grid) == (360, 6, (12, 12))


def test_nothing_stands_out_where_nothing_was_planted(tmp_path):
    audit = audit_run(run_over(tmp_path))
    assert audit.standing_out == []
    assert len(audit.findings) == 6  # the strongest of each class, for those who want to look
    result = CliRunner().invoke(main, ["audit", str(tmp_path / "out")])
    assert "nothing stands out: 360 images, 6 classes" in result.output
    assert result.exit_code == 0


def test_json_has_the_findings_and_nothing_else_is_left(tmp_path):
    out = run_over(tmp_path, tagged=15)
    before = {path.name for path in out.iterdir()}
    result = CliRunner().invoke(main, ["audit", str(out), "--json"])
    printed, written = json.loads(result.stdout), json.loads((out / "audit.json").read_text())
    assert printed["findings"] == written["findings"]
    assert (printed["findings"][0]["label"], printed["images"], len(written["paths"])) == ("color 2", 360, 360)
    assert printed.keys() == {"file", "report", "images", "grid", "classes", "findings", "duplicates", "notes"}
    assert {path.name for path in out.iterdir()} - before == {"audit.json"}
    again = CliRunner().invoke(main, ["audit", str(out)])
    assert "1 group stands out" in again.output
    assert "color 2, top right: " in again.output


def test_too_few_images_are_said(tmp_path):
    audit = audit_run(run_over(tmp_path, each=3))
    assert audit.findings == []
    assert audit.notes == ["too few images: a class needs 20, and the largest has 3"]
    result = CliRunner().invoke(main, ["audit", str(tmp_path / "out")])
    assert result.output.splitlines() == [
        "note: too few images: a class needs 20, and the largest has 3",
        f"no class compared: 18 images, {tmp_path / 'out' / 'audit.json'}",
    ]


def test_images_that_were_cropped_otherwise_are_counted():
    places = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0.2, 1, 0.8]])
    assert _notes([], 0, 0, (12, 12), places) == [
        "of 1 image the network saw another part than of the first, by shape or crop: "
        "there the same cell is another place in the photograph"
    ]


def test_few_classes_are_judged_by_their_own_cells(tmp_path):
    files, classes = spots(tmp_path, 60, 15)
    chosen = [file for file, class_idx in zip(files, classes, strict=True) if class_idx in (1, 2)]
    options = RunOptions(save=frozenset({"cam"}))
    explain_folder(color_classifier(), find_pictures(chosen), tmp_path / "out", options)
    audit = audit_run(tmp_path / "out")
    assert [finding.label for finding in audit.standing_out] == ["color 2"]
    assert audit.standing_out[0].chance is None
    assert audit.standing_out[0].correct is None
    assert "fewer than 5 classes" in audit.notes[0]


def test_a_damaged_map_costs_its_image_only(tmp_path):
    out = run_over(tmp_path, tagged=15)
    next(iter(sorted(out.glob("*.npz")))).write_bytes(b"torn")
    audit = audit_run(out)
    assert len(audit.paths) == 359
    assert audit.notes[0].startswith("left out 1 image without a map")
    for file in out.glob("*.npz"):
        file.unlink()
    with pytest.raises(UsageError, match="has no map"):
        audit_run(out)


def test_maps_of_other_grids_are_resized_and_said(tmp_path):
    square, wide = tmp_path / "a", tmp_path / "b"
    square.mkdir()
    wide.mkdir()
    files = [*spots(square, 20, 0)[0], *spots(wide, 10, 0, (12, 18))[0]]
    classifier = color_classifier()
    options = RunOptions(save=frozenset({"cam"}), explain=cam.ExplainOptions(fit="whole"))
    explain_folder(classifier, find_pictures(files), tmp_path / "out", options)
    audit = audit_run(tmp_path / "out")
    assert "60 maps of other grids were resized to 12 x 12 cells" in audit.notes


def test_images_that_are_all_alike_are_no_group(tmp_path):
    (file, *_), _ = spots(tmp_path, 1, 0)
    files = [file, *(tmp_path / f"copy{number}.png" for number in range(24))]
    for copy in files[1:]:
        copy.write_bytes(file.read_bytes())
    options = RunOptions(outputs=(EvidenceWriter(),), save=frozenset())
    explain_folder(color_classifier(), find_pictures(files), tmp_path / "out", options)
    audit = audit_run(tmp_path / "out")
    assert audit.findings == []
    assert audit.duplicates == [audit.paths]
    assert audit.notes == ["left out 1 class of images that are all alike"]


def test_maps_of_one_row_have_a_place_and_a_box(tmp_path):
    files = []
    for number in range(40):
        image = np.random.default_rng(number).uniform(0.3, 0.6, (12, 60, 3))
        image[:, 24:36] = COLORS[2]
        image[:, 48:] = COLORS[2] * (0.9 if number % 4 == 0 else 0.6)
        files.append(tmp_path / f"{number:02}.png")
        Image.fromarray((255 * image).astype(np.uint8)).save(files[-1])
    network = nn.Sequential(nn.AvgPool2d(12), *color_classifier().network)
    preprocessing = Preprocessing((12, 60), (12, 60), (0.0,) * 3, (1.0,) * 3)
    classifier = cam.wrap(network, preprocessing=preprocessing)
    explain_folder(classifier, find_pictures(files), tmp_path / "out", RunOptions(save=frozenset({"cam"})))
    audit = audit_run(tmp_path / "out")
    assert audit.grid == (1, 5)
    assert (audit.findings[0].place, len(audit.findings[0].members)) == ("right", 10)
    assert audit.findings[0].box == pytest.approx((0.8, 0, 1, 1))


def test_a_map_that_is_not_finite_is_left_out(tmp_path):
    out = run_over(tmp_path, each=20)
    file = sorted(out.glob("*.npz"))[0]
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["cam"][2, 3] = np.nan
    np.savez(file, **arrays)
    assert len(audit_run(out).paths) == 119


def test_a_run_without_lines_is_refused(tmp_path):
    out = run_over(tmp_path, each=1)
    (out / "manifest.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match=r"manifest.jsonl' is missing or damaged"):
        audit_run(out)


def test_a_run_that_kept_no_map_of_a_predicted_class_is_refused(tmp_path):
    files, _ = spots(tmp_path, 1, 0)
    options = RunOptions(save=frozenset({"cam"}), targets=(OneClass(1),))
    explain_folder(color_classifier(), find_pictures(files[:1]), tmp_path / "out", options)
    with pytest.raises(UsageError, match=r"kept no map of a predicted class\. Run cam explain with --report"):
        audit_run(tmp_path / "out")


def test_missing_evidence_of_a_report_costs_its_image_only(tmp_path):
    out = run_over(tmp_path, each=3, report=True)
    next((out / "report" / "pictures").glob("000.png*")).unlink()
    audit = audit_run(out)
    assert (len(audit.paths), audit.notes[1].startswith("left out 1 image without a map")) == (17, True)


def test_the_map_of_a_class_that_the_frame_of_a_clip_does_not_show_is_its_own(tmp_path):
    """A clip's class is that of all frames, and the report shows the first class of one."""
    run = RunMaps.open(run_over(tmp_path, each=1, report=True))
    record = next(run.records())
    other = {**record, "predicted": {"class_idx": 1, "label": "color 1"}}
    shown, own = run.map_of(record, 0), run.map_of(other, 1)
    assert shown is not None
    assert own is not None
    assert run.evidence is not None
    expected = run.evidence.cam(run.evidence.details(record), 1)
    np.testing.assert_array_equal(own.cam, expected)
    assert np.abs(own.cam - shown.cam).max() > 0.5
