"""Time of each part of `cam explain` and of its floor, both in this process, with a clock around each part.

In milliseconds of a thread and of its processor time, per image. The time of a part includes the parts inside it. The
total is the time of the workers for their batches, without start-up and without idle workers at the end. The programs
take turns in each round; the table has medians.

    python benchmarks/parts.py --pictures mixed --count 120
"""

from __future__ import annotations

import argparse
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any
from unittest.mock import patch

from compare import pictures_of, weights_of
from programs import floor
from tables import publish, spread, table

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.classifiers.preprocessing import Preprocessing
from cam.cli.process import keep_memory
from cam.engines.eager import EagerEngine
from cam.explanations import explain as explaining
from cam.explanations import explanation, forward
from cam.images import io, read
from cam.images.find import find_pictures
from cam.runs import run, workers
from cam.runs.folder import RunFolder
from cam.runs.options import RunOptions

# Each part: its name in the table, and where the programs look it up.
PARTS: dict[str, Sequence[tuple[Any, str]]] = {
    "decode": [(read, "read_content"), (read, "decode_image")],
    "prepare": [(Preprocessing, "resize_and_crop"), (Preprocessing, "normalize")],
    "network": [(EagerEngine, "__call__")],
    "inputs, network, fetching results": [(forward, "_run")],
    "maps and explanations": [(explaining, "compute_maps"), (explaining, "build_explanations")],
    "legend": [(explanation, "make_legend")],
    "heat over the photograph": [(explanation, "draw_planes")],
    "encode": [(explanation, "encode_planes"), (io, "encode")],
    "peak, boxes, line of the manifest": [(explanation.Explanation, "to_dict")],
    "write": [(RunFolder, "write"), (io, "write_whole")],
}
ALL = "all of it"
_POOLS: Sequence[Any] = (run, workers)


class Clock:
    """Wall and processor seconds of each part, summed over all threads."""

    def __init__(self) -> None:
        self.wall: defaultdict[str, float] = defaultdict(float)
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Measure every call of a function."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = perf_counter(), thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                with self._lock:
                    self.wall[name] += perf_counter() - wall
                    self.cpu[name] += thread_time() - cpu

        return measured

    def times(self, name: str) -> tuple[float, float]:
        """The wall and the processor time of a part."""
        return self.wall[name], self.cpu[name]

    def everywhere(self) -> ExitStack:
        """Measure each part and the work of the workers, until the context ends."""
        patches, in_order = ExitStack(), workers.in_order

        def pool(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
            return in_order(self.around(ALL, work), *args, **kwargs)

        for name, functions in PARTS.items():
            for owner, attribute in functions:
                timed = self.around(name, getattr(owner, attribute))
                patches.enter_context(patch.object(owner, attribute, timed))
        for module in _POOLS:
            patches.enter_context(patch.object(module, "in_order", pool))
        return patches


def explain(classifier: Classifier, files: Sequence[Path], out: Path) -> None:
    """Run `cam explain`."""
    run.explain_folder(classifier, find_pictures(list(map(str, files))), out, RunOptions(engine="eager"))


def measure(program: Callable[[Path], None]) -> Clock:
    """Run a program that writes into a folder, with a clock around each part."""
    clock = Clock()
    with clock.everywhere(), TemporaryDirectory() as out:
        program(Path(out))
    # Decoding has its own thread; the worker that waits for it uses no processor time.
    clock.cpu[ALL] += clock.cpu["decode"]
    return clock


def rows(kind: str, count: int, rounds: Sequence[tuple[Clock, Clock]]) -> Iterator[list[str]]:
    """Make the rows of the table, one per part, from the clocks of the command and of its floor."""
    for name in [*PARTS, ALL]:
        times = [[clocks[program].times(name) for clocks in rounds] for program in (0, 1)]
        medians = [median(seconds) for program in times for seconds in zip(*program, strict=True)]
        yield [kind, name, *(f"{1000 * seconds / count:.1f}" if seconds else "-" for seconds in medians)]
    wall, cpu = ([ours.times(ALL)[n] / bare.times(ALL)[n] for ours, bare in rounds] for n in (0, 1))
    yield [kind, f"{ALL}, over the floor", spread(wall), spread(cpu), "1", "1"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="squeezenet1_0", help="[default: %(default)s]")
    parser.add_argument("--pictures", nargs="+", default=["small", "mixed"], help="kinds, or folders")
    parser.add_argument("--count", type=int, default=120, help="number of images, [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    keep_memory()
    weights = weights_of(arguments.model)
    classifier = load_classifier(arguments.model, weights=weights, device="cpu")
    body: list[list[str]] = []
    for kind in arguments.pictures:
        files = pictures_of(kind, arguments.count)
        bare = partial(floor, arguments.model, weights, files=files, engine="eager")
        ours = partial(explain, classifier, files)
        rounds = [(measure(ours), measure(bare)) for _ in range(arguments.rounds + 1)]
        body += rows(kind, len(files), rounds[1:])  # without the first, which allocates memory
    titles = ["pictures", "part", "wall, ms", "processor, ms", "floor: wall, ms", "floor: processor, ms"]
    publish(table(titles, body), arguments.table)


if __name__ == "__main__":
    main()
