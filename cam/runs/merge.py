"""The parts of a run, made by several machines, put together."""

from __future__ import annotations

import heapq
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cam.errors import UsageError
from cam.files import write_whole
from cam.runs.folder import RunFolder, read_about, runs_in
from cam.runs.manifest import Record, as_line, read_records
from cam.runs.resume import SHARED, difference


def merge_shards(outs: Sequence[Path]) -> Path:
    """Join the manifests of all parts of a run, in the order of the inputs.

    Args:
        outs: the folders that hold them; one may hold several. The results stay where they are.

    Returns:
        The manifest of the whole, in the first folder; it names files relative to there.

    Raises:
        UsageError: a part is missing, unfinished or there twice, or parts do not belong together.
        OutputError: a folder cannot be read, or the first cannot be written.

    Example:
        >>> merge_shards([Path("nowhere")])
        Traceback (most recent call last):
        cam.errors.UsageError: 'nowhere' holds no part of a run. Name the folders that were given to ...
    """
    parts = _parts(outs)
    about = _about(parts)
    whole = RunFolder(outs[0])
    states: Counter[str] = Counter()

    def lines() -> Iterator[bytes]:
        for record in _in_order(parts, outs[0]):
            states[record["status"]] += 1
            yield as_line(record)

    write_whole(whole.manifest, lines(), whole.unfinished, durable=True)
    about["options"]["shard"] = None
    whole.finish({**about, "explained": states["ok"], "failed": states["failed"]})
    return whole.manifest


def _parts(outs: Sequence[Path]) -> list[RunFolder]:
    """Find the parts in folders: each of n once."""
    parts = [run for out in dict.fromkeys(outs) for run in runs_in(out) if run.shard]
    where = ", ".join(repr(str(out)) for out in outs)
    if not parts:
        raise UsageError(f"{where} holds no part of a run", "Name the folders that were given to cam explain --shard")
    shards = Counter(part.shard for part in parts)
    count = max(shard[1] for shard in shards if shard)
    for wanted in [(index, count) for index in range(1, count + 1)]:
        if (times := shards.pop(wanted, 0)) != 1:
            found_ = f"{where} holds the part {wanted[0]}/{count} of the run {times} times"
            raise UsageError(found_, "Explain what is missing, and name each folder of a part once, and no other")
    if shards:
        raise UsageError(f"{where} holds parts of several runs", "Name the folders of one run only")
    return parts


def _about(parts: Sequence[RunFolder]) -> dict[str, Any]:
    """What all parts were made with."""
    first, *others = [read_about(part) for part in parts]
    for part, about in zip(parts, (first, *others), strict=True):
        if "explained" not in about:
            raise UsageError(f"{str(part.run)!r} is of a part that is not finished", "Give its cam explain again")
        if other := difference(about, first, SHARED):
            raise UsageError(f"{str(part.run)!r} is of a run with {other}", "Name the folders of one run only")
        if about["scale"] != first["scale"] and not math.isclose(about["scale"], first["scale"], rel_tol=1e-3):
            found = f"{str(part.run)!r} has a color scale of its own ({about['scale']:.3g})"
            raise UsageError(found, "Run all parts over the same pictures, with --overwrite")
    return first


def _in_order(parts: Sequence[RunFolder], base: Path) -> Iterator[Record]:
    joined = heapq.merge(*(_records(part, base) for part in parts), key=lambda record: int(record["index"]))
    for index, record in enumerate(joined):
        if record["index"] != index:
            found = f"The parts have no line, or two, for picture {index} of the inputs"
            raise UsageError(found, "Run all parts over the same pictures")
        yield record


def _records(part: RunFolder, base: Path) -> Iterator[Record]:
    """The lines of a part, with files named relative to the folder of the whole."""
    about = read_about(part)
    missing = int(about["explained"]) + int(about["failed"])
    for record in read_records(part.manifest):
        missing -= 1
        if part.out != base:
            for of in filter(lambda each: "files" in each, (record, *record["targets"])):
                of["files"] = {key: os.path.relpath(part.out / name, base) for key, name in of["files"].items()}
        yield record
    if missing:
        found = f"{str(part.manifest)!r} does not have the lines that its run wrote"
        raise UsageError(found, "Give its cam explain again")
