"""The folder of a run: its own files, and what is known of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from filelock import FileLock, Timeout

from cam.errors import UsageError
from cam.files import unwritable, write_whole
from cam.runs.manifest import MANIFEST

RUN = "run.json"

REPORT = "report.html"

THUMBNAILS = "report/thumbnails"


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
        data = (json.dumps(about, indent=2, default=as_json) + "\n").encode()
        write_whole(self.run, data, self.unfinished, durable=True)

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
            OutputError: it cannot be written; DiskFullError if nothing could.
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
            rmtree(self.out / THUMBNAILS, ignore_errors=True)
        except OSError as error:
            raise unwritable(page, error) from error

    def has(self, name: str) -> bool:
        """Tell whether it holds a file of that name."""
        return os.path.isfile(self.out / name)  # noqa: PTH113 - Path.is_file raises where a folder may not be entered

    def _named(self, name: str) -> str:
        stem, dot, suffix = name.rpartition(".")
        return f"{stem}.{self.shard[0]}-of-{self.shard[1]}{dot}{suffix}" if self.shard else name


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


def runs_in(out: Path) -> list[RunFolder]:
    """Find the runs of which a folder holds the results: one of everything, shards, or both.

    Example:
        >>> runs_in(Path("a folder that does not exist"))
        []
    """
    names = (re.fullmatch(r"run(?:\.([0-9]+)-of-([0-9]+))?\.json", path.name) for path in sorted(out.glob("run*.json")))
    return [RunFolder(out, (int(name[1]), int(name[2])) if name[1] else None) for name in names if name]


def as_json(value: object) -> object:
    """Give what JSON has no word for as one that it has.

    Example:
        >>> as_json(frozenset({"b", "a"})), as_json(Path("c"))
        (['a', 'b'], 'c')
    """
    return sorted(value) if isinstance(value, frozenset) else str(value)
