"""The manifest: a line of JSON for each image of a run, in the order of the inputs at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from cam.errors import OutputError
from cam.files import unwritable, write_whole

Record: TypeAlias = dict[str, Any]


class ManifestWriter:
    """Appends lines to a manifest; when the context is left, the lines and the files they name are put on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _output_errors(path):
            self._file = path.open("ab")

    def add(self, records: Iterable[Record]) -> None:
        """Append lines, whose files must be written already."""
        with _output_errors(self._path):
            self._file.write(b"".join(map(as_line, records)))
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with _output_errors(self._path), self._file:
                if hasattr(os, "sync"):
                    os.sync()  # the files
                os.fsync(self._file.fileno())
        except OutputError:
            if error is None:  # else the first error is the one to report
                raise


def read_records(path: Path) -> Iterator[Record]:
    """Read a manifest line by line, up to the first line that is torn or malformed; a missing file has no lines."""
    try:
        with path.open("rb") as file:
            for line in file:
                record = json.loads(line)
                if not line.endswith(b"\n") or not _is_record(record):
                    return
                yield record
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return
    except OSError as error:
        found = f"{str(path)!r} cannot be read ({error.strerror})"
        raise OutputError(found, "Change its permissions, or choose another folder") from error


def _is_record(record: object) -> bool:
    if not isinstance(record, dict) or not {"path", "name", "status", "error", "targets"} <= record.keys():
        return False
    texts, targets = (record["path"], record["name"], record["status"]), record["targets"]
    return all(isinstance(text, str) for text in texts) and isinstance(targets, list)


def arrange(path: Path, order: Sequence[int], unfinished: Path) -> None:
    """Sort the lines of a manifest; `order[i]` is the index of the image on line i."""
    if list(order) == sorted(order):
        return
    with _output_errors(path), path.open("rb") as file:
        starts = [0, *accumulate(len(line) for line in file)]

        def lines() -> Iterator[bytes]:
            for number in sorted(range(len(order)), key=order.__getitem__):
                file.seek(starts[number])
                yield file.readline()

        write_whole(path, lines(), unfinished, durable=True)


def as_line(record: Record) -> bytes:
    """Format a record as a line of a manifest."""
    return (json.dumps(record) + "\n").encode()


def files_of(record: Record) -> list[str]:
    """Name the files of an image, relative to the run's folder."""
    names: list[object] = []
    with suppress(LookupError, TypeError, AttributeError):  # malformed: names none
        names += [name for part in (record, *record["targets"]) for name in part.get("files", {}).values()]
    return [name for name in names if isinstance(name, str)]


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
