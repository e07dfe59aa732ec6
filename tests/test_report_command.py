"""cam explain --report and cam report: their pages, errors, and reports of resumed and merged runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from reports import index_of, run_on_photos
from runs import SAMPLES, contents

import cam
from cam.errors import UsageError
from cam.images.find import find_pictures
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.manifest import files_of, read_records
from cam.runs.merge import merge_shards
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

FIVE = "explain", SAMPLES / "five.png", "-m", "digits", "-o"
COUNT = 14


def test_both_commands_write_the_report(run, tmp_path):
    photos, out = tmp_path / "in", tmp_path / "out"
    for name, folder in (("five.png", "5"), ("sevens.png", "8")):
        (photos / folder).mkdir(parents=True)
        shutil.copy(SAMPLES / name, photos / folder)
    result = run("explain", photos, "-m", "digits", "-o", out, "--report", "--truth", "folder")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == str(out / "report.html")
    index = index_of(out / "report.html")
    assert [row["truth"] for row in index["pictures"]] == [5, 8]
    assert index["summary"]["confusions"][0]["predicted"] == 7
    with_truth = (out / "report.html").read_bytes()
    stale = out / "report" / "previews" / "9.js"  # of a run with more pictures
    stale.parent.mkdir()
    stale.write_text("")
    assert run("report", out).exit_code == 0
    assert not stale.exists()
    assert (out / "report.html").read_bytes() == with_truth  # that of the run
    (tmp_path / "labels.csv").write_text("five.png,fifty\nsevens.png,7\n")
    result = run("report", out, "--truth", tmp_path / "labels.csv")
    assert result.stdout.strip() == str(out / "report.html")
    assert result.stderr == "1 image has no truth, as these labels mean no class or several: 'fifty' 1\n"
    assert [row["truth"] for row in index_of(out / "report.html")["pictures"]] == [None, 7]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label\nnobody.png,5\n", "names none of the images. Write paths or ends of them"),
        ("path,label\nfive.png,fifty\n", "Line 2 of .* matches no class"),
        ("path,label\nfive.png,5\nfive.png,6\n", "Line 3 of .* names the image 'five.png' again"),
        ("", "holds no rows"),
        (None, "cannot be opened"),
    ],
)
def test_a_bad_truth_file_is_an_error_and_changes_nothing(run, tmp_path, table, message):
    out, truth = tmp_path / "out", tmp_path / "truth.csv"
    assert run(*FIVE, out, "--report").exit_code == 0
    before = contents(out)
    if table is not None:
        truth.write_text(table)
    for command in (("report", out), (*FIVE, tmp_path / "new", "--report")):
        result = run(*command, "--truth", truth)
        assert result.exit_code == 2
        assert re.search(message, result.output), result.output
    assert contents(out) == before
    assert not (tmp_path / "new").exists()


def test_a_picture_is_named_by_the_end_of_its_path_if_only_one_has_it(run, tmp_path):
    for folder, name in (("a", "five.png"), ("b", "five.png"), ("b", "sevens.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(SAMPLES / name, tmp_path / folder)
    out, truth = tmp_path / "out", tmp_path / "truth.csv"
    assert run("explain", tmp_path / "a", tmp_path / "b", "-m", "digits", "-o", out, "--report").exit_code == 0
    truth.write_text("a/five.png,5\nb/five.png,6\nsevens.png,7\n")
    assert run("report", out, "--truth", truth).exit_code == 0
    assert [row["truth"] for row in index_of(out / "report.html")["pictures"]] == [5, 6, 7]
    truth.write_text("five.png,5\n")
    result = run("report", out, "--truth", truth)
    assert result.exit_code == 2
    assert re.search(
        "Line 1 of .* matches '.*a/five.png' and '.*b/five.png'. Write more of the path than", result.output
    )
    truth.write_text("a/five.png,5\nsevens.png,7\nb/sevens.png,7\n")
    assert re.search("Line 3 of .* names the image 'b/sevens.png' again", run("report", out, "--truth", truth).output)


def test_wrong_usage_is_an_error(run, tmp_path):
    result = run("report", tmp_path / "nowhere")
    assert (result.exit_code, "contains no finished run" in result.output) == (2, True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "bad.png").write_bytes(b"torn")
    assert run("explain", tmp_path / "bad.png", "-m", "digits", "-o", tmp_path / "bad", "--report").exit_code == 1
    assert not (tmp_path / "bad" / "report.html").exists()
    assert "explained no image" in run("report", tmp_path / "bad").output
    out = tmp_path / "out"
    assert run(*FIVE, out).exit_code == 0
    result = run("report", out)
    assert "has no evidence for a report. Run cam explain again, with --report and --overwrite" in result.output
    assert run(*FIVE, out, "--report").exit_code == 2  # other settings


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_damaged_evidence_is_an_error(run, tmp_path, share):
    assert run(*FIVE, tmp_path, "--report").exit_code == 0
    (file,) = (tmp_path / "report" / "pictures").iterdir()
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    result = run("report", tmp_path)
    assert result.exit_code == 2, result.output
    assert re.search("has no evidence of any image. Run the same cam explain again, with --report", result.output)


def test_one_damaged_file_costs_its_image_only(run, tmp_path):
    out = tmp_path / "out"
    assert run("explain", FIVE[1], FIVE[1].with_name("sevens.png"), *FIVE[2:], out, "--report").exit_code == 0
    damaged = next((out / "report" / "pictures").glob("five*"))
    damaged.write_text(damaged.read_text()[:2000])
    assert run("report", out).exit_code == 0
    page = (out / "report.html").read_text()
    assert "five.png' has no evidence in" in page
    (out / "manifest.jsonl").write_bytes(b"")
    result = run("report", out)
    assert (result.exit_code, "has no evidence of any image" in result.output) == (2, True)


@pytest.fixture(scope="module")
def run_and_classifier(tmp_path_factory) -> tuple[Path, cam.Classifier]:
    folder = tmp_path_factory.mktemp("run")
    return folder, run_on_photos(folder, COUNT)


@pytest.fixture
def explain(run_and_classifier):
    """Explain the photographs with evidence into a folder."""
    folder, classifier = run_and_classifier

    def explain(out: Path, on_record=lambda record: None, **options) -> None:
        run_options = RunOptions(**{"outputs": (EvidenceWriter(),), "batch_size": 4, **options})
        explain_folder(classifier, find_pictures([folder / "photos"]), out, run_options, {}, on_record)

    return explain


def test_a_resumed_run_has_the_same_report(explain, tmp_path):
    explain(tmp_path / "whole")
    write_report(tmp_path / "whole")
    records = []

    def interrupt(record):
        records.append(record)
        if len(records) == 7:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        explain(tmp_path / "cut", interrupt)
    with pytest.raises(UsageError, match="contains no finished run"):
        write_report(tmp_path / "cut")
    explain(tmp_path / "cut")
    write_report(tmp_path / "cut")
    assert_same_pictures(tmp_path / "cut", tmp_path / "whole")


def assert_same_pictures(out: Path, other: Path) -> None:
    rows = [index_of(folder / "report.html")["pictures"] for folder in (out, other)]
    assert [row["name"] for row in rows[0]] == [row["name"] for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        assert np.allclose(one["top"], two["top"], atol=1e-4)


def test_missing_evidence_is_written_again(explain, tmp_path):
    explain(tmp_path)
    names = {name for record in read_records(tmp_path / "manifest.jsonl") for name in files_of(record)}
    assert sum(name.startswith("report/pictures/") for name in names) == COUNT
    (missing,) = (tmp_path / "report" / "pictures").glob("p9.png.js")
    missing.unlink()
    notes = []
    write_report(tmp_path, notify=notes.append)
    assert notes == ["left out 1 image without evidence; run the same cam explain again"]
    failed = next(row for row in index_of(tmp_path / "report.html")["failed"] if row["path"].endswith("p9.png"))
    assert re.search(r"p9\.png' has no evidence in .*--report", failed["error"])
    explain(tmp_path)
    assert missing.exists()
    write_report(tmp_path)


@pytest.mark.parametrize("folders", [("all", "all"), ("1", "2")], ids=["one folder", "two folders"])
def test_merged_shards_have_the_report_of_one_run(explain, tmp_path, folders):
    outs = [tmp_path / folder for folder in folders]
    for index, out in enumerate(outs, 1):
        explain(out, shard=(index, 2), scale=3.0)
    with pytest.raises(UsageError, match="use cam merge first"):
        write_report(outs[0])
    merge_shards(outs)
    write_report(outs[0])
    explain(tmp_path / "whole", scale=3.0)
    write_report(tmp_path / "whole")
    assert_same_pictures(outs[0], tmp_path / "whole")
