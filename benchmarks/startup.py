"""Time of `cam explain` for one image with a network seen before and a new one, and of torchcam's README script.

The floor is a process that imports torch and torchvision, builds the network, loads its weights and runs it once. All
take turns, as processes with one thread, with the same random weights from a file. Each round gives ratios of processor
time (user and system) and of wall time to the floor.

    python benchmarks/startup.py squeezenet1_0 resnet18 resnet50
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

from programs import save_weights
from tables import publish, spread, table

ROOT = Path(__file__).parents[1]
FLOOR = """
import sys, torch, torchvision
network = torchvision.models.get_model(sys.argv[1], weights=None).eval()
network.load_state_dict(torch.load(sys.argv[2], weights_only=True))
with torch.inference_mode():
    network(torch.zeros(1, 3, 224, 224))
"""
PROGRAMS = "floor", "cam explain", "cam explain, new network", "torchcam"


def run(arguments: Sequence[str], cache: Path) -> tuple[float, float]:
    """Run Python with these arguments and this folder for caches: processor and wall seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, wall


def rounds(model: str, picture: Path, number: int) -> Iterator[list[tuple[float, float]]]:
    """Time all programs in turns, after one turn that does not count.

    Args:
        model: a ResNet or SqueezeNet of torchvision.
        picture: the image to explain.
        number: of rounds.
    """
    with TemporaryDirectory() as folder:
        cache, weights, out = Path(folder, "cache"), Path(folder, "weights.pth"), Path(folder, "out")
        save_weights(model, weights)
        command = ["-m", "cam", "explain", str(picture), "-m", model, "--weights", str(weights), "-o", str(out)]
        command += ["--overwrite", "--device", "cpu"]
        readme = [str(ROOT / "benchmarks" / "programs.py"), "torchcam-readme", model]
        readme += [str(path) for path in (weights, out, picture)]
        for count in range(number + 1):
            times = [run(("-c", FLOOR, model, str(weights)), cache), run(command, cache)]
            times += [run(command, Path(folder, f"new-{count}")), run(readme, cache)]
            if count:
                yield times


def main() -> None:
    """Write a table: the time of each program and its ratio to the floor, medians and quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["squeezenet1_0", "resnet18", "resnet50"])
    parser.add_argument("--picture", type=Path, default=ROOT / "samples" / "sevens.png")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        timed = list(rounds(model, arguments.picture, arguments.rounds))
        for index, kind in enumerate(("processor", "wall")):
            floor, *others = ([times[index] for times in program] for program in zip(*timed, strict=True))
            rows.append([model, PROGRAMS[0], kind, f"{median(floor):.2f}", "1"])
            for name, seconds in zip(PROGRAMS[1:], others, strict=True):
                ratios = [second / base for second, base in zip(seconds, floor, strict=True)]
                rows.append([model, name, kind, f"{median(seconds):.2f}", spread(ratios)])
    publish(table(["model", "program", "time", "seconds", "ratio"], rows), arguments.table)


if __name__ == "__main__":
    main()
