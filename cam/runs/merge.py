"""Join the shards of a run, which several machines may have made."""

from __future__ import annotations

import heapq
import math
import os
from collections import ChainMap, Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cam.errors import UsageError
from cam.files import write_whole
from cam.runs.folder import RunFolder, read_run_info, runs_in
from cam.runs.manifest import Record, as_line, read_records, summarize_truth
from cam.runs.options import first_difference


def merge_shards(outs: Sequence[Path]) -> Path:
    """Join the manifests of all shards of a run, in the order of the inputs, into one in the first folder.

    A folder may hold several shards. Their results stay where they are; the manifest names them relative to its folder.
    """
    shards = _find_shards(outs)
    first = read_run_info(shards[0])
    run_infos = [_read_finished(shard, first) for shard in shards]
    counts = {name: sum(run_info[name] for run_info in run_infos) for name in ("explained", "failed")}
    correct: Counter[bool | None] = Counter()
    whole = RunFolder(outs[0])
    remedy = "Run cam explain again for all shards, over the same images"

    def lines() -> Iterator[bytes]:
        number = 0
        records = (_records(shard, outs[0]) for shard in shards)
        for number, record in enumerate(heapq.merge(*records, key=lambda record: int(record["index"])), 1):
            if record["index"] != number - 1:
                raise UsageError(f"The shards have no line, or two, for image {number - 1}", remedy)
            correct[record["correct"]] += 1
            yield as_line(record)
        if number != sum(counts.values()):
            raise UsageError(f"The shards have {number} lines for {sum(counts.values())} images", remedy)

    write_whole(whole.manifest, lines(), whole.unfinished, durable=True)
    unmatched = [run_info["truth"]["unmatched"] for run_info in run_infos if run_info["truth"]]
    truth = summarize_truth(correct, dict(ChainMap(*unmatched))) if unmatched else None
    whole.write_run_info({**first, **counts, "truth": truth})
    with suppress(OSError):  # in use
        whole.unfinished.rmdir()
    return whole.manifest


def _find_shards(outs: Sequence[Path]) -> list[RunFolder]:
    """Find the shards 1/n to n/n in folders, each once."""
    shards = [run for out in dict.fromkeys(outs) for run in runs_in(out) if run.shard]
    where = ", ".join(repr(str(out)) for out in outs)
    if not shards:
        raise UsageError(f"{where} holds no shard of a run", "Name the folders of cam explain --shard")
    numbers = sorted(shard.shard for shard in shards if shard.shard)
    expected = [(number, numbers[0][1]) for number in range(1, numbers[0][1] + 1)]
    if missing := [f"{i}/{n}" for i, n in expected if (i, n) not in numbers]:
        remedy = f"Run cam explain --shard {missing[0]}, or name its folder, too"
        raise UsageError(f"{where} holds no shard {' and no '.join(missing)}", remedy)
    if numbers != expected:
        names = ", ".join(f"{i}/{n}" for i, n in numbers)
        raise UsageError(f"{where} holds the shards {names}", "Name the folders of one run, each shard once")
    return shards


def _read_finished(shard: RunFolder, first: dict[str, Any]) -> dict[str, Any]:
    """Read run.json of a finished shard, made with the same settings and color scale as the first."""
    run_info, name = read_run_info(shard), repr(str(shard.run_file))
    if "explained" not in run_info:
        raise UsageError(f"{name} is of an unfinished run", "Run its cam explain again")
    if run_info["settings"] != first["settings"]:
        difference = first_difference(first, run_info)
        raise UsageError(f"{name} has other settings ({difference})", "Name the folders of one run")
    if run_info["scale"] != first["scale"] and not math.isclose(run_info["scale"], first["scale"], rel_tol=1e-3):
        problem = f"{name} has another color scale ({run_info['scale']:.3g}, not {first['scale']:.3g})"
        raise UsageError(problem, "Run all shards over the same images, with --overwrite")
    return run_info


def _records(shard: RunFolder, base: Path) -> Iterator[Record]:
    """Read the records of a shard, with files named relative to the folder of the whole."""
    for record in read_records(shard.manifest):
        for part in (record, *record["targets"]):
            if "files" in part:
                part["files"] = {key: os.path.relpath(shard.out / name, base) for key, name in part["files"].items()}
        yield record
