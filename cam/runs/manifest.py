"""The manifest: a line of JSON for each image of a run, in the order of the inputs at the end."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

from cam.classifiers.truth import Truth
from cam.errors import OutputError
from cam.files import open_whole, unwritable

Record: TypeAlias = dict[str, Any]
_LEFT_ALONE = "Run the same command again, and leave its results alone until it ends"


@contextmanager
def appending(path: Path, starts: dict[int, int]) -> Iterator[Callable[[Iterable[Record]], None]]:
    """Provide a function that appends lines to a manifest; at the end, put them and the files they name on disk.

    Where the line of an image begins is added to `starts`, by the image's index.
    """
    with _output_errors(path):
        file = path.open("ab")

    def append(records: Iterable[Record]) -> None:
        with _output_errors(path):
            for record in records:
                starts[record["index"]] = file.tell()
                file.write(as_line(record))
            file.flush()
        if not path.exists():  # what holds it open could write on, to nowhere
            raise OutputError(f"{str(path)!r} was removed while the run went on", _LEFT_ALONE)

    try:
        yield append
        with _output_errors(path):
            if hasattr(os, "sync"):
                os.sync()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):  # a full disk was an error of append
            file.close()


def read_records(path: Path) -> Iterator[Record]:
    """Read a manifest line by line, up to one that is torn or not a record; a missing file has no lines."""
    try:
        with path.open("rb") as file:
            yield from takewhile(bool, map(_parse, file))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be read ({error.strerror})", "Change its permissions") from error


@contextmanager
def records_by_name(path: Path) -> Iterator[Callable[[str], Record]]:
    """Provide a function that reads the line of an image by its name, empty if it has none; only names take memory."""
    starts: dict[str, int] = {}
    with path.open("rb") as file:
        start = 0
        while record := _parse(line := file.readline()):
            starts[record["name"]] = start
            start += len(line)

        def find(name: str) -> Record:
            if name not in starts:
                return {}
            file.seek(starts[name])
            return _parse(file.readline())

        yield find


def sort_lines(path: Path, starts: Mapping[int, int], unfinished: Path) -> None:
    """Leave the lines of a manifest in the order of the images; `starts` is from `appending`.

    OutputError if they are not those that were written, as they may not be if others change the file. Lines are known
    by the index that they begin with, and not parsed.
    """
    changed = OutputError(f"{str(path)!r} was removed or changed while the run went on", _LEFT_ALONE)
    if not path.is_file():
        raise changed
    indices, size = sorted(starts), 0
    with _output_errors(path), path.open("rb") as file, ExitStack() as stack:
        is_sorted = list(starts) == indices
        copy = None if is_sorted else stack.enter_context(open_whole(path, unfinished, durable=True))
        for index in indices:
            file.seek(starts[index])
            line = file.readline()
            if not (line.startswith(b'{"index": %d, ' % index) and line.endswith(b"\n")):
                raise changed
            if copy:
                copy.write(line)
            size += len(line)
        if size != file.seek(0, os.SEEK_END):
            raise changed


def _parse(line: bytes) -> Record:
    """Parse a line; an empty record if it is torn or something else."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return {}
    return record if isinstance(record, dict) and {"path", "name", "status", "targets"} <= record.keys() else {}


def name_class(class_idx: int | None, labels: Sequence[str]) -> Record | None:
    """Name a class as a record does."""
    return None if class_idx is None else {"class_idx": class_idx, "label": labels[class_idx]}


def grade(record: Record, truth: Truth, labels: Sequence[str]) -> Record:
    """Add the true class of an image to its record, and whether the predicted one is `correct`; null if not known."""
    true_class, predicted = name_class(truth.classes.get(record["path"]), labels), record["predicted"]
    correct = true_class == predicted if true_class and predicted else None
    return {**record, "truth": true_class, "correct": correct}


def summarize_truth(correct: Counter[bool | None], unmatched: Mapping[str, int]) -> dict[str, Any]:
    """Accuracy of a run, of the images that were explained and whose class is known, from its counts of `correct`."""
    images = correct[True] + correct[False]
    accuracy = correct[True] / images if images else None
    return {"images": images, "correct": correct[True], "accuracy": accuracy, "unmatched": dict(unmatched)}


def as_line(record: Record) -> bytes:
    """Format a record as a line of a manifest."""
    return (json.dumps(record) + "\n").encode()


def files_of(record: Record) -> list[str]:
    """Name the files of an image, relative to the run's folder."""
    return [name for part in (record, *record["targets"]) for name in part.get("files", {}).values()]


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
