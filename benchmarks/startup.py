"""Time of `cam explain` for one image, relative to its network alone.

The floor is a process that imports torch and torchvision, builds the network, loads weights if any, and runs it once.
Floor and command take turns, as processes with one thread. Each pair gives a ratio of processor time (user and system)
and of wall time. The model is loaded once before, so that its head is in the cache.

    python benchmarks/startup.py squeezenet1_0 resnet50:random
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tables import publish, spread, table

ROOT = Path(__file__).parents[1]
FLOOR = """
import sys, torch, torchvision
network = torchvision.models.get_model(sys.argv[1], weights=sys.argv[2] or None).eval()
with torch.inference_mode():
    network(torch.zeros(1, 3, 224, 224))
"""


def run(arguments: Sequence[str], cache: Path) -> tuple[float, float]:
    """Run Python with these arguments and this folder for caches: processor and wall seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, wall


def rounds(model: str, picture: Path, number: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Time the floor and the command in turns, after one turn that does not count.

    Args:
        model: a torchvision builder; with `:random` after it for random weights.
        picture: the image to explain.
        number: of rounds.
    """
    name, _, weights = model.partition(":")
    with TemporaryDirectory() as folder:
        cache, out = Path(folder, "cache"), str(Path(folder, "out"))
        floor = "-c", FLOOR, name, "" if weights else "DEFAULT"
        command = ["-m", "cam", "explain", str(picture), "-m", name, "-o", out, "--overwrite", "--device", "cpu"]
        command += ["--no-weights"] * bool(weights)
        for count in range(number + 1):
            pair = run(floor, cache), run(command, cache)
            if count:
                yield pair


def main() -> None:
    """Write a table: floor, command and ratio, medians and quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["squeezenet1_0", "resnet50:random"])
    parser.add_argument("--picture", type=Path, default=ROOT / "samples" / "sevens.png")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        pairs = list(rounds(model, arguments.picture, arguments.rounds))
        for index, kind in enumerate(("processor", "wall")):
            floors, ours = ([times[index] for times in side] for side in zip(*pairs, strict=True))
            ratios = [ours / floor for floor, ours in zip(floors, ours, strict=True)]
            rows.append([model, kind, f"{median(floors):.2f}", f"{median(ours):.2f}", spread(ratios)])
    publish(table(["model", "time", "floor, s", "cam explain, s", "ratio"], rows), arguments.table)


if __name__ == "__main__":
    main()
