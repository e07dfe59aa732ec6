"""Lists of paths: text, a table, or what `find -print0` prints."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from pathlib import Path

from cam.errors import UsageError

_COLUMNS = ("path", "file", "image", "filename")
_PICTURES = b"\xff\xd8\xff", b"\x89PNG", b"PK\3\4"  # how JPEG, PNG and zip begin, and no list does


def read_list(source: str) -> list[str]:
    r"""Read the paths that a list names; relative ones are relative to where the command runs.

    Paths end with NUL if there is one in the list, else with the line; blank lines do not count. Of a .csv or .tsv
    it is the column `path`, `file`, `image` or `filename`, or the first where the first row names none of them.

    Args:
        source: a file, or "-" for standard input.

    Raises:
        UsageError: it cannot be read, is no CSV, or names nothing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.csv").write_text("label,path\ncat,1.jpg\ndog,2.jpg\n")
        ...     read_list(f"{folder}/a.csv")
        ['1.jpg', '2.jpg']
    """
    name = "standard input" if source == "-" else repr(source)
    content = _content(source, name)
    if content.startswith(_PICTURES):
        raise UsageError(f"The list in {name} is a picture or an archive", "Give that as an input, without --list")
    text = _text(content)
    if "\0" in text:
        paths = text.split("\0")
    elif source.lower().endswith((".csv", ".tsv")):
        paths = _column(text, name, "\t" if source.lower().endswith(".tsv") else ",")
    else:
        paths = [line.removesuffix("\r") for line in text.split("\n")]
    paths = [path for path in paths if path.strip()]
    if not paths:
        raise UsageError(f"The list in {name} names no picture", "Write a path a line")
    return paths


def _content(source: str, name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no file system takes
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The list in {name} cannot be read ({reason})", "Check the path") from error


def _text(data: bytes) -> str:
    """As paths are decoded, so that any name comes back; with a byte order mark, as that says."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))


def _column(text: str, name: str, delimiter: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise UsageError(f"The list in {name} is no CSV ({error})", "Export it again") from error
    titles = [title.strip().casefold() for title in rows[0]] if rows else []
    named = [titles.index(column) for column in _COLUMNS if column in titles]
    column = named[0] if named else 0
    return [row[column] for row in rows[1 if named else 0 :] if len(row) > column]
