"""cam explain --report and cam report, and what is told where they cannot be."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from reports import index_of
from runs import contents

SAMPLES = Path(__file__).parents[1] / "samples"


def test_the_command_writes_a_report_and_writes_it_again(run, tmp_path):
    folder = tmp_path / "in"
    for name in ("five.png", "sevens.png"):
        (folder / name[:4]).mkdir(parents=True)
        shutil.copy(SAMPLES / name, folder / name[:4])
    out = tmp_path / "out"
    result = run("explain", folder, "-m", "digits", "-o", out, "--report")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith("report.html")
    plain = (out / "report.html").read_bytes()
    (folder / "five").rename(folder / "5")
    (folder / "seve").rename(folder / "8")
    out = tmp_path / "again"
    run("explain", folder, "-m", "digits", "-o", out, "--report", "--truth", "folder")
    index = index_of(out / "report.html")
    assert [row["truth"] for row in index["pictures"]] == [5, 8]
    assert index["summary"]["pairs"][0]["predicted"] == 7
    with_truth = (out / "report.html").read_bytes()
    assert run("report", out).exit_code == 0
    assert (out / "report.html").read_bytes() != with_truth
    assert run("report", out, "--truth", "folder").output.strip() == str(out / "report.html")
    assert (out / "report.html").read_bytes() == with_truth != plain


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "path,label\nnobody.png,5\n",
            "names no picture of this run. Write paths as in the manifest, or ends of them, such as",
        ),
        ("path,label\nfive.png,fifty\n", "Line 2 of .* stands for no class"),
        ("path,label\nfive.png,5\nfive.png,6\n", "Line 3 of .* names the picture 'five.png' again"),
        ("", "holds no rows"),
        (None, "cannot be opened"),
    ],
)
def test_truth_that_cannot_be_is_told(run, tmp_path, table, said):
    out, truth = tmp_path / "out", tmp_path / "truth.csv"
    assert run("explain", SAMPLES / "five.png", "-m", "digits", "-o", out, "--report").exit_code == 0
    before = contents(out)
    if table is not None:
        truth.write_text(table)
    result = run("report", out, "--truth", truth)
    assert result.exit_code == 2
    assert re.search(said, result.output), result.output
    assert contents(out) == before


def test_wrong_usage_is_told(run, tmp_path):
    result = run("report", tmp_path / "nowhere")
    assert (result.exit_code, "holds no finished run" in result.output) == (2, True)
    assert not (tmp_path / "nowhere").exists()
    assert run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out").exit_code == 0
    (tmp_path / "bad.png").write_bytes(b"torn")
    assert run("explain", tmp_path / "bad.png", "-m", "digits", "-o", tmp_path / "bad", "--report").exit_code == 1
    assert not (tmp_path / "bad" / "report.html").exists()
    assert "explained no picture" in run("report", tmp_path / "bad").output
    result = run("report", tmp_path / "out")
    assert "kept no evidence for a report. Give cam explain again, with --report and --overwrite" in result.output
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out", "--truth", "folder")
    assert (result.exit_code, "Give --report too" in result.output) == (2, True)
    result = run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out", "--report")
    assert (result.exit_code, "another --report" in result.output) == (2, True)


def test_truth_of_no_picture_is_told_before_the_work(run, tmp_path):
    (tmp_path / "truth.csv").write_text("nobody.png,5\n")
    options = "-m", "digits", "-o", tmp_path / "out", "--report", "--truth", tmp_path / "truth.csv"
    result = run("explain", SAMPLES / "five.png", *options)
    assert (result.exit_code, "names no picture of this run" in result.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_page_of_the_users_own_is_left_alone(run, tmp_path):
    (tmp_path / "report" / "thumbnails").mkdir(parents=True)
    own = tmp_path / "report.html", tmp_path / "report" / "thumbnails" / "0.js"
    for path in own:
        path.write_text("mine")
    command = "explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path
    assert run(*command).exit_code == 0
    assert run(*command, "--overwrite").exit_code == 0
    assert [path.read_text() for path in own] == ["mine", "mine"]


def test_a_run_that_begins_anew_leaves_no_report_of_another(run, tmp_path):
    command = "explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out"
    assert run(*command, "--report").exit_code == 0
    (tmp_path / "out" / "report" / "thumbnails").mkdir()
    assert run(*command, "--overwrite").exit_code == 0
    left = {path.name for path in (tmp_path / "out").rglob("*")} - {"report", "pictures", "model.json"}
    assert "report.html" not in left
    assert "thumbnails" not in left
    assert not any((tmp_path / "out" / "report" / "pictures").iterdir())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_evidence_that_is_damaged_is_told(run, tmp_path, share):
    out = tmp_path / "out"
    assert run("explain", SAMPLES / "five.png", "-m", "digits", "-o", out, "--report").exit_code == 0
    (file,) = (out / "report" / "pictures").iterdir()
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    result = run("report", out)
    assert result.exit_code == 2, result.output
    assert re.search("five.png' has no evidence in .* Give its cam explain again, with --report", result.output)


def test_the_end_of_a_path_names_a_picture_if_it_is_of_one(run, tmp_path):
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
    assert re.search("Line 1 of .* means '.*a/five.png' or '.*b/five.png'. Write more of the path than", result.output)
    truth.write_text("a/five.png,5\nsevens.png,7\nb/sevens.png,7\n")
    assert re.search("Line 3 of .* names the picture 'b/sevens.png' again", run("report", out, "--truth", truth).output)


def test_parts_of_a_run_are_not_told_the_truth(run, tmp_path):
    options = "-m", "digits", "-o", tmp_path / "out", "--report", "--truth", "folder", "--shard", "1/2"
    result = run("explain", SAMPLES / "five.png", *options)
    assert (result.exit_code, "Give it to cam report, after cam merge" in result.output) == (2, True)


def test_the_option_that_is_another_is_named(run, tmp_path):
    command = "explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path / "out"
    assert run(*command).exit_code == 0
    assert "another --report (false)" in run(*command, "--report").output


def test_thumbnails_of_pictures_that_are_gone_go_too(run, tmp_path):
    assert run("explain", SAMPLES / "five.png", "-m", "digits", "-o", tmp_path, "--report").exit_code == 0
    stale = tmp_path / "report" / "thumbnails" / "9.js"
    stale.parent.mkdir()
    stale.write_text("of a longer run")
    assert run("report", tmp_path).exit_code == 0
    assert not stale.exists()
