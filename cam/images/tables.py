"""Lists and tables of image paths."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cam.errors import UsageError
from cam.images.find import Picture

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


def read_text(path: Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark, line ends as they are.

    Raises:
        UsageError: there is no such file, or it is no such text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{str(path)!r} is not text in UTF-8 (byte {error.start})", "Save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a path that no file system takes
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{str(path)!r} cannot be opened ({reason})", "Check the path") from error


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Read columns of a CSV file, by the names in its first row, or in their order where that row names none.

    Args:
        path: UTF-8, comma-separated; blank lines do not count.
        columns: lower-case names of the columns.

    Returns:
        For each row where it stands, for messages, and its texts, one a column, without spaces around them.

    Raises:
        UsageError: it cannot be read, holds no rows, or a row has too few or too many values.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "labels.csv").write_text("a.jpg, tench, Tinca tinca")
        ...     read_table(Path(folder, "labels.csv"), ["path", "label", "latin"])[0][1]
        ['a.jpg', 'tench', 'Tinca tinca']
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise UsageError(f"Line {reader.line_num} of {str(path)!r} is no CSV ({error})", "Export it again") from error
    names = [name.casefold() for name in rows[0][1]] if rows else []
    if set(columns) <= set(names):
        rows = rows[1:]
    else:
        names = list(columns)
    if not rows:
        raise UsageError(f"{str(path)!r} holds no rows", f"Write rows of {','.join(columns)}")
    places = [names.index(column) for column in columns]
    table = []
    for line, row in rows:
        where = f"Line {line} of {str(path)!r}"
        if len(row) != len(names):
            raise UsageError(f"{where} has {len(row)} values, not {len(names)}", f"Write {','.join(names)}")
        table.append((where, [row[place] for place in places]))
    return table


def picture_named(text: str, roots: Sequence[Path], where: str) -> Picture:
    """Find the picture that a file of ground truth names.

    Args:
        text: its path, relative to one of the roots.
        roots: folders to look in, one after the other.
        where: what names it, for the message.

    Returns:
        It in the first root that holds it; in the first of all if none does, so that its failure can be told.

    Raises:
        UsageError: the path is empty, absolute or leads upwards.

    Example:
        >>> picture_named("cats/a.jpg", [Path("photos")], "Line 1 of 'labels.csv'").name
        PurePosixPath('cats/a.jpg')
    """
    name = PurePosixPath(text)
    if not name.parts or name.is_absolute() or ".." in name.parts:
        raise UsageError(f"{where} names the picture {text!r}", "Write its path relative to the folder, without ..")
    paths = [root / name for root in roots]
    # os.path.exists, because Path.exists raises where a folder above may not be read.
    return Picture(next((path for path in paths if os.path.exists(path)), paths[0]), name)  # noqa: PTH110
