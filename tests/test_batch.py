"""What a run writes: its manifest, maps, heat, overlays and run.json, on one scale; and what it leaves alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from refusals import refused
from runs import (
    DIGITS,
    FIVE,
    animals,
    contents,
    explain_into,
    lines,
    oddly_labeled,
    write_odd_photos,
    write_photos,
)
from small import gap_linear

import cam
from cam.classifiers.classifier import Classifier
from cam.errors import DiskFullError, OutputError, UsageError
from cam.explanations.explanation import enlarge_for_legend
from cam.explanations.options import ExplainOptions, OneClass, TopClasses
from cam.images.find import Picture, find_pictures
from cam.images.io import read_image
from cam.runs.options import RunOptions
from cam.runs.run import _batches, explain_folder
from cam.tensors import hash_tensors

RECORD_KEYS = ["index", "path", "name", "status", "error", "bytes", "modified", "size"]
RECORD_KEYS += ["predicted", "truth", "correct", "targets"]
TARGET_KEYS = ["class_idx", "label", "logit", "probability", "bias", "map_logit", "evidence"]
TARGET_KEYS += ["exactness", "method", "completeness_error", "map_input", "peak", "boxes", "note", "files"]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return oddly_labeled()


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_odd_photos(tmp_path / "in")


def run(classifier: Classifier, folder: Path, out: Path, fit=None, **options) -> list[dict]:
    done = explain_into(out, classifier, folder, explain=ExplainOptions(fit=fit), **options)
    statuses = [line["status"] for line in lines(out)]
    assert (statuses.count("ok"), len(statuses)) == (done.explained, done.explained + done.failed)
    return lines(out)


def test_the_manifest_has_a_line_an_image_in_input_order(classifier, folder, tmp_path):
    out = tmp_path / "out"
    (folder / "bad.jpg").write_text("no picture")
    records = run(classifier, folder, out, targets=(TopClasses(2),), batch_size=2)
    assert [line["path"] for line in records] == [str(picture.path) for picture in find_pictures([folder])]
    assert [Path(line["path"]).name for line in records] == ["9.png", "10.png", "a.jpg", "a.png", "bad.jpg", "a.png"]
    for line in records:
        assert list(line) == RECORD_KEYS
        if line["path"].endswith("bad.jpg"):
            assert (line["status"], line["size"], line["targets"]) == ("failed", None, [])
            assert "bad.jpg" in line["error"]
            continue
        assert (line["status"], line["error"]) == ("ok", None)
        assert line["size"] == list(read_image(line["path"]).shape[:2])
        assert len(line["targets"]) == 2
        for target in line["targets"]:
            assert list(target) == TARGET_KEYS
            expected = cam.explain(classifier, line["path"], target["class_idx"])
            assert target["label"] == classifier.labels[target["class_idx"]]
            for name in ("logit", "probability", "bias"):
                assert target[name] == pytest.approx(getattr(expected, name), abs=1e-5)
            assert target["completeness_error"] < 1e-5
            assert tuple(target["peak"]) == expected.peak
            assert (out / target["files"]["overlay"]).is_file()


def test_no_two_results_share_a_file(classifier, folder, tmp_path):
    records = run(classifier, folder, tmp_path / "out", targets=(TopClasses(3),), save=frozenset({"overlay", "cam"}))
    files = [file for record in records for target in record["targets"] for file in target["files"].values()]
    assert len(files) == len(set(files)) == len(records) * 3 * 2
    on_disk = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert on_disk == {*files, "manifest.jsonl", "run.json"}  # and no labels led out of the folder


def test_the_saved_map_has_its_geometry(classifier, folder, tmp_path):
    out = tmp_path / "out"
    for record in run(classifier, folder, out, save=frozenset({"cam"}), fit="crop"):
        (target,) = record["targets"]
        assert list(target["files"]) == ["cam"]
        with np.load(out / target["files"]["cam"], allow_pickle=False) as saved:
            data = {name: saved[name] for name in saved.files}
        assert data["cam"].mean() + data["bias"] == pytest.approx(float(data["logit"]), abs=1e-5)
        assert data["logit"] == pytest.approx(target["logit"])
        assert data["probability"] == pytest.approx(target["probability"])
        assert int(data["class_idx"]) == target["class_idx"]
        assert str(data["label"]) == target["label"]
        assert data["photo"].tolist() == record["size"]
        rows, columns = np.nonzero(data["cam"] == data["cam"].max())
        in_photo = np.stack([data["rows"][rows], data["columns"][columns]], 1)
        x0, y0, x1, y1 = data["seen"]
        places = np.clip(np.floor(in_photo + 0.5), (y0, x0), (y1 - 1, x1 - 1))
        assert target["peak"] in places.tolist()


def test_heat_has_the_photographs_size_and_is_nan_outside_the_crop(classifier, folder, tmp_path):
    out = tmp_path / "out"
    for record in run(classifier, folder, out, save=frozenset({"heat", "cam"}), fit="crop"):
        files = record["targets"][0]["files"]
        heat = np.load(out / files["heat"], allow_pickle=False)
        assert heat.dtype == np.float32
        assert list(heat.shape) == record["size"]
        with np.load(out / files["cam"]) as saved:
            x0, y0, x1, y1 = saved["seen"]
        seen = np.zeros(heat.shape, bool)
        seen[y0:y1, x0:x1] = True
        np.testing.assert_array_equal(np.isfinite(heat), seen)
        assert seen.all() == (heat.shape[0] == heat.shape[1])


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_overlay_shows_the_photograph_at_its_own_size(classifier, folder, tmp_path, format_):
    out = tmp_path / "out"
    for record in run(classifier, folder, out, fit="whole", opacity=0, photo="color", contours=False, format=format_):
        photo = read_image(record["path"])
        drawn = read_image(out / record["targets"][0]["files"]["overlay"])
        assert record["targets"][0]["files"]["overlay"].endswith(f".{format_}")
        photo = enlarge_for_legend(photo)
        height, width = photo.shape[:2]
        assert drawn.shape[0] > height
        apart = np.abs(drawn[: height - 8, :width].astype(int) - photo[: height - 8])
        assert apart.max() == 0 if format_ == "png" else apart.mean() < 6


def test_run_json_describes_the_run(classifier, folder, tmp_path):
    explain_folder(
        classifier,
        find_pictures([folder]),
        tmp_path / "out",
        RunOptions(scale=2.5),
        {"model": "mine", "out": Path("x")},
    )
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["arguments"] == {"model": "mine", "out": "x"}
    assert about["versions"]["torch"] == torch.__version__.split("+")[0] or about["versions"]["torch"]
    assert about["head"]["kind"] == "gap-linear"
    assert about["device"] == "cpu"
    assert about["weights"]["tensors_sha256"] == hash_tensors(classifier.network.state_dict())
    assert (about["scale"], about["explained"], about["failed"]) == (2.5, 5, 0)


def bar_ends(monkeypatch) -> list[float]:
    """Collect the vmax that each legend was drawn with."""
    import cam.explanations.explanation as module

    drawn: list[float] = []
    original = module.make_legend
    monkeypatch.setattr(
        module, "make_legend", lambda *args, **kwargs: drawn.append(kwargs["vmax"]) or original(*args, **kwargs)
    )
    return drawn


def test_scales(classifier, folder, tmp_path, monkeypatch):
    own = [cam.explain(classifier, picture.path).vmax for picture in find_pictures([folder])]
    drawn = bar_ends(monkeypatch)
    run(classifier, folder, tmp_path / "run", scale="run", batch_size=2)
    assert drawn == pytest.approx([np.median(own)] * 5, rel=1e-4)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["scale"] == pytest.approx(drawn[0])
    drawn.clear()
    run(classifier, folder, tmp_path / "image", scale="image")
    assert sorted(drawn) == pytest.approx(sorted(own), rel=1e-4)  # workers draw in no order
    assert json.loads((tmp_path / "image" / "run.json").read_text())["scale"] is None
    drawn.clear()
    run(classifier, folder, tmp_path / "value", scale=0.125)
    assert drawn == [0.125] * 5


@pytest.mark.parametrize(("limit", "value", "count"), [("SCALE_IMAGES", 2, 2), ("SCALE_PIXELS", 30 * 90, 1)])
def test_the_color_scale_is_that_of_the_first_images(classifier, folder, tmp_path, monkeypatch, limit, value, count):
    for module in ("run", "explainer"):
        monkeypatch.setattr(f"cam.runs.{module}.{limit}", value)
    own = [cam.explain(classifier, picture.path).vmax for picture in find_pictures([folder])]
    drawn = bar_ends(monkeypatch)
    run(classifier, folder, tmp_path / "out", scale="run")
    assert drawn == pytest.approx([np.median(own[:count])] * 5, rel=1e-4)


def test_sixty_four_images_are_enough_for_the_color_scale(tmp_path):
    folder, classifier = write_photos(tmp_path / "in", 66), animals()
    explain_into(tmp_path / "out", classifier, folder, save=frozenset())
    first = [picture.path for picture in find_pictures([folder])][:64]
    own = [explanation.vmax for explanation in cam.explain_all(classifier, first)]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["scale"] == pytest.approx(np.median(own), rel=1e-5)


@pytest.mark.parametrize(("save", "side"), [("overlay", 64), ("heat", 32)])
def test_no_more_pixels_are_read_than_inputs_and_overlays_need(classifier, save, side):
    assert RunOptions(save=frozenset({save}), max_side=64).min_side(classifier.preprocessing) == side


def test_a_bad_image_does_not_change_the_results_of_others(classifier, folder, tmp_path):
    good = run(classifier, folder, tmp_path / "without")
    (folder / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (folder / "a0.png").touch()
    mixed = run(classifier, folder, tmp_path / "with", batch_size=3)
    assert [record["status"] for record in mixed].count("failed") == 2
    for alone, beside in zip(good, (record for record in mixed if record["status"] == "ok"), strict=True):
        assert beside["path"] == alone["path"]
        for name, value in alone["targets"][0].items():
            assert beside["targets"][0][name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def test_records_are_reported(classifier, folder, tmp_path):
    reported = []
    explain_into(tmp_path / "out", classifier, folder, report=reported.append)
    assert reported == lines(tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"opacity": 1.5}, "1.5"),
        ({"opacity": float("nan")}, "nan"),
        ({"format": "gif"}, "gif"),
        ({"batch_size": 0}, "0"),
        ({"batch_size": -1}, "-1"),
    ],
)
def test_wrong_options_are_errors_before_the_run(wrong, found):
    with pytest.raises(UsageError) as refusal:
        RunOptions(**wrong)
    assert found in str(refusal.value)


def test_an_unknown_class_is_an_error_of_the_run(classifier, folder, tmp_path):
    with pytest.raises(UsageError, match="The class index must be from 0 to 2, or a label, got 3"):
        run(classifier, folder, tmp_path / "out", targets=(OneClass(3),))


def test_evidence_that_a_model_does_not_have_is_an_error_before_the_run(folder, tmp_path):
    one_value = cam.wrap(gap_linear(1), input_size=32, activation="none")
    with pytest.raises(UsageError, match="--evidence margin compares classes"):
        explain_into(tmp_path / "out", one_value, folder, explain=ExplainOptions("margin"))
    assert not (tmp_path / "out").exists()


# The folder: no file of anyone else is touched, and what cannot be written is one error


def test_overwriting_replaces_files_and_removes_none(classifier, folder, tmp_path):
    out = tmp_path / "out"
    explain_into(out, classifier, folder, save=frozenset({"overlay", "cam"}), targets=(TopClasses(3),))
    (out / "notes.txt").write_text("notes")
    before = contents(out)
    explain_into(out, classifier, folder, overwrite=True, opacity=0.9)
    after = contents(out)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {line["targets"][0]["files"]["overlay"] for line in lines(out)} | {"manifest.jsonl", "run.json"}


def test_a_manifest_of_something_else_is_not_touched(classifier, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match=r"manifest.jsonl' was not written by this version: run.json has no settings"):
        explain_into(tmp_path / "out", classifier, folder)
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == "mine\n"


def test_a_folder_in_place_of_a_file_costs_that_image_only(classifier, folder, tmp_path):
    explain_into(tmp_path / "out", classifier, folder)
    (tmp_path / "other" / lines(tmp_path / "out")[2]["targets"][0]["files"]["overlay"]).mkdir(parents=True)
    explain_into(tmp_path / "other", classifier, folder)
    records = lines(tmp_path / "other")
    assert [record["status"] for record in records] == ["ok", "ok", "failed", "ok", "ok"]
    assert "cannot be written" in records[2]["error"]
    assert records[2]["targets"] == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_manifest_that_is_a_folder_is_one_error(classifier, folder, tmp_path, overwrite):
    (tmp_path / "out" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"manifest\.jsonl"):
        explain_into(tmp_path / "out", classifier, folder, overwrite=overwrite)


@pytest.mark.parametrize("function", ["os.sync", "cam.runs.manifest.as_line"])
def test_a_manifest_on_a_full_disk_is_one_error(classifier, folder, tmp_path, monkeypatch, function):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, fail)
    with pytest.raises(DiskFullError, match=r"manifest\.jsonl.*cannot be written.*No space"):
        explain_into(tmp_path / "out", classifier, folder)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_results_that_are_removed_during_a_run_end_it(classifier, folder, tmp_path, after, again):
    """Even if there is another manifest in place of the one that the run holds open."""
    out, count = tmp_path / "out", itertools.count(1)

    def remove(record):
        if next(count) == after:
            out.rename(tmp_path / "elsewhere")
            if again:
                out.mkdir(exist_ok=True)
                (out / "manifest.jsonl").write_text("{}\n")

    with pytest.raises(OutputError, match=r"manifest\.jsonl' was removed .*while the run went on"):
        explain_into(out, classifier, folder, report=remove, batch_size=1)
    if again:
        (out / "manifest.jsonl").unlink()
    assert explain_into(out, classifier, folder).explained == 5


def test_lines_that_others_add_during_a_run_end_it(classifier, folder, tmp_path):
    def add(record):
        if record["index"] == 4:
            with (tmp_path / "out" / "manifest.jsonl").open("a") as file:
                file.write("{}\n")

    with pytest.raises(OutputError, match=r"manifest\.jsonl' was removed or changed while the run went on"):
        explain_into(tmp_path / "out", classifier, folder, report=add)


def test_a_removed_results_folder_has_the_exit_status_of_a_failed_run(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("cam.cli.printing.RunTable.add", lambda table, record: out.rename(tmp_path / "elsewhere"))
    refused(run("explain", FIVE, *DIGITS, "-o", out), 1, "was removed or changed", "Run the same command again")


@pytest.mark.parametrize(
    ("images", "size", "workers", "sizes"),
    [
        (10, 4, 1, [4, 4, 2]),
        (21, 4, 2, [4, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1]),
        (5, 4, 2, [1, 1, 1, 1, 1]),
        (3, 32, 1, [3]),
        (0, 4, 2, []),
    ],
)
def test_the_last_images_are_shared_between_the_workers(images, size, workers, sizes):
    pictures = [(number, Picture(Path(f"{number}.png"), PurePosixPath(f"{number}.png"))) for number in range(images)]
    batches = list(_batches(pictures, size, workers))
    assert [len(batch) for batch in batches] == sizes
    assert [pair for batch in batches for pair in batch] == pictures
