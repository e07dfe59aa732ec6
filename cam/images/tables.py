"""Read lists of image paths, and tables of ground truth."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cam.errors import UsageError, reason_of
from cam.images.find import Picture

_PATH_COLUMNS = ("path", "file", "image", "filename")
_BINARY = b"\xff\xd8\xff", b"\x89PNG", b"PK\3\4"  # JPEG, PNG and zip, given to --list by mistake


def read_list(source: str) -> list[str]:
    """Read the paths that a list names: a file, or "-" for standard input. UsageError if it names none.

    Paths end with NUL if the list contains one, else with the line; blank lines do not count. A .csv or .tsv gives its
    column `path`, `file`, `image` or `filename`, or the first column if the first row has none of these names.
    """
    name = f"--list {source!r}"
    text = read_text(source, "--list ", errors="surrogateescape")  # names of files can be any bytes
    suffix = os.path.splitext(source)[1].lower()  # noqa: PTH122
    if "\0" in text:
        paths = text.split("\0")
    elif suffix in (".csv", ".tsv"):
        rows = [row for _, row in _read_rows(text, name, suffix)]
        titles = [title.strip().casefold() for title in rows[0]] if rows else []
        columns = [titles.index(column) for column in _PATH_COLUMNS if column in titles]
        column = columns[0] if columns else 0
        paths = [row[column] for row in rows[1 if columns else 0 :] if len(row) > column]
    else:
        paths = [line.removesuffix("\r") for line in text.split("\n")]
    paths = [path for path in paths if path.strip()]
    if not paths:
        raise UsageError(f"{name} names no image", "Write one path a line")
    return paths


def read_text(source: str | Path, option: str = "", errors: str = "strict") -> str:
    """Read a text file in UTF-8 or, with a byte order mark, UTF-16, line ends as they are; UsageError if it is not."""
    name = f"{option}{str(source)!r}"
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        if data.startswith(_BINARY):
            raise UsageError(f"{name} is an image or an archive, not text", "Give an image or an archive as an input")
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return data.decode(encoding, errors)
    except UsageError:
        raise
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8 (byte {error.start})", "Save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UsageError(f"{name} cannot be opened ({reason_of(error)})", "Check the path") from error


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Read columns of a CSV or TSV file, by the names in its first row, or in their order if that row is data.

    `columns` are in lower case. A row gives its name for messages ("Line 2 of 'labels.csv'") and its stripped values.
    """
    name = repr(str(path))
    rows = [(line, [value.strip() for value in row]) for line, row in _read_rows(read_text(path), name, path.suffix)]
    names = [name.casefold() for name in rows[0][1]] if rows else []
    if set(columns) <= set(names):
        rows = rows[1:]
    else:
        names = list(columns)
    if not rows:
        raise UsageError(f"{name} holds no rows", f"Write rows of {','.join(columns)}")
    table = []
    for line, row in rows:
        where = f"Line {line} of {name}"
        if len(row) != len(names):
            raise UsageError(f"{where} has {len(row)} values, not {len(names)}", f"Write {','.join(names)}")
        table.append((where, [row[names.index(column)] for column in columns]))
    return table


def picture_named(text: str, roots: Sequence[Path], where: str) -> Picture:
    """Return the image at a relative path in the first of the folders that has it, else a missing one in the first.

    `where` names the line of the ground truth for messages.
    """
    name = PurePosixPath(text)
    if not name.parts or name.is_absolute() or ".." in name.parts:
        raise UsageError(f"{where} names the picture {text!r}", "Write its path relative to the folder, without ..")
    paths = [root / name for root in roots]
    # os.path.exists: Path.exists raises if a folder above is not readable.
    return Picture(next((path for path in paths if os.path.exists(path)), paths[0]), name)  # noqa: PTH110


def _read_rows(text: str, name: str, suffix: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV, or TSV if that is the suffix, that are not blank, with the numbers of their lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix.lower() == ".tsv" else ",")
    try:
        return [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise UsageError(f"Line {reader.line_num} of {name} is not CSV ({error})", "Export it again") from error
