"""Tables of a run for programs: a row for each image and class, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cam.classifiers.sources.base import import_extra
from cam.errors import OutputError
from cam.files import open_whole
from cam.runs.manifest import Record

_BOOL, _INTEGER, _NUMBER, _TEXT = "bool", "int64", "double", "string"  # types of Parquet
COLUMNS = {
    **dict.fromkeys(("path", "name", "status", "error", "truth"), _TEXT),
    "correct": _BOOL,
    "predicted": _TEXT,
    "class_idx": _INTEGER,
    "label": _TEXT,
    **dict.fromkeys(("logit", "probability", "bias", "margin"), _NUMBER),
    **dict.fromkeys(("against", "evidence"), _TEXT),
    "completeness_error": _NUMBER,
    **dict.fromkeys(("peak_y", "peak_x"), _INTEGER),
    "overlay": _TEXT,
}
_RECORDS = 1000  # in memory at once
Rows: TypeAlias = Sequence[Sequence[Any]]
Maps: TypeAlias = Sequence[Path | None]  # the .npz file of each row


def write_tables(records: Iterable[Record], out: Path, csv_file: Path | None, parquet_file: Path | None) -> None:
    """Write the tables of a run in the folder `out`, each whole or not at all, with memory for a thousand images.

    An image that failed has one row. Texts are as they are: what a spreadsheet would take for a formula has no
    apostrophe before it, so that paths and labels can be looked up. Bytes that are not UTF-8 are escaped.
    """
    with ExitStack() as stack:
        files = (_csv_rows, csv_file), (_parquet_rows, parquet_file)
        tables = [stack.enter_context(open_table(path)) for open_table, path in files if path]
        remaining = iter(records)
        while tables and (part := list(islice(remaining, _RECORDS))):
            rows = [row for record in part for row in table_rows(record, out)]
            maps = [out / file if (file := target.get("files", {}).get("cam")) else None for target in _targets(part)]
            for write in tables:
                write(rows, maps)


def _targets(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield from record["targets"] or [{}]


def table_rows(record: Record, out: Path) -> Iterator[list[Any]]:
    """Yield the row of each class of an image, with the `COLUMNS`; `out` is the folder of the run."""
    labels = {name: (record[name] or {}).get("label") for name in ("truth", "predicted")}
    for target in _targets([record]):
        peak = dict(zip(("peak_y", "peak_x"), target.get("peak", ()), strict=False))
        against, overlay = target.get("against", {}).get("label"), target.get("files", {}).get("overlay")
        row = {**record, **labels, **target, **peak, "against": against, "overlay": overlay and str(out / overlay)}
        yield [_plain(row.get(name)) for name in COLUMNS]


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@contextmanager
def _csv_rows(path: Path) -> Iterator[Callable[[Rows, Maps], None]]:
    with open_whole(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        yield lambda rows, maps: writer.writerows(map(_cell, row) for row in rows)
        text.detach()  # else it closes the file


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def _parquet_rows(path: Path) -> Iterator[Callable[[Rows, Maps], None]]:
    """Write rows and, of a run with --save cam, their maps: `cam` in logits, row by row, and its `cam_shape` (h, w).

    The lists have one size, so that they are read as one array. A map with another number of cells is null.
    """
    arrow, parquet = (import_extra(name, "parquet", "--parquet") for name in ("pyarrow", "pyarrow.parquet"))
    fields = [(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()]
    writer: Any = None
    cells = 0

    def write(rows: Rows, maps: Maps) -> None:
        nonlocal writer, cells
        cams = [None if saved is None else _read_map(saved) for saved in maps]
        if writer is None:
            cells = next((cam.size for cam in cams if cam is not None), 0)
            lists = [("cam_shape", arrow.list_(arrow.int32(), 2)), ("cam", arrow.list_(arrow.float32(), cells))]
            schema = arrow.schema(fields + lists if cells else fields)
            writer = stack.enter_context(parquet.ParquetWriter(file, schema))
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(fields)
        if cells:
            kept = [cam if cam is not None and cam.size == cells else None for cam in cams]
            columns.append([None if cam is None else cam.shape for cam in kept])
            columns.append([None if cam is None else cam.ravel() for cam in kept])
        arrays = [arrow.array(column, kind) for column, kind in zip(columns, writer.schema.types, strict=True)]
        writer.write_batch(arrow.record_batch(arrays, schema=writer.schema))

    with open_whole(path) as file, ExitStack() as stack:
        yield write
        if writer is None:
            write([], [])


def _read_map(file: Path) -> NDArray[np.float32]:
    """Read the map (h, w) that --save cam wrote."""
    try:
        with file.open("rb") as opened, np.load(opened) as stored:
            return np.asarray(stored["cam"], np.float32)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise OutputError(f"{str(file)!r} has no map for --parquet", "Run again with --overwrite") from error
