"""Tables of a run, read back by the csv module and pyarrow."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import DIGITS, SAMPLES, lines

from cam.errors import OutputError
from cam.runs.tables import COLUMNS, write_tables

DOCS = Path(__file__).parents[1] / "docs"


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(name: str, **changes: Any) -> dict[str, Any]:
    target = {
        "class_idx": 1,
        "label": "=HYPERLINK(1)",
        "logit": 2.5,
        "probability": None,
        "bias": 0.1,
        "evidence": "logit",
        "completeness_error": 1e-7,
        "peak": [3, 4],
        "files": {"overlay": f"{name}.png"},
    }
    known = {"class_idx": 0, "label": "cat"}
    return {
        **{"path": f"in/{name}", "name": name, "status": "ok", "error": None},
        **{"truth": known, "predicted": known, "correct": True, "targets": [target]},
        **changes,
    }


def test_a_row_for_each_image_and_class(run, tmp_path):
    photos = tmp_path / "in"
    (photos / "7").mkdir(parents=True)
    shutil.copy(SAMPLES / "sevens.png", photos / "7")
    (photos / "bad.png").write_text("text")
    arguments = "explain", photos, *DIGITS, "-o", tmp_path / "out", "--truth", "folder"
    contrast = "-t", "7", "-t", "2", "--evidence", "contrast", "--against", "3", "--csv", tmp_path / "new" / "a.csv"
    assert run(*arguments, *contrast).exit_code == 3
    (seven, bad) = lines(tmp_path / "out")
    rows = read_csv(tmp_path / "new" / "a.csv")
    assert [list(row) for row in rows] == [list(COLUMNS)] * 3
    for row, target in zip(rows, seven["targets"], strict=False):
        expected = {name: str(target[name]) for name in ("class_idx", "label", "logit", "margin", "bias")}
        expected |= {"truth": "7", "correct": "true", "predicted": "7", "against": "3", "evidence": "contrast"}
        expected |= {"peak_y": str(target["peak"][0]), "peak_x": str(target["peak"][1]), "error": ""}
        expected |= {"path": seven["path"], "overlay": str(tmp_path / "out" / target["files"]["overlay"])}
        assert {name: row[name] for name in expected} == expected
        assert Path(row["overlay"]).is_file()
    given = {"path": bad["path"], "name": "bad.png", "status": "failed", "error": bad["error"]}
    assert rows[2] == {name: given.get(name, "") for name in COLUMNS}


@pytest.fixture(scope="module")
def reads() -> Iterator[list[str]]:
    """Names of the files that this process opens for reading."""
    names: list[str] = []
    watching = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], (str, Path)) and arguments[1] in ("r", "rb"):
            names.append(Path(arguments[0]).name)

    sys.addaudithook(note)  # cannot be removed
    yield names
    watching.clear()


def test_a_manifest_is_read_once_when_a_run_goes_on_and_when_it_ends_and_once_for_tables(run, tmp_path, reads):
    pytest.importorskip("pyarrow")
    tables = tmp_path / "a.csv", tmp_path / "a.parquet"
    photos, outputs = tmp_path / "in", ("--csv", tables[0], "--parquet", tables[1], "--report")
    photos.mkdir()
    for name, earlier, more in (("c.png", 0, ["--json"]), ("b.png", 1, ["--json"]), ("a.png", 1, [])):
        shutil.copy(SAMPLES / "five.png", photos / name)  # goes before those of the earlier run
        reads.clear()
        result = run("explain", photos, *DIGITS, "-o", tmp_path / "out", *outputs, *more)
        assert reads.count("manifest.jsonl") == 2 + earlier
        assert not more or json.loads(result.stdout)["images"] == lines(tmp_path / "out")
    names = ["a.png", "b.png", "c.png"]
    assert [line["name"] for line in lines(tmp_path / "out")] == names
    assert [row["name"] for row in read_csv(tables[0])] == names
    assert re.findall(r"\w\.png", result.stdout) == names
    reads.clear()
    run("explain", photos, *DIGITS, "-o", tmp_path / "plain")
    assert reads.count("manifest.jsonl") == 1


def test_texts_stay_as_they_are(tmp_path):
    names = ["=1+1.png", "+1.png", "-1.png", "@x.png", 'a,"b"\n.png', "\udcff.png", "\u9b5a.png"]
    write_tables(map(record, names), tmp_path, tmp_path / "a.csv", None)
    rows = read_csv(tmp_path / "a.csv")
    assert [row["name"] for row in rows] == [*names[:5], "\\udcff.png", names[6]]
    assert {row["label"] for row in rows} == {"=HYPERLINK(1)"}
    assert {row["probability"] for row in rows} == {""}


def test_parquet_has_the_same_rows_with_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    failed = {"status": "failed", "error": "no", "predicted": None, "correct": None, "targets": []}
    records = [record(f"{number}.png") for number in range(1500)]
    records.append(record("\udcff.png", truth=None, **failed))
    write_tables(records, Path("out"), tmp_path / "a.csv", tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    rows, read = table.to_pylist(), read_csv(tmp_path / "a.csv")
    assert table.column_names == list(COLUMNS)
    assert (len(rows), len(read)) == (1501, 1501)
    known = {"truth": "cat", "predicted": "cat", "correct": True, "error": None, "margin": None, "against": None}
    numbers = {"class_idx": 1, "logit": 2.5, "probability": None, "bias": 0.1, "completeness_error": 1e-7}
    place = {"peak_y": 3, "peak_x": 4, "overlay": str(Path("out", "7.png.png")), "label": "=HYPERLINK(1)"}
    assert rows[7] == {
        **{"path": "in/7.png", "name": "7.png", "status": "ok", "evidence": "logit"},
        **(known | numbers | place),
    }
    assert rows[1500] == dict.fromkeys(COLUMNS) | {"path": "in/\\udcff.png", "name": "\\udcff.png"} | {
        "status": "failed",
        "error": "no",
    }
    assert [row["name"] for row in rows] == [row["name"] for row in read]


def saved_map(folder: Path, name: str, cam: np.ndarray) -> dict[str, Any]:
    """A record of an image whose map was saved."""
    np.savez(folder / f"{name}.npz", cam=cam.astype(np.float32))
    saved = record(name)
    saved["targets"][0]["files"]["cam"] = f"{name}.npz"
    return saved


def test_parquet_has_the_maps_of_a_run_that_saved_them(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arguments = "explain", SAMPLES, *DIGITS, "--fit", "crop", "-o", tmp_path / "out", "--save", "cam"
    assert run(*arguments, "--parquet", tmp_path / "a.parquet").exit_code == 0
    table = parquet.read_table(tmp_path / "a.parquet")
    targets = [target for line in lines(tmp_path / "out") for target in line["targets"]]
    cams = np.stack([np.load(tmp_path / "out" / target["files"]["cam"])["cam"] for target in targets])
    read = table["cam"].combine_chunks()
    assert read.type.list_size == cams[0].size
    np.testing.assert_array_equal(read.flatten().to_numpy().reshape(cams.shape), cams)
    assert table["cam_shape"].to_pylist() == [list(cams[0].shape)] * len(cams)
    np.testing.assert_allclose(cams.mean((1, 2)) + table["bias"].to_numpy(), table["logit"].to_numpy(), rtol=1e-4)


def test_a_map_of_another_grid_is_null(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    shapes = {"a": (2, 3), "b": (3, 3), "c": (3, 2)}
    records = [saved_map(tmp_path, name, np.full(shape, len(name))) for name, shape in shapes.items()]
    write_tables([*records, record("d")], tmp_path, None, tmp_path / "a.parquet")
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["cam_shape"] for row in rows] == [[2, 3], None, [3, 2], None]
    assert [row["cam"] for row in rows] == [[1] * 6, None, [1] * 6, None]


def test_a_damaged_map_is_named(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    saved = saved_map(tmp_path, "a", np.zeros((2, 2)))
    (tmp_path / "a.npz").write_bytes(b"torn")
    with pytest.raises(OutputError, match=r"a\.npz' has no map for --parquet"):
        write_tables([saved], tmp_path, None, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_an_empty_run_has_an_empty_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_tables([], tmp_path, None, tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").column_names == list(COLUMNS)


def test_the_queries_of_the_documentation_run(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow.parquet")
    maps = {"a": np.arange(6).reshape(2, 3), "b": np.array([[5, 4, 9], [2, 1, 0]])}
    records = [saved_map(tmp_path, name, cam) for name, cam in maps.items()]
    write_tables(records, tmp_path, None, tmp_path / "out.parquet")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.+?)```", (DOCS / "runs.md").read_text("utf-8"), re.DOTALL)
    found = []
    for example in examples:
        pytest.importorskip(example.split()[1])
        names: dict[str, Any] = {}
        exec(example, names)
        found.append(names)
    duckdb, pandas, polars = found
    assert duckdb["rows"] == [("in/b", pytest.approx(9 / 6)), ("in/a", pytest.approx(2 / 6))]
    mean = (maps["a"] + maps["b"]) / 2
    np.testing.assert_array_equal(pandas["mean"], mean)
    np.testing.assert_array_equal(polars["mean"], mean)


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cam.runs.tables.table_rows", fail)
    with pytest.raises(OutputError, match=r"a\.csv' cannot be written \(No space left"):
        write_tables([record("1.png")], tmp_path, tmp_path / "a.csv", None)
    assert (tmp_path / "a.csv").read_text() == "before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv"]


def test_wrong_tables_are_errors_before_the_work(run, tmp_path, monkeypatch):
    (tmp_path / "labels.csv").write_text("five.png,5\n")
    arguments = "explain", SAMPLES / "five.png", *DIGITS, "-o", tmp_path / "out"
    result = run(*arguments, "--truth", tmp_path / "labels.csv", "--csv", tmp_path / "labels.csv")
    assert (result.exit_code, "is given twice. Give the table another name." in result.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(*arguments, "--parquet", tmp_path / "a.parquet")
    assert result.exit_code == 1
    assert "--parquet needs pyarrow" in result.stderr
    assert "Run pip install 'gapcam[parquet]'." in result.stderr
    assert not (tmp_path / "out").exists()
