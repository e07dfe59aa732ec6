"""cam explain over clips: one video, one table and one line of the manifest for each."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import SIZE, UNEVEN, digit, frames_of, moving_digit, seconds_of, sound_of, write_clip
from packed import make_zip
from PIL import Image
from runs import DIGITS, FIVE, SAMPLES, CutError, contents, explain_into, lines
from small import PLAIN, photo, seeing_white, three_classes
from torch import nn

import cam
from cam.audit.audit import audit_run
from cam.audit.compare import compare_runs
from cam.classifiers.preprocessing import Preprocessing
from cam.images.find import find_pictures
from cam.images.io import read_image
from cam.images.video import ClipOptions
from cam.report.evidence import EvidenceWriter
from cam.report.write import write_report
from cam.runs.merge import merge_shards
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

CORNERS = [(20 + 10 * n, 8 + 25 * n) for n in range(8)]
CELL = 16  # pixels of these frames


def table(out: Path, name: str = "clip.mp4") -> list[dict[str, str]]:
    with (out / f"{name}.frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digit that moves, at uneven times, with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, moving_digit(CORNERS), UNEVEN, sound="aac")


@pytest.fixture(scope="module")
def explained(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the clip."""
    out = tmp_path_factory.mktemp("clip") / "out"
    explain_into(out, cam.load_classifier("digits"), clip)
    return out


def test_the_heat_follows_the_digit_within_a_cell(explained):
    rows = table(explained)
    assert [(row["class_idx"], row["label"]) for row in rows] == [("5", "5")] * len(CORNERS)
    assert [float(row["time"]) for row in rows] == pytest.approx(UNEVEN)
    assert min(float(row["probability"]) for row in rows) > 0.9
    peaks = np.array([(int(row["peak_y"]), int(row["peak_x"])) for row in rows]) - CORNERS
    assert np.abs(peaks - np.median(peaks, 0)).max() <= CELL
    height, width = digit().shape[:2]
    assert (peaks >= 0).all()
    assert (peaks < (height, width)).all()
    for frame, peak in zip(frames_of(explained / "clip.mp4.5-5.mp4"), peaks + CORNERS, strict=True):
        red, _, blue = frame.to_ndarray(format="rgb24")[tuple(peak)].astype(int)
        assert red - blue > 80  # warm


def test_the_video_has_the_size_the_times_and_the_sound_of_the_clip(clip, explained):
    drawn = frames_of(explained / "clip.mp4.5-5.mp4")
    assert drawn[0].width == SIZE[1]
    assert drawn[0].height > SIZE[0] + 150  # the legend and the curve
    assert seconds_of(explained / "clip.mp4.5-5.mp4") == pytest.approx(seconds_of(clip), abs=1e-6)
    assert sound_of(explained / "clip.mp4.5-5.mp4") == sound_of(clip)


def test_each_frame_is_drawn_as_cam_explain_draws_it_as_an_image(clip, explained):
    """On one color scale: the median of the peaks."""
    classifier, (line,) = cam.load_classifier("digits"), lines(explained)
    images = [frame.to_ndarray(format="rgb24") for frame in frames_of(clip)]
    explanations = [cam.explain(classifier, image) for image in images]
    vmax = float(np.median([explanation.vmax for explanation in explanations]))
    assert line["clip"]["scale"] == pytest.approx(vmax, rel=1e-4)
    for frame, explanation in zip(frames_of(explained / "clip.mp4.5-5.mp4"), explanations, strict=True):
        overlay = explanation.overlay(legend=True, vmax=vmax, note_rows=2).astype(int)
        drawn = frame.to_ndarray(format="rgb24")
        assert np.abs(drawn[: overlay.shape[0]] - overlay).mean() < 3


def test_the_line_of_the_manifest_is_that_of_the_most_probable_frame(clip, explained):
    (line,), rows = lines(explained), table(explained)
    best = max(range(len(rows)), key=lambda number: float(rows[number]["probability"]))
    (target,) = line["targets"]
    assert (line["status"], line["size"], line["predicted"]["label"]) == ("ok", list(SIZE), "5")
    assert target["logit"] == pytest.approx(float(rows[best]["logit"]), abs=1e-4)
    assert target["peak"] == [int(rows[best]["peak_y"]), int(rows[best]["peak_x"])]
    assert target["mean_logit"] == pytest.approx(np.mean([float(row["logit"]) for row in rows]), abs=1e-4)
    shares = [float(row["probability"]) for row in rows]
    assert target["mean_probability"] == pytest.approx(np.mean(shares), abs=1e-5)
    facts = {"frames": 8, "seconds": 0.54, "time": UNEVEN[best], "sound": "copied", "follows": True}
    assert {name: line["clip"][name] for name in facts} == pytest.approx(facts)
    assert line["files"] == {"frames": "clip.mp4.frames.csv", "logits": "clip.mp4.logits.png"}
    assert read_image(explained / line["files"]["logits"]).shape == (420, 900, 3)
    assert sorted(contents(explained)) == sorted(
        ["clip.mp4.5-5.mp4", "clip.mp4.frames.csv", "clip.mp4.logits.png", "manifest.jsonl", "run.json"]
    )


def flickering() -> list[np.ndarray]:
    """Two white frames, and a black one, again and again."""
    return [np.full((64, 288, 3), 255 * (number % 3 > 0), np.uint8) for number in range(9)]


def black_or_white() -> cam.Classifier:
    classifier = seeing_white()
    with torch.no_grad():
        classifier.network[4].bias = nn.Parameter(torch.tensor([2.0, 1.0]))
    return cam.wrap(classifier.network, preprocessing=classifier.preprocessing, labels=["black", "white"])


def test_the_class_of_a_clip_has_the_highest_mean_probability_and_top1_is_that_of_each_frame(tmp_path):
    clip, classifier = write_clip(tmp_path / "clip.mp4", flickering()), black_or_white()
    explain_into(tmp_path / "mean", classifier, clip)
    assert {row["label"] for row in table(tmp_path / "mean")} == {"white"}
    explain_into(tmp_path / "each", classifier, clip, follow=False)
    assert [row["label"] for row in table(tmp_path / "each")] == ["black", "white", "white"] * 3
    assert lines(tmp_path / "each")[0]["targets"][0]["files"]["overlay"] == "clip.mp4.top1.mp4"
    assert lines(tmp_path / "each")[0]["predicted"]["label"] == "white"


def test_the_network_runs_again_where_the_class_is_not_a_likely_one(clip, explained, tmp_path, monkeypatch):
    """Some frames show another digit."""
    monkeypatch.setattr("cam.runs.clips._LIKELY", 1)
    other = read_image(SAMPLES / "sevens.png")[:288, :320]
    mixed = write_clip(tmp_path / "clip.mp4", [*moving_digit(CORNERS), other, other])
    explain_into(tmp_path / "few", cam.load_classifier("digits"), mixed)
    monkeypatch.undo()
    explain_into(tmp_path / "all", cam.load_classifier("digits"), mixed)
    few, every = table(tmp_path / "few"), table(tmp_path / "all")
    assert {row["label"] for row in few} == {"5"}
    assert len(few) == 10
    for ours, theirs in zip(few, every, strict=True):
        assert float(ours["logit"]) == pytest.approx(float(theirs["logit"]), abs=1e-4)
        assert (ours["peak_y"], ours["peak_x"]) == (theirs["peak_y"], theirs["peak_x"])


def test_a_class_that_is_first_in_no_frame_is_drawn_on_the_scale_of_those_that_are(tmp_path, monkeypatch):
    """Red or blue is first in each frame, their mixture is always second, and has the highest mean."""
    monkeypatch.setattr("cam.runs.clips._LIKELY", 1)
    color, linear = nn.Conv2d(3, 3, 4, 4, bias=False), nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        color.weight.copy_(torch.eye(3)[..., None, None].expand(3, 3, 4, 4) / 16)
        linear.weight.copy_(torch.tensor([[10.0, 0, 0], [9.8, 0, 9.8], [0, 0, 10.0]]))
    network = nn.Sequential(color, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    classifier = cam.wrap(
        network, preprocessing=Preprocessing(32, (32, 32), **PLAIN), labels=["red", "mixture", "blue"]
    )
    frames = [np.full((*SIZE, 3), rgb, np.uint8) for rgb in [(255, 0, 0), (0, 0, 255)] * 3]
    explain_into(tmp_path / "out", classifier, write_clip(tmp_path / "clip.mp4", frames))
    (line,) = lines(tmp_path / "out")
    assert line["predicted"]["label"] == "mixture"
    assert line["clip"]["scale"] == pytest.approx(10, rel=0.03)


def test_several_targets_are_several_videos_with_one_table(run, clip, tmp_path):
    done = run("explain", clip, *DIGITS, "--target", "top2", "--target", "3", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (line,) = lines(tmp_path / "out")
    videos = [target["files"]["overlay"] for target in line["targets"]]
    assert videos == ["clip.mp4.top1.mp4", "clip.mp4.top2.mp4", "clip.mp4.3-3.mp4"]
    assert [target["label"] for target in line["targets"]][::2] == ["5", "3"]
    for video in videos:
        assert seconds_of(tmp_path / "out" / video) == pytest.approx(seconds_of(clip), abs=1e-6)
    rows = table(tmp_path / "out")
    assert [row["label"] for row in rows[:8]] == ["5"] * 8
    assert "5" not in [row["label"] for row in rows[8:16]]
    assert [row["label"] for row in rows[16:]] == ["3"] * 8


def test_ranks_leave_out_the_class_of_against(run, clip, tmp_path):
    contrast = "--evidence", "contrast", "--against", "5", "--target", "top2"
    assert run("explain", clip, *DIGITS, *contrast, "-o", tmp_path / "out").exit_code == 0
    assert run("explain", clip, *DIGITS, "--target", "top3", "-o", tmp_path / "all").exit_code == 0
    (line,), labels = lines(tmp_path / "out"), [row["label"] for row in table(tmp_path / "out")]
    assert "5" not in labels
    assert labels == [row["label"] for row in table(tmp_path / "all")][8:]  # 5 is the first in all frames
    assert [target["against"]["label"] for target in line["targets"]] == ["5", "5"]


def test_a_turned_clip_is_explained_upright_and_its_video_says_how_it_is_turned(tmp_path):
    stored = [np.rot90(frame, -1) for frame in moving_digit(CORNERS[:4])]
    clip = write_clip(tmp_path / "clip.mp4", stored, rotation=90)
    explain_into(tmp_path / "out", cam.load_classifier("digits"), clip)
    (line,), rows = lines(tmp_path / "out"), table(tmp_path / "out")
    assert (line["size"], line["predicted"]["label"]) == (list(SIZE), "5")
    peaks = np.array([(int(row["peak_y"]), int(row["peak_x"])) for row in rows]) - CORNERS[:4]
    assert np.abs(peaks - np.median(peaks, 0)).max() <= CELL
    (frame, *_) = frames_of(tmp_path / "out" / "clip.mp4.5-5.mp4")
    assert frame.rotation == 90
    upright = np.rot90(frame.to_ndarray(format="rgb24"))
    assert upright.shape[1] == SIZE[1]
    assert upright[-10:].min() > 200  # paper, below


def test_a_part_of_the_frames(run, clip, tmp_path):
    options = "--every", "2", "--start", "0.1", "--end", "0.4"
    assert run("explain", clip, *DIGITS, *options, "-o", tmp_path).exit_code == 0
    assert [float(row["time"]) for row in table(tmp_path)] == pytest.approx([0.1, 0.24, 0.36])
    assert seconds_of(tmp_path / "clip.mp4.5-5.mp4")[:3] == pytest.approx([0, 0.14, 0.26], abs=1e-4)
    (line,) = lines(tmp_path)
    assert line["clip"]["frames"] == 3
    assert 0.1 <= line["clip"]["time"] < 0.4


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animated_image_becomes_an_animated_webp(run, tmp_path, kind):
    path, times = tmp_path / f"a.{kind}", [80, 200, 40, 80]
    first, *others = map(Image.fromarray, moving_digit(CORNERS[:4]))
    first.save(path, save_all=True, append_images=others, duration=times)
    assert run("explain", path, *DIGITS, "--frames", "-o", tmp_path / "out").exit_code == 0
    with Image.open(tmp_path / "out" / f"a.{kind}.5-5.webp") as drawn:
        assert drawn.n_frames == 4
        for number, time in enumerate(times[:3]):
            drawn.seek(number)
            drawn.load()
            assert drawn.info["duration"] == time
    assert run("explain", path, *DIGITS, "-o", tmp_path / "first").exit_code == 0
    assert lines(tmp_path / "first")[0]["targets"][0]["files"]["overlay"] == f"a.{kind}.5-5.jpg"


def test_a_clip_that_is_done_is_not_explained_again(run, clip, tmp_path):
    path, out = Path(shutil.copy(clip, tmp_path)), tmp_path / "out"
    command = "explain", path, shutil.copy(FIVE, tmp_path), *DIGITS, "-o", out

    def videos() -> dict[str, int]:
        return {name.name: name.stat().st_mtime_ns for name in out.glob("*.mp4")}

    done = run(*command)
    assert re.search(rf"{re.escape(path.name)} at [0-9.]+ s ", done.stdout)  # of the frame that stands for it
    first = videos()
    again = run(*command)
    assert "2 explained, 0 failed (2 explained by an earlier run)" in again.stdout
    assert videos() == first
    (out / "clip.mp4.frames.csv").unlink()
    assert "(1 explained by an earlier run)" in run(*command).stdout
    second = videos()
    assert second != first
    path.write_bytes(write_clip(tmp_path / "other.mp4", moving_digit(CORNERS[:3])).read_bytes())
    assert "(1 explained by an earlier run)" in run(*command).stdout
    assert len(table(out)) == 3
    assert run(*command, "--target", "top1").exit_code == 0  # the image is done, the clip is another
    assert "clip.mp4.top1.mp4" in videos()
    assert run(*command, "--every", "2").exit_code == 2


def test_bad_clips_cost_their_line(run, clip, tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    shutil.copy(clip, place / "good.mp4")
    shutil.copy(FIVE, place / "a.png")
    (place / "empty.mp4").touch()
    (place / "text.mp4").write_text("text\n" * 100)
    (place / "cut.mp4").write_bytes(clip.read_bytes()[:2000])
    done = run("explain", place, *DIGITS, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 3
    summary = json.loads(done.stdout)
    assert (summary["explained"], summary["failed"]) == (2, 3)
    assert {Path(path).name for path in summary["errors"]} == {"empty.mp4", "text.mp4", "cut.mp4"}
    assert [line["name"] for line in lines(tmp_path / "out")] == [
        "a.png", "cut.mp4", "empty.mp4", "good.mp4", "text.mp4"
    ]  # fmt: skip
    assert not (tmp_path / "out" / ".unfinished").exists()
    assert run("explain", place, *DIGITS, "-o", tmp_path / "stop", "--on-error", "stop").exit_code == 1


@pytest.mark.parametrize("at", ["Explanation.planes", "Plot.planes_at"])
def test_an_interruption_leaves_no_part_of_a_clip(clip, explained, tmp_path, monkeypatch, at):
    module, calls = {"Plot.planes_at": "cam.drawing.curves"}.get(at, "cam.explanations.explanation"), []

    def cut(*args, **kwargs):
        calls.append(args)
        if len(calls) > 3:
            raise CutError
        return original(*args, **kwargs)

    target, name = at.split(".")
    original = getattr(__import__(module, fromlist=[target]), target).__dict__[name]
    monkeypatch.setattr(f"{module}.{at}", cut)
    with pytest.raises(CutError):
        explain_into(tmp_path / "out", cam.load_classifier("digits"), clip, batch_size=2)
    assert sorted(contents(tmp_path / "out")) == ["manifest.jsonl", "run.json"]
    assert lines(tmp_path / "out") == []
    monkeypatch.undo()
    explain_into(tmp_path / "out", cam.load_classifier("digits"), clip, batch_size=2)
    assert contents(tmp_path / "out").keys() == contents(explained).keys()


def test_a_clip_that_is_added_leaves_images_alone_and_images_get_a_scale_after_clips(clip, tmp_path):
    classifier, out = cam.load_classifier("digits"), tmp_path / "out"
    path, five = shutil.copy(clip, tmp_path), shutil.copy(FIVE, tmp_path)
    assert explain_into(out, classifier, path).info["scale"] == 0  # of images: there was none
    run = explain_into(out, classifier, path, five)
    assert (run.explained, run.earlier) == (2, 1)
    assert run.info["scale"] == pytest.approx(cam.explain(classifier, FIVE).vmax, rel=1e-4)
    again = explain_into(out, classifier, path, five)
    assert (again.earlier, again.info["scale"]) == (2, run.info["scale"])


def test_a_clip_in_an_archive_and_odd_sides(run, tmp_path):
    frames = [photo(47, 61, seed=n) for n in range(3)]
    clip = write_clip(tmp_path / "odd.mp4", frames)  # encoders need even sides: 48 x 62
    make_zip(tmp_path / "a.zip", ("clips/odd.mp4", clip.read_bytes()))
    done = run("explain", tmp_path / "a.zip", *DIGITS, "--max-side", "61", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (line,) = lines(tmp_path / "out")
    assert line["path"] == f"{tmp_path}/a.zip/clips/odd.mp4"
    video = tmp_path / "out" / line["targets"][0]["files"]["overlay"]
    assert seconds_of(video) == pytest.approx(seconds_of(clip), abs=1e-6)
    assert all(side % 2 == 0 for side in (frames_of(video)[0].width, frames_of(video)[0].height))


@pytest.mark.parametrize(("value", "gray", "pale"), [(0, 0.12, 0.66), (255, 0.88, 0.96)])
def test_luma_of_the_photograph_legend_and_curve(tmp_path, value, gray, pale):
    """Without heat: 16 + 219 * gray, and colors only in the bar of the legend and in the curve."""
    frames = [np.full((64, 320, 3), value, np.uint8)] * 2
    explain_into(tmp_path, seeing_white(), write_clip(tmp_path / "clip.mp4", frames), opacity=0.0, contours=False)
    (line,) = lines(tmp_path)
    drawn = frames_of(tmp_path / line["targets"][0]["files"]["overlay"])
    curve = drawn[0].height - 8 * 13  # letters of 13 pixels
    for frame in drawn:
        assert (frame.color_range, frame.colorspace) == (1, 6)  # limited, BT.601
        pixels = frame.to_ndarray()
        luma, chroma = pixels[: frame.height], pixels[frame.height :].reshape(2, -1, frame.width // 2)
        assert np.abs(luma[28:36, 156:164].astype(int) - (16 + 219 * gray)).max() <= 2
        assert np.abs(luma[28:36, :8].astype(int) - (16 + 219 * pale)).max() <= 2
        assert np.abs(chroma[:, :32].astype(int) - 128).max() <= 2
        paper = 16 + 219 * 250 / 255
        assert np.abs(luma[[66, curve - 2, curve + 1, frame.height - 2]].astype(int) - paper).max() <= 3
        ink = luma[curve:].min(0) < 60
        assert 2 <= ink.sum() < 40  # the line at the time, and letters


def test_values_are_followed_by_their_mean_and_numbers_are_kept_without_a_video(clip, tmp_path):
    network = three_classes()
    classifier = cam.wrap(network, input_size=32, labels=["a", "b", "c"], activation="none")
    explain_into(tmp_path, classifier, clip, save=frozenset({"cam"}))
    (line,), rows = lines(tmp_path), table(tmp_path)
    assert line["targets"][0]["mean_probability"] is None
    assert {row["probability"] for row in rows} == {""}
    assert list(tmp_path.glob("*.mp4")) == []
    with np.load(tmp_path / line["targets"][0]["files"]["cam"]) as stored:
        total = stored["cam"].mean() + stored["bias"]
        assert total == pytest.approx(float(stored["map_logit"]), abs=1e-4)
        assert float(stored["logit"]) == max(float(row["logit"]) for row in rows) == line["targets"][0]["logit"]


def test_a_contrast_and_a_head_that_is_no_average(clip, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    classifier = cam.wrap(network, input_size=32, labels=["a", "b", "c"])
    explain_into(tmp_path / "one", classifier, clip)
    name = table(tmp_path / "one")[0]["label"]
    assert lines(tmp_path / "one")[0]["targets"][0]["exactness"] == "complete"
    other = next(label for label in "abc" if label != name)
    options = cam.explanations.ExplainOptions("contrast", against="abc".index(other))
    explain_into(tmp_path / "two", classifier, clip, explain=options)
    target = lines(tmp_path / "two")[0]["targets"][0]
    assert (target["label"], target["against"]["label"]) == (name, other)


def test_a_clip_stands_in_reports_tables_audits_and_comparisons_as_one_frame(clip, tmp_path):
    place = tmp_path / "in"
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        shutil.copy(clip, place / name / "clip.mp4")
        shutil.copy(FIVE, place / name)
    classifier, pictures = cam.load_classifier("digits"), find_pictures([place], videos=True)
    options = {"outputs": (EvidenceWriter(),), "csv": tmp_path / "out.csv", "parquet": tmp_path / "out.parquet"}
    for number in (1, 2):
        explain_folder(classifier, pictures, tmp_path / "whole", RunOptions(shard=(number, 2), **options))
    merge_shards([tmp_path / "whole"])
    explain_folder(classifier, pictures, tmp_path / "every", RunOptions(clips=ClipOptions(every=2), **options))
    assert len(lines(tmp_path / "whole")) == 4
    page = write_report(tmp_path / "whole").read_text()
    assert page.count("clip.mp4") >= 2
    assert audit_run(tmp_path / "whole").paths == [line["path"] for line in lines(tmp_path / "whole")]
    comparison = compare_runs(tmp_path / "whole", tmp_path / "every")
    assert comparison.summary["compared"] == 4
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["overlay"].endswith("clip.mp4.5-5.mp4") for row in rows] == [True, False] * 2
