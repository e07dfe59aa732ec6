"""A run in its folder: begun, gone on with where it was, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from shutil import rmtree
from typing import Any

from cam.errors import OutputError, UsageError
from cam.inputs import Picture
from cam.manifest import files_of, read_records
from cam.run_folder import RunFolder, as_json, read_about, runs_in

# What must be the same for a run to go on. Arguments that change no result are not among them.
_SAME = (
    "versions",
    "model",
    "weights",
    "preprocessing",
    "head",
    "device",
    "dtype",
    "options",
    "arguments",
    "directory",
)
SHARED = ("model", "weights", "preprocessing", "head", "options")  # by the parts of a run
_IDLE = {"quiet", "as_json", "overwrite", "on_error", "file", "out", "shard", "truth"}


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
    now = json.loads(json.dumps(about, default=as_json))
    for run in () if overwrite else runs_in(folder.out):
        if _made(run) and (other := _other(run, folder, now)):
            found = f"{str(folder.out)!r} holds the results of an earlier run with {other}"
            raise UsageError(found, "Give --overwrite, or another folder")
    if _made(folder) and not overwrite:
        earlier = read_about(folder)
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


def _other(run: RunFolder, folder: RunFolder, now: Mapping[str, Any]) -> str:
    """Name what keeps a run in a folder from being gone on with, or from being joined by another part."""
    if run.shard and folder.shard and run.shard[1] != folder.shard[1]:
        return f"{run.shard[1]} parts"
    return difference(read_about(run), now, _SAME if run.shard == folder.shard else SHARED)


def _made(folder: RunFolder) -> bool:
    return any(files_of(record) for record, _ in read_records(folder.manifest))


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
