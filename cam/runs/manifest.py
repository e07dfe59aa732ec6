"""The manifest accounts for every input of a run, a line of JSON each, in the order of the inputs in the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from cam.errors import OutputError
from cam.files import unwritable, write_whole

Record: TypeAlias = dict[str, Any]

MANIFEST = "manifest.jsonl"

_SECONDS = 2.0  # between two flushes: what a cut in the power may cost, and what a flush may cost others


class ManifestWriter:
    """A manifest that grows; as a context, what was added is put on disk when it is left, also by an exception.

    Args:
        path: the file; made if need be.

    Raises:
        OutputError: it cannot be written; DiskFullError if nothing could.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with ManifestWriter(Path(folder, MANIFEST)) as manifest:
        ...         manifest.add({"path": "dog.jpg"})
        ...     Path(folder, MANIFEST).stat().st_size
        20
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        self._append()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with nullcontext() if error is None else suppress(OutputError):  # what went wrong first is what to tell
            self.flush()

    def add(self, record: Record) -> None:
        """Add a line; it is on disk within seconds."""
        self._lines.append(as_line(record))
        if time.monotonic() - self._flushed >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put on disk the files that the new lines tell of, then the lines."""
        if self._lines:
            self._append()

    def _append(self) -> None:
        try:
            if self._lines:
                os.sync()
            data, self._lines = b"".join(self._lines), []  # at most once, whatever comes between
            with self._path.open("ab", buffering=0) as file:
                self._write(file, data)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._flushed = time.monotonic()

    @staticmethod
    def _write(file: FileIO, data: bytes) -> None:
        """Write all of it, or leave the file as it was."""
        end = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except BaseException:  # also where the user stops the run just now
            with suppress(OSError):
                file.truncate(end)
            raise


def read_records(path: Path) -> Iterator[Record]:
    """Read a manifest line by line, up to the first line that is torn or malformed; a missing file has no lines."""
    return (record for record, _ in _read_lines(path))


def _read_lines(path: Path) -> Iterator[tuple[Record, int]]:
    """Each record, and how many bytes the manifest has up to its end."""
    end = 0
    try:
        with path.open("rb") as file:
            for line in file:
                record = json.loads(line)
                if not line.endswith(b"\n") or not _whole(record):
                    return
                end += len(line)
                yield record, end
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return
    except OSError as error:
        found = f"{str(path)!r} cannot be read ({error.strerror})"
        raise OutputError(found, "Mend its permissions, or choose another folder") from error


def _whole(record: object) -> bool:
    """Tell whether a line has what all of them have."""
    if not isinstance(record, dict) or not {"path", "status", "error", "targets"} <= record.keys():
        return False
    status, targets = record["status"], record["targets"]
    return isinstance(record["path"], str) and status in ("ok", "failed") and isinstance(targets, list)


def arrange(path: Path, indices: Mapping[str, int], unfinished: Path | None = None) -> None:
    """Keep the lines of some pictures, in the order of their indices; nothing is written where that changes nothing.

    Of two lines of one picture the first counts.

    Args:
        path: the manifest.
        indices: of the pictures to keep, by their names.
        unfinished: folder on the same disk for what is not yet whole; the file's own by default.

    Raises:
        OutputError: it cannot be read or written; the manifest is as it was.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with ManifestWriter(Path(folder, MANIFEST)) as manifest:
        ...         for name in ("a", "b", "c"):
        ...             manifest.add({"path": name, "name": name, "status": "ok", "error": None, "targets": []})
        ...     arrange(Path(folder, MANIFEST), {"c": 0, "a": 1})
        ...     [(record["name"], record["index"]) for record in read_records(Path(folder, MANIFEST))]
        [('c', 0), ('a', 1)]
    """
    places: dict[int, tuple[int, int]] = {}  # where the line of each index starts and ends: all may be too much to hold
    before: list[object] = []
    end = 0
    for record, line_end in _read_lines(path):
        index = indices.get(str(record.get("name")))
        if index is not None:
            places.setdefault(index, (end, line_end))
        before.append(record.get("index") if index is not None else None)
        end = line_end
    torn = path.is_file() and path.stat().st_size > end
    if torn or before != sorted(places):
        write_whole(path, _lines(path, sorted(places.items())), unfinished, durable=True)


def _lines(path: Path, places: Iterable[tuple[int, tuple[int, int]]]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for index, (start, end) in places:
            file.seek(start)
            yield as_line({**json.loads(file.read(end - start)), "index": index})


def as_line(record: Record) -> bytes:
    r"""Give a line of a manifest.

    Example:
        >>> as_line({"path": "dog.jpg"})
        b'{"path": "dog.jpg"}\n'
    """
    return (json.dumps(record) + "\n").encode()


def files_of(record: Record) -> list[str]:
    """Name the files that a line tells of, relative to the run's folder.

    Example:
        >>> files_of({"targets": [{"files": {"overlay": "dog.jpg.3-dog.jpg"}}]})
        ['dog.jpg.3-dog.jpg']
    """
    names: list[object] = []
    with suppress(LookupError, TypeError, AttributeError):  # a strange line names none
        names += [name for files in (record, *record["targets"]) for name in files.get("files", {}).values()]
    return [name for name in names if isinstance(name, str)]
