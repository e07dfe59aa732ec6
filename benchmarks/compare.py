"""Time of `cam explain` for an image, relative to other programs.

Each program is a process. It runs over all images and over the first eighth of them; the difference is the time of the
other images, without start-up. All programs take turns in each round, after a first turn that does not count. A round
gives one ratio; the table has medians and quartiles over the rounds. Peak memory is that of the run over all images.
The floor runs the unchanged network; our own floor runs it on the engine of the command.

    python benchmarks/compare.py --models squeezenet1_0 --pictures small mixed --rounds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import ParamSpec, TypeVar

import programs
from photographs import MEGAPIXELS, photographs
from tables import publish, spread, table

from cam.images.find import find_pictures

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "benchmarks"
OURS = "cam explain"
BEFORE = "cam explain (before)"
BASE, FLOOR = "torchcam-readme", "floor"


@dataclass(frozen=True)
class Cost:
    """Cost of a number of images.

    Attributes:
        wall: seconds.
        cpu: seconds of processor time, user and system.
        memory: largest resident set of a process, MiB.
        pictures: number of images.
    """

    wall: float
    cpu: float
    memory: float
    pictures: int

    def without(self, first: Cost) -> Cost:
        """Subtract the cost of start-up and the first images."""
        return Cost(self.wall - first.wall, self.cpu - first.cpu, self.memory, self.pictures - first.pictures)


@dataclass(frozen=True)
class Setting:
    """One comparison: a network and images, and a checkout of another version to compare with."""

    model: str
    weights: Path
    pictures: str
    files: Sequence[Path]
    before: Path | None = None

    def round(self, names: Sequence[str]) -> dict[str, Cost]:
        """Run all programs once."""
        costs = {}
        for program in names:
            first = self.files[: max(1, len(self.files) // 8)]
            costs[program] = self.run(program, self.files).without(self.run(program, first))
            print(f"{self.model}, {self.pictures}, {program}: {costs[program]}", file=sys.stderr, flush=True)
        return costs

    def run(self, program: str, files: Sequence[Path]) -> Cost:
        """Run one program."""
        names = list(map(str, files))
        with TemporaryDirectory() as out:
            if program.startswith(OURS):
                options = ["-m", self.model, "--weights", str(self.weights), "-o", out, "--device", "cpu", "--quiet"]
                checkout, words = (self.before, []) if program == BEFORE else (ROOT, program.split()[2:])
                return run(["-m", "cam", "explain", *names, *options, *words], len(files), checkout)
            script = str(ROOT / "benchmarks" / "programs.py")
            return run([script, program, self.model, str(self.weights), out, *names], len(files))


def run(arguments: Sequence[str], pictures: int, folder: Path | None = None) -> Cost:
    """Run Python, with the modules of a folder if one is given, and measure it and the processes that it starts.

    Raises:
        SystemExit: it failed.
    """
    started = perf_counter()
    command = [sys.executable, str(ROOT / "benchmarks" / "whole.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)  # noqa: S603
    _, status, used = os.wait4(process.pid, 0)
    wall = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments[:5])} ... ended with status {process.returncode}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, pictures)


def rows(setting: Setting, rounds: Sequence[dict[str, Cost]]) -> Iterator[list[str]]:
    """Make the rows of the table, one per program."""
    for program in rounds[0]:

        def ratios(other: str, of: Callable[[Cost], float], program: str = program) -> str:
            return spread([of(costs[program]) / of(costs[other]) for costs in rounds if other in costs])

        costs = [round_costs[program] for round_costs in rounds]
        yield [
            setting.model,
            setting.pictures,
            program,
            ratios(BASE, lambda cost: cost.wall),
            ratios(BASE, lambda cost: cost.cpu),
            ratios(FLOOR, lambda cost: cost.wall),
            ratios(own_floor(program), lambda cost: cost.wall),
            *([ratios(BEFORE, lambda cost: cost.wall)] if BEFORE in rounds[0] else []),
            f"{median(cost.pictures / cost.wall for cost in costs):.1f}",
            f"{median(cost.memory for cost in costs):.0f}",
        ]


def own_floor(program: str) -> str:
    """Name the floor with the engine of a cam command (eager by default); empty for other programs."""
    words = program.split()
    engine = words[words.index("--engine") + 1] if "--engine" in words else "eager"
    return f"{FLOOR}-{engine}" if program.startswith(OURS) else ""


def in_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in another process, so that measured processes do not inherit its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


def weights_of(model: str) -> Path:
    """The checkpoint of a model for all programs."""
    path = BUILD / f"{model}.pth"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        in_process(programs.save_weights, model, path)
    return path


def pictures_of(kind: str, count: int) -> list[Path]:
    """Generated images of a kind, or the first images of a folder."""
    if kind in MEGAPIXELS:
        return in_process(photographs, BUILD / kind, kind, count)
    return [picture.path for picture in find_pictures([kind])[:count]]


def program(name: str) -> str:
    """Check the name of a program; a cam command may have options."""
    if name in programs.PROGRAMS or name.startswith(OURS):
        return name
    raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(programs.PROGRAMS)}, {OURS!r}")


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["squeezenet1_0", "resnet18", "resnet50"])
    parser.add_argument("--pictures", nargs="+", default=list(MEGAPIXELS), help="kinds, or folders")
    parser.add_argument("--count", type=int, default=200, help="number of images, [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    names = [OURS, *programs.PROGRAMS]
    parser.add_argument("--only", nargs="+", type=program, default=names, help='such as floor "cam explain --tta"')
    parser.add_argument("--before", type=Path, help="checkout of another version, to compare cam explain with")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    return parser.parse_args()


def main() -> None:
    """Compare and write the table."""
    arguments = parse()
    BUILD.mkdir(parents=True, exist_ok=True)
    settings = [
        Setting(model, weights_of(model), kind, pictures_of(kind, arguments.count), arguments.before)
        for model, kind in product(arguments.models, arguments.pictures)
    ]
    names = [*([BEFORE] if arguments.before else []), *arguments.only]
    for setting, name in product(settings, names):
        setting.run(name, setting.files[:1])
    rounds = [[setting.round(names) for setting in settings] for _ in range(arguments.rounds)]
    titles = ["network", "pictures", "program", "wall / torchcam", "CPU / torchcam", "wall / floor", "wall / own floor"]
    titles += ["wall / before"] if arguments.before else []
    costs = [[costs[index] for costs in rounds] for index in range(len(settings))]
    body = [row for setting, setting_costs in zip(settings, costs, strict=True) for row in rows(setting, setting_costs)]
    publish(table([*titles, "pictures a second", "peak MiB"], body), arguments.table)


if __name__ == "__main__":
    main()
