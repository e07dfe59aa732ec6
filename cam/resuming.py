"""A run in its folder: begun, gone on with where it was, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from filelock import FileLock, Timeout

from cam.errors import OutputError, UsageError
from cam.files import unwritable, write_whole
from cam.inputs import Picture
from cam.manifest import MANIFEST, files_of, read_records

RUN = "run.json"
REPORT = "report.html"

# What must be the same for a run to go on. Arguments that change no result are not among them.
_SAME = ("versions", "model", "weights", "preprocessing", "head", "device", "dtype", "options", "arguments")
_IDLE = {"quiet", "as_json", "overwrite", "on_error", "file", "out", "shard", "truth"}


@dataclass(frozen=True)
class RunFolder:
    """Where a run's own files lie.

    Attributes:
        out: the folder, which several shards may share.
        shard: (i, n) of the i-th of n shards, counted from 1; None for a run of everything.
    """

    out: Path
    shard: tuple[int, int] | None = None

    @property
    def manifest(self) -> Path:
        """Its manifest."""
        return self.out / self._named(MANIFEST)

    @property
    def run(self) -> Path:
        """What it was made with."""
        return self.out / self._named(RUN)

    @property
    def unfinished(self) -> Path:
        """Folder of files that are not yet whole."""
        return self.out / self._named(".unfinished")

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write down what the run is made with, and what is known of it so far.

        Raises:
            OutputError: it cannot be written.
        """
        write_whole(self.run, (json.dumps(about, indent=2, default=_as_json) + "\n").encode(), durable=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the same run.

        Raises:
            UsageError: one does already.
            OutputError: the folder cannot be written.
        """
        lock = FileLock(self.out / self._named(".lock"), timeout=0)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            found = f"Another cam explain is writing to {str(self.out)!r}"
            raise UsageError(found, "Wait for its end, or choose another folder") from None
        except (OSError, ValueError) as error:
            raise unwritable(self.out, error) from error
        try:
            yield
        finally:
            with suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write down what is known of a run that is done.

        Raises:
            OutputError: it cannot be written.
        """
        self.describe(about)
        with suppress(OSError):  # there is none, or another run in the same folder uses it
            self.unfinished.rmdir()

    def write(self, name: str, data: bytes) -> None:
        """Write one of the results, whole or not at all.

        Raises:
            OutputError: it cannot be written; NoRoomError if nothing could.
        """
        write_whole(self.out / name, data, self.unfinished)

    def forget_report(self) -> None:
        """Take away the report of an earlier run; the evidence of its pictures is in the manifest's care.

        Raises:
            OutputError: it cannot be taken away.
        """
        page = self.out / REPORT
        try:
            page.unlink(missing_ok=True)
            rmtree(self.out / "report" / "thumbnails", ignore_errors=True)
        except OSError as error:
            raise unwritable(page, error) from error

    def has(self, name: str) -> bool:
        """Tell whether it holds a file of that name."""
        return os.path.isfile(self.out / name)  # noqa: PTH113 - Path.is_file raises where a folder may not be entered

    def _named(self, name: str) -> str:
        stem, dot, suffix = name.rpartition(".")
        return f"{stem}.{self.shard[0]}-of-{self.shard[1]}{dot}{suffix}" if self.shard else name


def begin(folder: RunFolder, about: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any]:
    """Begin a run in a folder, or go on with one that was made with the same.

    Args:
        folder: it need not exist.
        about: what the run is made with.
        overwrite: whether the results of an earlier run may go; one that made nothing may always.

    Returns:
        What is known of the run: `about`, and of one that is gone on with all that it had found out.

    Raises:
        UsageError: it holds a run that was made with something else, or a manifest that is no run's.
        OutputError: the folder cannot be read or written.
    """
    stray = folder.has(folder.manifest.name) and not folder.has(folder.run.name)
    if stray and folder.manifest.stat().st_size and not overwrite:
        found = f"{str(folder.manifest)!r} belongs to no run: there is no {folder.run.name} beside it"
        raise UsageError(found, "Move it away, give --overwrite, or choose another folder")
    made = any(files_of(record) for record, _ in read_records(folder.manifest))
    if made and not overwrite:
        earlier = read_about(folder)
        if other := difference(earlier, json.loads(json.dumps(about, default=_as_json)), _SAME):
            found = f"{str(folder.out)!r} holds the results of an earlier run with {other}"
            raise UsageError(found, "Give --overwrite, or another folder")
        rmtree(folder.unfinished, ignore_errors=True)
        earlier = {key: value for key, value in earlier.items() if key not in ("explained", "failed")}
        folder.describe(earlier)  # not finished any more
        return earlier
    truncate(folder, 0)
    if _told(read_about(folder).get("options")).get("report"):  # else a file of that name is not ours
        folder.forget_report()
    rmtree(folder.unfinished, ignore_errors=True)
    folder.describe(about)
    return dict(about)


def kept(folder: RunFolder, pictures: Sequence[Picture], batch_size: int) -> int:
    """Count how many pictures of a run are done: whole batches, since what shares a pass shares its rounding.

    Lines from the first on that is missing, torn, of another picture or without its files are taken away, with their
    files.

    Raises:
        OutputError: they cannot be taken away.
    """
    ends = [0]
    for picture, (record, end) in zip(pictures, read_records(folder.manifest), strict=False):
        if record["path"] != str(picture.path) or not all(folder.has(name) for name in files_of(record)):
            break
        ends.append(end)
    done = len(ends) - 1
    if done < len(pictures):
        done -= done % batch_size
    truncate(folder, ends[done])
    return done


def truncate(folder: RunFolder, end: int) -> None:
    """Take away the lines of a manifest behind a number of bytes, and the files they tell of.

    Raises:
        OutputError: they cannot be taken away.
    """
    inside = folder.out.resolve()
    try:
        for record, line_end in read_records(folder.manifest):
            for name in filter(folder.has, files_of(record) if line_end > end else ()):
                if (folder.out / name).resolve().is_relative_to(inside):
                    (folder.out / name).unlink()
        if folder.has(folder.manifest.name):
            os.truncate(folder.manifest, end)
    except OSError as error:
        found = f"The earlier results in {str(folder.out)!r} cannot be removed ({error.strerror})"
        raise OutputError(found, "Mend its permissions, or choose another folder") from error


def read_about(folder: RunFolder) -> dict[str, Any]:
    """Read what a run was made with; nothing where that cannot be read.

    Example:
        >>> read_about(RunFolder(Path("a folder that does not exist")))
        {}
    """
    try:
        about = json.loads(folder.run.read_bytes())
    except (OSError, ValueError):
        about = {}
    return about if isinstance(about, dict) else {}


def difference(earlier: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Name the first thing that two runs were not made with alike, in words; "" where all is the same.

    Args:
        earlier: from `read_about`.
        now: likewise.
        keys: what to compare.

    Example:
        >>> difference({"options": {"format": "jpg"}}, {"options": {"format": "png"}}, ["options"])
        'another option format ("jpg")'
    """
    for key in keys:
        before, after = (_told(about.get(key)) for about in (earlier, now))
        for name in dict.fromkeys([*before, *after]):
            if name not in _IDLE and before.get(name) != after.get(name):
                was = json.dumps(before.get(name), default=str)
                return f"another {' '.join(filter(None, (key.rstrip('s'), name)))} ({was[:80]})"
    return ""


def _told(value: object) -> dict[str, Any]:
    """Values by their names, those inside others by their own."""
    if not isinstance(value, dict):
        return {"": value}
    parts = (inner if isinstance(inner, dict) else {name: inner} for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}


def _as_json(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
