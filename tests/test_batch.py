from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam.batch import Run, explain_folder
from cam.classifiers import Classifier
from cam.errors import OutputError, UsageError
from cam.images import read_image, write_image
from cam.inputs import find_pictures
from cam.manifest import read_records
from cam.options import Options
from cam.question import Question
from cam.targets import OneClass, TopClasses
from cam.weights import hash_file, hash_tensors

RECORD_KEYS = ["index", "path", "name", "status", "error", "bytes", "modified", "size", "targets"]
TARGET_KEYS = ["class_idx", "label", "logit", "probability", "bias", "completeness_error"]
TARGET_KEYS += ["evidence", "map_input", "map_logit", "peak", "boxes", "remark", "files"]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 4, 4), nn.ReLU()
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    nn.init.normal_(network[4].weight, std=2)
    return cam.wrap(network, input_size=32, labels=["Cat & Dog", "<b>bird</b>", "../魚"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures of unlike size and content, several of like names."""
    for number, (name, size) in enumerate(
        {"a.jpg": (40, 60), "a.png": (60, 40), "sub/a.png": (32, 32), "10.png": (50, 50), "9.png": (30, 90)}.items()
    ):
        coarse = np.random.default_rng(number).integers(0, 256, (3, 3, 3), np.uint8)
        image = np.kron(coarse, np.ones((30, 30, 1), np.uint8))[: size[0], : size[1]]
        image = np.pad(image, ((0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0)))
        path = tmp_path / "in" / name
        if path.suffix == ".png":
            write_image(path, image)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path.with_suffix(".webp"), image)
            write_image(path, image)
            path.with_suffix(".webp").unlink()
    return tmp_path / "in"


def run(classifier: Classifier, folder: Path, out: Path, fit=None, **options) -> list[dict]:
    options = Options(question=Question(fit=fit), **options)
    return records_of(explain_folder(classifier, find_pictures([folder]), out, options))


def records_of(run: Run) -> list[dict]:
    records = [record for record, _ in read_records(run.manifest)]
    assert [record["status"] for record in records].count("ok") == run.explained
    assert len(records) == run.explained + run.failed
    return records


def test_manifest_is_one_line_a_picture_in_input_order(classifier, folder, tmp_path):
    out = tmp_path / "out"
    (folder / "bad.jpg").write_text("no picture")
    records = run(classifier, folder, out, targets=(TopClasses(2),), batch_size=2)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert lines == records
    assert [line["path"] for line in lines] == [str(picture.path) for picture in find_pictures([folder])]
    assert [Path(line["path"]).name for line in lines] == ["9.png", "10.png", "a.jpg", "a.png", "bad.jpg", "a.png"]
    for line in lines:
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


def test_the_map_can_be_used_without_this_tool(classifier, folder, tmp_path):
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


def test_heat_has_the_photographs_size_and_nothing_where_nothing_was_seen(classifier, folder, tmp_path):
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
    for record in run(classifier, folder, out, fit="whole", opacity=0, format=format_):
        photo = read_image(record["path"])
        drawn = read_image(out / record["targets"][0]["files"]["overlay"])
        assert record["targets"][0]["files"]["overlay"].endswith(f".{format_}")
        height, width = photo.shape[:2]
        assert drawn.shape[0] > height
        apart = np.abs(drawn[: height - 8, :width].astype(int) - photo[: height - 8])
        assert apart.max() == 0 if format_ == "png" else apart.mean() < 6


def test_run_json_says_what_the_results_were_made_with(classifier, folder, tmp_path):
    explain_folder(
        classifier, find_pictures([folder]), tmp_path / "out", Options(scale=2.5), {"model": "mine", "out": Path("x")}
    )
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["arguments"] == {"model": "mine", "out": "x"}
    assert about["versions"]["torch"] == torch.__version__.split("+")[0] or about["versions"]["torch"]
    assert about["head"]["kind"] == "gap-linear"
    assert about["device"] == "cpu"
    assert about["weights"]["tensors_sha256"] == hash_tensors(classifier.network.state_dict())
    assert (about["scale"], about["explained"], about["failed"]) == (2.5, 5, 0)


def test_run_json_holds_the_real_hash_of_the_weights_file(folder, tmp_path):
    digits = cam.load_classifier("digits", device="cpu")
    run(digits, folder, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["weights"]["sha256"] == hash_file(digits.weights)


def bar_ends(monkeypatch) -> list[float]:
    """Collect the limit that each legend was drawn with."""
    import cam.explanation as module

    drawn: list[float] = []
    original = module.with_legend
    monkeypatch.setattr(
        module, "with_legend", lambda *args, **kwargs: drawn.append(kwargs["limit"]) or original(*args, **kwargs)
    )
    return drawn


def test_scales(classifier, folder, tmp_path, monkeypatch):
    own = [cam.explain(classifier, picture.path).limit for picture in find_pictures([folder])]
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


def test_the_common_scale_looks_at_a_bounded_part_of_the_run(classifier, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cam.scale._PICTURES", 2)
    own = [cam.explain(classifier, picture.path).limit for picture in find_pictures([folder])]
    drawn = bar_ends(monkeypatch)
    run(classifier, folder, tmp_path / "out", scale="run")
    assert drawn == pytest.approx([np.median(own[:2])] * 5, rel=1e-4)


def test_a_bad_picture_does_not_change_another_ones_result(classifier, folder, tmp_path):
    good = run(classifier, folder, tmp_path / "without")
    (folder / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (folder / "a0.png").touch()
    mixed = run(classifier, folder, tmp_path / "with", batch_size=3)
    assert [record["status"] for record in mixed].count("failed") == 2
    for alone, beside in zip(good, (record for record in mixed if record["status"] == "ok"), strict=True):
        assert beside["path"] == alone["path"]
        for name, value in alone["targets"][0].items():
            assert beside["targets"][0][name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def test_pictures_are_reported_one_by_one(classifier, folder, tmp_path):
    reported = []
    done = explain_folder(classifier, find_pictures([folder]), tmp_path / "out", Options(), {}, reported.append)
    assert reported == records_of(done)


def test_an_earlier_run_of_another_kind_is_kept_unless_told_otherwise(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out, save=frozenset({"overlay", "cam"}))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r'with another option save \(\["cam", "overlay"\]\)\. Give --overwrite'):
        run(classifier, folder, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_overwriting_takes_the_earlier_files_away_and_no_others(classifier, folder, tmp_path):
    out = tmp_path / "out"
    run(classifier, folder, out, save=frozenset({"overlay", "cam", "heat"}), targets=(TopClasses(3),))
    for name in ("notes.txt", "a.jpg.99-else.jpg", "sub/mine.npz"):
        (out / name).write_text("mine")
    records = run(classifier, folder, out, overwrite=True, format="png")
    files = {file for record in records for target in record["targets"] for file in target["files"].values()}
    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert left == files | {"notes.txt", "a.jpg.99-else.jpg", "sub/mine.npz", "manifest.jsonl", "run.json"}


def test_a_manifest_that_is_no_runs_is_not_touched(classifier, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match=r"manifest.jsonl' belongs to no run: there is no run.json beside it\. Move"):
        run(classifier, folder, out)
    assert (out / "manifest.jsonl").read_text() == "mine\n"


HOSTILE = [
    b"",
    b"\xff\xfe not utf-8\n",
    b"[1, 2]\n3\nnull\n",
    b'{"path": "a.jpg", "status": "ok", "targets": 3}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": ["a"]}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": {"overlay": 3}}]}\n',
    b'{"path": 3, "status": [], "targets": [{"files": {"overlay": "a"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": {"overlay": "../precious"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": {"overlay": "a\\u0000b"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": {"overlay": "keep"}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"files": {"overlay": ""}}]}\n',
    b'{"path": "a.jpg", "status": "ok", "targets": [{"fil',
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_strange_manifest_removes_nothing_it_should_not(classifier, folder, tmp_path, content):
    out = tmp_path / "out"
    (out / "keep").mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (out / "manifest.jsonl").write_bytes(content)
    records = run(classifier, folder, out, overwrite=True)
    assert {record["status"] for record in records} == {"ok"}
    assert (tmp_path / "precious").read_text() == "mine"
    assert (out / "keep").is_dir()


def test_a_linked_folder_does_not_lead_out_of_the_output(classifier, folder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("mine")
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "manifest.jsonl").write_text(
        '{"path": "a", "status": "ok", "targets": [{"files": {"overlay": "link/precious"}}]}\n'
    )
    run(classifier, folder, out, overwrite=True)
    assert (tmp_path / "elsewhere" / "precious").read_text() == "mine"


def test_a_folder_in_the_way_of_a_file_costs_that_picture_only(classifier, folder, tmp_path):
    out = tmp_path / "out"
    first = run(classifier, folder, out)
    in_the_way = out / first[2]["targets"][0]["files"]["overlay"]
    other = tmp_path / "other"
    (other / in_the_way.relative_to(out)).mkdir(parents=True)
    second = run(classifier, folder, other)
    assert [record["status"] for record in second] == ["ok", "ok", "failed", "ok", "ok"]
    assert "cannot be written" in second[2]["error"]
    assert second[2]["targets"] == []


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder_is_one_error(classifier, folder, tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        run(classifier, folder, tmp_path / where)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_manifest_that_is_a_folder_is_one_error(classifier, folder, tmp_path):
    (tmp_path / "out" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"manifest\.jsonl"):
        run(classifier, folder, tmp_path / "out")


def test_a_full_disk_is_one_error(classifier, folder, tmp_path):
    manifest = tmp_path / "out" / "manifest.jsonl"
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")

    def fill(_):
        manifest.unlink()
        manifest.symlink_to("/dev/full")

    with pytest.raises(OutputError, match=r"manifest\.jsonl.*cannot be written.*No space"):
        explain_folder(classifier, find_pictures([folder]), tmp_path / "out", Options(), {}, fill)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"colormap": "rainbough"}, "'rainbough'"),
        ({"opacity": 1.5}, "1.5"),
        ({"opacity": float("nan")}, "nan"),
        ({"format": "gif"}, "gif"),
        ({"batch_size": 0}, "0"),
        ({"batch_size": -1}, "-1"),
    ],
)
def test_options_that_cannot_be_right_are_no_pictures_fault(wrong, found):
    with pytest.raises(UsageError) as refusal:
        Options(**wrong)
    assert found in str(refusal.value)


def test_a_class_that_is_not_there_is_no_pictures_fault(classifier, folder, tmp_path):
    with pytest.raises(UsageError, match="no class 3 among 3"):
        run(classifier, folder, tmp_path / "out", targets=(OneClass(3),))
