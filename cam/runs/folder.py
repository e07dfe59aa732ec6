"""The folder of a run: its lock, its run.json and its results."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from filelock import FileLock, Timeout

from cam.errors import OutputError, UsageError, reason_of
from cam.files import unwritable, write_whole
from cam.remote import Address

_UPLOAD_EVERY = 10  # seconds


@dataclass(frozen=True)
class RunFolder:
    """The folder `out`, and which of n shards a run is: (i, n), counted from 1, or None for a run over all images."""

    out: Path
    shard: tuple[int, int] | None = None
    staging: Path | None = None  # a folder of this machine for what is appended to, if `out` is at an address

    @property
    def manifest(self) -> Path:
        return (self.staging or self.out) / f"manifest{self._suffix}.jsonl"

    @property
    def run_file(self) -> Path:
        return self.out / f"run{self._suffix}.json"

    @property
    def unfinished(self) -> Path:
        return (self.staging or self.out) / f".unfinished{self._suffix}"

    @property
    def _suffix(self) -> str:
        return f".{self.shard[0]}-of-{self.shard[1]}" if self.shard else ""

    def write(self, name: str, data: bytes) -> None:
        """Write one of the results, whole or not at all."""
        write_whole(self.out / name, data, self.unfinished)

    def write_run_info(self, run_info: Mapping[str, Any]) -> None:
        """Write run.json."""
        data = (json.dumps(run_info, indent=2) + "\n").encode()
        write_whole(self.run_file, data, self.unfinished, durable=True)

    def has(self, name: str) -> bool:
        """True if it holds a file of that name that is not empty, as a power cut may leave one."""
        path = self.out / name
        if isinstance(path, Address):
            with suppress(OSError):
                return path.stat().st_size > 0
            return False
        return os.path.isfile(path) and os.path.getsize(path) > 0  # noqa: PTH113, PTH202 - pathlib raises without permission

    def publish(self) -> None:
        """Upload the manifest, if the results are at an address."""
        if isinstance(self.out, Address) and self.manifest.exists():
            write_whole(self.out / self.manifest.name, self.manifest.read_bytes())

    @contextmanager
    def staged(self) -> Iterator[RunFolder]:
        """For results at an address, keep the manifest here, and upload it from time to time, and at the end."""
        if not isinstance(self.out, Address):
            yield self
            return
        with TemporaryDirectory(prefix="cam-") as name:
            staged, ended = replace(self, staging=Path(name)), threading.Event()
            try:
                staged.manifest.write_bytes((self.out / staged.manifest.name).read_bytes())
            except FileNotFoundError:  # a new run
                pass
            except OSError as error:
                problem = f"{str(self.out)!r} cannot be read ({reason_of(error)})"
                raise OutputError(problem, "Check the address and your permissions") from error

            def upload() -> None:
                pause: float = _UPLOAD_EVERY
                while not ended.wait(pause):
                    started = monotonic()
                    with suppress(OutputError):  # the last one counts
                        staged.publish()
                    pause = max(_UPLOAD_EVERY, 20 * (monotonic() - started))  # a long manifest takes long

            thread = threading.Thread(target=upload, daemon=True)
            thread.start()
            try:
                yield staged
            finally:
                ended.set()
                thread.join()
                staged.publish()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the same run; at an address nothing does."""
        if isinstance(self.out, Address):
            yield
            return
        lock = FileLock(self.out / f".lock{self._suffix}", timeout=0)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UsageError(f"Another cam explain is writing to {str(self.out)!r}", "Wait until it ends") from None
        except (OSError, ValueError) as error:
            raise unwritable(self.out, error, "--out ") from error
        try:
            yield
        finally:
            for remove in (self.unfinished.rmdir, Path(lock.lock_file).unlink):
                with suppress(OSError):  # missing, or in use
                    remove()
            lock.release()


def read_run_info(folder: RunFolder) -> dict[str, Any]:
    """Read run.json; empty if it cannot be read."""
    try:
        run_info = json.loads(folder.run_file.read_bytes())
    except (OSError, ValueError):
        run_info = {}
    return run_info if isinstance(run_info, dict) else {}


def open_finished(out: Path) -> tuple[RunFolder, dict[str, Any]]:
    """Open the folder of a finished run, and read its run.json; UsageError without one that explained an image."""
    folder = RunFolder(out)
    run_info = read_run_info(folder)
    if "explained" not in run_info:
        remedy = "Name the folder of a finished run; for a run made with --shard, use cam merge first"
        raise UsageError(f"{str(out)!r} contains no finished run", remedy)
    if not run_info["explained"]:
        raise UsageError(f"The run in {str(out)!r} explained no image", "See manifest.jsonl for the errors")
    return folder, run_info


def fingerprint(run_info: Mapping[str, Any]) -> str:
    """Hash run.json: what is made of a run keeps it, and is out of date once the run is another."""
    return sha256(json.dumps(run_info, sort_keys=True).encode()).hexdigest()


def runs_in(out: Path) -> list[RunFolder]:
    """Find the runs in a folder: one over all images, shards, or both."""
    names = (re.fullmatch(r"run(?:\.([0-9]+)-of-([0-9]+))?\.json", path.name) for path in sorted(out.glob("run*.json")))
    return [RunFolder(out, (int(name[1]), int(name[2])) if name[1] else None) for name in names if name]
