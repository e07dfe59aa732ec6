"""Where the time of `cam explain` goes: its run over a folder in this process, with a clock around each part.

Milliseconds of a thread, and of its processor time, a picture; a part's time holds those of the parts inside it. What
is decoded within a time limit is decoded in a thread of its own, whose processor time does not show here.

    python benchmarks/parts.py --pictures mixed --count 120
"""

from __future__ import annotations

import argparse
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, thread_time
from typing import Any
from unittest.mock import patch

from compare import pictures_of, weights_of
from tables import publish, table

from cam import batch, chain, explanation, passes, pipeline, writing
from cam.allocator import keep_memory
from cam.classifiers import Classifier, load_classifier
from cam.eager import EagerEngine
from cam.inputs import Picture, find_pictures
from cam.options import Options
from cam.preprocessing import Preprocessing
from cam.resuming import RunFolder

# Of each part: its name in the table, and where the program looks it up.
PARTS: dict[str, tuple[Any, str]] = {
    "decode": (chain, "read_picture"),
    "prepare": (Preprocessing, "prepare"),
    "network": (EagerEngine, "__call__"),
    "network, and what is told of it": (passes, "_run"),
    "maps and explanations": (pipeline, "answer"),
    "legend": (explanation, "with_legend"),
    "heat over the photograph": (explanation, "draw"),
    "encode": (writing, "encode"),
    "peak, boxes, line of the manifest": (writing, "_target"),
    "write": (RunFolder, "write"),
}
ALL = "all"


class Clock:
    """Seconds of each part, wall and processor time, of all threads together."""

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


def measure(classifier: Classifier, pictures: Sequence[Picture]) -> Clock:
    """Run over pictures with a clock around each part."""
    clock = Clock()
    with ExitStack() as changed, TemporaryDirectory() as out:
        for name, (place, attribute) in PARTS.items():
            changed.enter_context(patch.object(place, attribute, clock.around(name, getattr(place, attribute))))
        wall, cpu = perf_counter(), process_time()
        batch.explain_folder(classifier, pictures, Path(out), Options(engine="eager"))
        clock.wall[ALL], clock.cpu[ALL] = perf_counter() - wall, process_time() - cpu
    return clock


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="squeezenet1_0", help="[default: %(default)s]")
    parser.add_argument("--pictures", nargs="+", default=["small", "mixed"], help="kinds, or folders")
    parser.add_argument("--count", type=int, default=120, help="of pictures, [default: %(default)s]")
    parser.add_argument("--table", help="put it on the page, at the mark of this name; else it is printed")
    arguments = parser.parse_args()
    keep_memory()
    classifier = load_classifier(arguments.model, weights=weights_of(arguments.model), device="cpu")
    rows = []
    for kind in arguments.pictures:
        pictures = find_pictures(list(map(str, pictures_of(kind, arguments.count))))
        clock = measure(classifier, pictures)
        for name in [*PARTS, ALL]:
            each = (f"{1000 * seconds[name] / len(pictures):.1f}" for seconds in (clock.wall, clock.cpu))
            rows.append([kind, name, *each])
    publish(table(["pictures", "part", "wall, ms", "processor, ms"], rows), arguments.table)


if __name__ == "__main__":
    main()
