"""Time of `cam explain --ray` against the local run with the same cores, start-up apart.

Both take turns as whole processes, over a few images and over many; the difference is the time of the images alone.
Each round gives ratios of wall time and of processor time (user and system, of all processes of the local cluster).

    python benchmarks/cluster.py --count 5000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from photographs import photographs
from programs import save_weights
from tables import publish, spread, table

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY = 0.1  # seconds between two looks at the processes: what one uses after the last is missed
FEW = 100  # images


def run(folder: Path, model: str, weights: Path, out: Path, *arguments: str) -> tuple[float, float]:
    """Explain a folder: wall and processor seconds until all processes have ended."""
    command = [sys.executable, "-m", "cam", "explain", str(folder), "-m", model, "--weights", str(weights)]
    command += ["-o", str(out), "--overwrite", "--device", "cpu", "--engine", "eager", "--quiet", *arguments]
    started = time.perf_counter()
    used: dict[int, float] = {}
    with subprocess.Popen(command) as process:  # noqa: S603
        while process.poll() is None:
            used |= processor_seconds(process.pid)
            time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - started, sum(used.values())


def processor_seconds(root: int) -> dict[int, float]:
    """User and system seconds of a process and of all below it, by their numbers (Linux)."""
    known: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            known[int(path.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    below = {root}
    while more := {process for process, (parent, _) in known.items() if parent in below} - below:
        below |= more
    return {process: known[process][1] for process in below if process in known}


def link(originals: list[Path], folder: Path, count: int) -> Path:
    """Make a folder of so many images, of the same few files again and again."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").hardlink_to(originals[number % len(originals)])
    return folder


def main() -> None:
    """Print a table: the time of a local run, and the ratio of the cluster's to it, medians and quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="squeezenet1_0")
    parser.add_argument("--pictures", default="small", help="kind of photographs, [default: %(default)s]")
    parser.add_argument("--count", type=int, default=5000, help="number of images, [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, ...]]] = {"": [], "--ray": []}
    with TemporaryDirectory() as name:
        room = Path(name)
        weights = room / "weights.pth"
        save_weights(arguments.model, weights)
        originals = photographs(room / "photographs", arguments.pictures, min(200, arguments.count))
        folders = [link(originals, room / str(count), count) for count in (FEW, arguments.count)]
        for round_ in range(arguments.rounds):
            for option in sorted(times, reverse=round_ % 2 == 1):
                few, many = (run(folder, arguments.model, weights, room / "out", *option.split()) for folder in folders)
                times[option].append((*few, *(b - a for a, b in zip(few, many, strict=True))))
                print(option or "local", *times[option][-1], file=sys.stderr)
    rows = []
    for column, kind in enumerate(("wall, start-up", "processor, start-up", "wall, images", "processor, images")):
        local, ray = ([round_[column] for round_ in times[option]] for option in times)
        rows.append([kind, spread(local, 1), spread(ray, 1), spread([b / a for a, b in zip(local, ray, strict=True)])])
    publish(table(("", "local, s", "--ray, s", "ratio"), rows), arguments.table)


if __name__ == "__main__":
    main()
