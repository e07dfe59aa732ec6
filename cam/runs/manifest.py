"""The manifest: a line of JSON for each image of a run, in the order of the inputs at the end."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, TypeAlias

from cam.classifiers.truth import Truth
from cam.errors import OutputError
from cam.files import unwritable, write_whole

Record: TypeAlias = dict[str, Any]
_LEFT_ALONE = "Run the same command again, and leave its results alone until it ends"


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Iterable[Record]], None]]:
    """Provide a function that appends lines to a manifest; at the end, put them and the files they name on disk."""
    with _output_errors(path):
        file = path.open("ab")

    def append(records: Iterable[Record]) -> None:
        with _output_errors(path):
            file.write(b"".join(map(as_line, records)))
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


def check_complete(path: Path, images: int) -> None:
    """Raise an OutputError unless a manifest has a line for each image, as it may not if others change it."""
    lines = 0
    with suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as file:
        lines = sum(line.endswith(b"\n") for line in file)
    if lines != images:
        problem = (
            f"{str(path)!r} was removed or changed while the run went on: it has {lines} lines for {images} images"
        )
        raise OutputError(problem, _LEFT_ALONE)


def read_records(path: Path) -> Iterator[Record]:
    """Read a manifest line by line, up to one that is torn or not a record; a missing file has no lines."""
    try:
        with path.open("rb") as file:
            for line in takewhile(lambda line: line.endswith(b"\n"), file):
                record = json.loads(line)
                if not (isinstance(record, dict) and {"path", "name", "status", "targets"} <= record.keys()):
                    return
                yield record
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be read ({error.strerror})", "Change its permissions") from error


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
