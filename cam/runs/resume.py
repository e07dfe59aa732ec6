"""A run in its folder: begun, gone on with where it was, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import Any

from cam.errors import OutputError, UsageError
from cam.images.content import as_fields
from cam.images.find import Picture
from cam.runs.folder import RunFolder, as_json, read_about, runs_in
from cam.runs.manifest import Record, arrange, files_of, read_records

# What must be the same for a run to go on. Arguments that change no result are not among them.
_SAME = (
    "versions",
    "model",
    "weights",
    "preprocessing",
    "head",
    "device",
    "dtype",
    "arguments",
    "options",
    "directory",
)

SHARED = ("model", "weights", "preprocessing", "head", "options")  # by the parts of a run

_IDLE = {"quiet", "json", "overwrite", "on_error", "on-error", "file", "out", "shard", "truth", "timeout", "seconds"}


@dataclass(frozen=True)
class Left:
    """What is left to do of a run.

    Attributes:
        done: how many pictures are done.
        batches: those that are not done, with the indices that their lines shall have.
    """

    done: int
    batches: list[tuple[tuple[int, Picture], ...]]


def begin(
    folder: RunFolder, about: Mapping[str, Any], pictures: Sequence[Picture], *, overwrite: bool
) -> tuple[dict[str, Any], int]:
    """Begin a run in a folder, or go on with one that was made with the same.

    Args:
        folder: it need not exist.
        about: what the run is made with.
        pictures: of all its parts.
        overwrite: whether the results of an earlier run may go; one that made nothing may always.

    Returns:
        What is known of the run: `about`, and of one that is gone on with all that it had found out; and how many
        pictures that had results are not there any more.

    Raises:
        UsageError: it holds a run that was made with something else, or over pictures that are out of reach now, or a
            manifest that is no run's.
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
    earlier = read_about(folder)
    emptied = "explained" in earlier and not any(read_records(folder.manifest))
    if not (overwrite or emptied or earlier.get("scale", 0) == 0 or difference(earlier, now, _SAME)):
        return _gone_on_with(folder, earlier, pictures)
    folder.describe(about)  # first: should it end here, what it had found out must not be taken for ours
    keep(folder, {})
    if _flatten(earlier.get("options")).get("outputs"):  # else a file of that name is not ours
        folder.forget_report()
    rmtree(folder.unfinished, ignore_errors=True)
    return dict(about), 0


def _check_reach(folder: RunFolder, pictures: Sequence[Picture]) -> int:
    """See to it that no results go because a disk, a folder or an archive cannot be looked into; how many go."""
    there = {str(picture.path) for picture in pictures}
    made = [record["path"] for record in read_records(folder.manifest) if files_of(record)]
    gone = [path for path in made if path not in there]
    unreached = [path for path in gone if any(_closed(place, there) for place in Path(path).parents)]
    if unreached or 2 * len(gone) > len(made):
        some = f"{len(unreached or gone)} of {len(made)} pictures, such as {(unreached or gone)[0]!r}"
        found = f"{str(folder.out)!r} holds the results of {some}, that are not to be found any more"
        raise UsageError(found, "Bring them back, or give --overwrite or another folder")
    return len(gone)


def _closed(place: Path, there: set[str]) -> bool:
    """Tell whether it cannot be looked into: it stands for itself among the pictures, or leads nowhere."""
    locked = os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK)  # noqa: PTH112 - it raises nothing
    return str(place) in there or locked or (os.path.islink(place) and not os.path.exists(place))  # noqa: PTH110, PTH114


def _gone_on_with(
    folder: RunFolder, earlier: dict[str, Any], pictures: Sequence[Picture]
) -> tuple[dict[str, Any], int]:
    """Take up a run; of one that was at its end, what failed through no fault of a picture is to be tried again."""
    gone = _check_reach(folder, pictures)
    if "explained" in earlier:
        retry = {str(record.get("name")): bool(record.get("retry")) for record in read_records(folder.manifest)}
        if any(retry.values()):
            keep(folder, {name: number for number, name in enumerate(retry) if not retry[name]})
    rmtree(folder.unfinished, ignore_errors=True)
    earlier = {key: value for key, value in earlier.items() if key not in ("explained", "failed")}
    folder.describe(earlier)  # not at its end any more
    return earlier, gone


def _other(run: RunFolder, folder: RunFolder, now: Mapping[str, Any]) -> str:
    """Name what keeps a run in a folder from being gone on with, or from being joined by another part."""
    if run.shard and folder.shard and run.shard[1] != folder.shard[1]:
        return f"{run.shard[1]} parts"
    return difference(read_about(run), now, _SAME if run.shard == folder.shard else SHARED)


def _made(folder: RunFolder) -> bool:
    return any(files_of(record) for record in read_records(folder.manifest))


def resume(folder: RunFolder, pictures: Sequence[tuple[int, Picture]], batch_size: int) -> Left:
    """Find out what is done of a run and what is left, and take away what does not hold any more.

    A picture is done when it has a line, and the files that it tells of, and its own file is what it was then. A batch
    is done when all of its pictures are: what shares a pass shares its rounding.

    Args:
        folder: of the run.
        pictures: all of the run, with the indices that their lines shall have.
        batch_size: how many share a pass.

    Raises:
        OutputError: what does not hold any more cannot be taken away.
    """
    by_name = {str(picture.name): picture for _, picture in pictures} if folder.manifest.exists() else {}
    holds: dict[str, bool] = {}
    for record in read_records(folder.manifest):
        name = str(record.get("name"))
        if name in by_name and name not in holds:
            holds[name] = _holds(folder, record, by_name[name])
    batches = [tuple(pictures[start : start + batch_size]) for start in range(0, len(pictures), batch_size)]
    left = [batch for batch in batches if not all(holds.get(str(picture.name)) for _, picture in batch)]
    indices = {str(picture.name): index for index, picture in pictures if holds.get(str(picture.name))}
    for _, picture in chain.from_iterable(left):
        indices.pop(str(picture.name), None)
    keep(folder, indices)
    return Left(len(indices), left)


def _holds(folder: RunFolder, record: Record, picture: Picture) -> bool:
    """Tell whether the line of a picture still says what there is."""
    if record["path"] != str(picture.path) or not all(map(folder.has, files_of(record))):
        return False
    now = as_fields(picture.current_fingerprint())
    unknown = record.get("retry") and record.get("bytes") is None
    return bool(unknown) or all(record.get(key) == value for key, value in now.items())


def keep(folder: RunFolder, indices: Mapping[str, int]) -> None:
    """Keep the lines of some pictures in the manifest, in order, and take away the others with the files they tell of.

    Args:
        folder: of the run.
        indices: of the pictures to keep, by their names.

    Raises:
        OutputError: the others cannot be taken away.
    """
    inside = folder.out.resolve()
    try:
        for record in read_records(folder.manifest):
            for name in filter(folder.has, () if str(record.get("name")) in indices else files_of(record)):
                if (folder.out / name).resolve().is_relative_to(inside):
                    (folder.out / name).unlink()
    except OSError as error:
        found = f"The earlier results in {str(folder.out)!r} cannot be removed ({error.strerror})"
        raise OutputError(found, "Mend its permissions, or choose another folder") from error
    arrange(folder.manifest, indices, folder.unfinished)


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
        before, after = (_flatten(about.get(key)) for about in (earlier, now))
        for name in dict.fromkeys([*before, *after]):
            if name not in _IDLE and before.get(name) != after.get(name):
                was = json.dumps(before.get(name), default=str)
                return f"another {_called(key, name)} ({was[:80]})"
    return ""


def _called(key: str, name: str) -> str:
    if key == "arguments":
        return "choice of inputs" if name == "inputs" else f"--{name}"
    return " ".join(filter(None, (key.rstrip("s"), name)))


def _flatten(value: object) -> dict[str, Any]:
    """Values by their names, those inside others by their own."""
    if not isinstance(value, dict):
        return {"": value}
    parts = (inner if isinstance(inner, dict) else {name: inner} for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}
