"""Tables of a run for programs: a row for each image and class, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from cam.classifiers.sources.base import import_extra
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


def write_tables(records: Iterable[Record], out: Path, csv_file: Path | None, parquet_file: Path | None) -> None:
    """Write the tables of a run in the folder `out`, each whole or not at all, with memory for a thousand images.

    An image that failed has one row. Texts are as they are: what a spreadsheet would take for a formula has no
    apostrophe before it, so that paths and labels can be looked up. Bytes that are not UTF-8 are escaped.
    """
    with ExitStack() as stack:
        files = (_csv_rows, csv_file), (_parquet_rows, parquet_file)
        tables = [stack.enter_context(open_table(path)) for open_table, path in files if path]
        remaining = iter(records)
        while part := list(islice(remaining, _RECORDS)):
            rows = [row for record in part for row in _rows(record, out)] if tables else []
            for write in tables:
                write(rows)


def _rows(record: Record, out: Path) -> Iterator[list[Any]]:
    labels = {name: (record[name] or {}).get("label") for name in ("truth", "predicted")}
    for target in record["targets"] or [{}]:
        peak = dict(zip(("peak_y", "peak_x"), target.get("peak", ()), strict=False))
        against, overlay = target.get("against", {}).get("label"), target.get("files", {}).get("overlay")
        row = {**record, **labels, **target, **peak, "against": against, "overlay": overlay and str(out / overlay)}
        yield [_plain(row.get(name)) for name in COLUMNS]


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@contextmanager
def _csv_rows(path: Path) -> Iterator[Callable[[Rows], None]]:
    with open_whole(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        yield lambda rows: writer.writerows(map(_cell, row) for row in rows)
        text.detach()  # else it closes the file


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def _parquet_rows(path: Path) -> Iterator[Callable[[Rows], None]]:
    arrow, parquet = (import_extra(name, "parquet", "--parquet") for name in ("pyarrow", "pyarrow.parquet"))
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])

    def write(rows: Rows) -> None:
        values = zip(zip(*rows, strict=True), schema.types, strict=True)
        columns = [arrow.array(column, kind) for column, kind in values]
        writer.write_batch(arrow.record_batch(columns, schema=schema))

    with open_whole(path) as file, parquet.ParquetWriter(file, schema) as writer:
        yield write
