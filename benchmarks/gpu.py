"""Images per second on one machine: each part alone, then `cam explain` end to end.

Decoding, drawing and encoding run on all cores, the network and the maps on the device, where the inputs are already.
End to end, `cam explain` runs in one or several processes; the rate is that of the files between a fifth and nine
tenths of them, without start-up.

    python benchmarks/gpu.py --processes 1 4
    python benchmarks/gpu.py --tiny
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from compare import ROOT, pictures_of, run, weights_of
from tables import publish, table

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.engines.checked import EngineName, make_engine
from cam.engines.eager import Precision
from cam.explanations.explain import explain_images
from cam.explanations.options import TopClasses
from cam.heads.copies import random_inputs
from cam.images.find import Picture, find_pictures
from cam.images.io import encode
from cam.images.read import Limits, read_picture
from cam.maps.activation import class_activation_maps
from cam.runs.batches import paint_on_device
from cam.runs.workers import in_order
from cam.tensors import synchronize

TITLES = ["network", "engine, precision", "part", "images a second", "peak GPU MiB"]
_DIFFERENT = 200  # images; the others are links to them
_MIDDLE = 0.2, 0.9  # of the files, between which the rate is measured
_STYLE: dict[str, Any] = {"vmax": None, "opacity": 0.85, "colormap": "signed", "photo": "gray"}


def rate(work: Callable[[], object], images: int, seconds: float, device: torch.device) -> float:
    """Images per second of work that handles a number of images, repeated for some seconds after one call."""
    work()
    synchronize(device)
    calls, started = 0, perf_counter()
    while (passed := perf_counter() - started) < seconds:
        work()
        synchronize(device)
        calls += 1
    return calls * images / passed


def on_all_cores(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Call a function for each item, with a worker per core."""
    for _ in in_order(work, items):
        pass


def parts_on_cores(classifier: Classifier, pictures: Sequence[Picture], seconds: float) -> Iterator[tuple[str, float]]:
    """Rates of what the cores do, and of painting on the device."""
    cpu, device = torch.device("cpu"), next(classifier.network.parameters()).device
    limits = Limits()
    images = [read_picture(picture, limits).image for picture in pictures]
    results = list(explain_images(classifier, images, [[TopClasses(1)]] * len(images)))
    explained = [result.explanations[0] for result in results]  # type: ignore[union-attr]
    yield "decode", rate(lambda: on_all_cores(lambda p: read_picture(p, limits), pictures), len(pictures), seconds, cpu)
    yield "encode", rate(lambda: on_all_cores(lambda i: encode(i, ".jpg"), images), len(images), seconds, cpu)
    drawn = rate(lambda: on_all_cores(lambda e: e.encode(".jpg"), explained), len(explained), seconds, cpu)
    yield "draw and encode, by cores", drawn
    if device.type == "cuda":
        work = lambda: paint_on_device(explained, device, **_STYLE)  # noqa: E731
        yield "paint heat, on the device", rate(work, len(explained), seconds, device)


def parts_on_device(
    classifier: Classifier, engine: EngineName, precision: Precision, batch: int, seconds: float
) -> Iterator[tuple[str, float]]:
    """Rates of the forward pass and of the maps of the five likeliest classes."""
    device, shape = next(classifier.network.parameters()).device, classifier.preprocessing.input_shape
    forward = make_engine(engine, classifier.network, classifier.head, shape, precision=precision)
    inputs = random_inputs(batch, shape).to(device).contiguous(memory_format=torch.channels_last)
    yield "forward", rate(lambda: forward(inputs), batch, seconds, device)
    logits, features = forward(inputs)
    rows = classifier.exact_head("The benchmark").weight[logits.topk(5).indices]
    yield "maps of 5 classes", rate(lambda: class_activation_maps(features, rows), batch, seconds, device)


def end_to_end(
    model: str,
    weights: Path,
    folder: Path,
    engine: EngineName,
    precision: Precision,
    processes: int,
    device: str,
) -> tuple[float, float]:
    """Images per second that `cam explain` writes in the middle of a run, and its largest GPU memory, MiB."""
    options = ["-m", model, "--weights", str(weights), "--device", device, "--engine", engine, "--precision", precision]
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    memory = 0.0
    with TemporaryDirectory() as out, ThreadPoolExecutor(1) as pool:
        command = ["-m", "cam", "explain", str(folder), "-o", out, "--quiet", *options, "--processes", str(processes)]
        job = pool.submit(run, command, 0, ROOT)
        while wait([job], 0.05).not_done:
            memory = max(memory, (free - torch.cuda.mem_get_info()[0]) / 2**20 if device == "cuda" else 0.0)
        job.result()
        written = sorted(path.stat().st_mtime for path in Path(out).glob("*.jpg"))
    first, last = (int(share * (len(written) - 1)) for share in _MIDDLE)
    return (last - first) / max(written[last] - written[first], 1e-6), memory


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "squeezenet1_0"])
    parser.add_argument("--pictures", default="small", help="a kind, or a folder")
    parser.add_argument("--count", type=int, default=8000, help="number of images, [default: %(default)s]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], help="of cam explain")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each part, [default: %(default)s]")
    parser.add_argument("--tiny", action="store_true", help="few images on the CPU, to see that it works")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    device, batch = "cuda", 256
    variants: list[tuple[EngineName, Precision]] = [
        ("eager", "float32"),
        ("eager", "bfloat16"),
        ("compile", "bfloat16"),
    ]
    if arguments.tiny:
        device, batch, variants = "cpu", 4, variants[:1]
        arguments.count, arguments.seconds, arguments.processes = 24, 0.1, [1, 2]
    files = pictures_of(arguments.pictures, min(arguments.count, _DIFFERENT))
    with TemporaryDirectory() as folder:
        for number in range(arguments.count):
            Path(folder, f"{number}.jpg").symlink_to(files[number % len(files)].resolve())
        measured = rows(arguments, files, Path(folder), variants, device, batch)
        publish(table(TITLES, map(_shown, measured)), arguments.table)


def _shown(row: list[str]) -> list[str]:
    """Print a row as soon as it is measured: a script that is stopped has those before."""
    print(*row, sep=", ", file=sys.stderr, flush=True)
    return row


def rows(
    arguments: argparse.Namespace,
    files: Sequence[Path],
    folder: Path,
    variants: Sequence[tuple[EngineName, Precision]],
    device: str,
    batch: int,
) -> Iterator[list[str]]:
    """Measure, one row after the other."""
    for model in arguments.models:
        weights = weights_of(model)
        classifier = load_classifier(model, weights=weights, device=device)
        if model == arguments.models[0]:
            few = find_pictures(list(map(str, files)))
            for part, value in parts_on_cores(classifier, few, arguments.seconds):
                yield ["-", "-", part, f"{value:.0f}", "-"]
        for engine, precision in variants:
            how = f"{engine}, {precision}"
            for part, value in parts_on_device(classifier, engine, precision, batch, arguments.seconds):
                yield [model, how, part, f"{value:.0f}", "-"]
            for processes in arguments.processes:
                part = f"end to end, {processes} process{'es' * (processes > 1)}"
                try:
                    found, memory = end_to_end(model, weights, folder, engine, precision, processes, device)
                except (Exception, SystemExit) as error:  # the other rows are worth having
                    yield [model, how, part, f"failed: {type(error).__name__}: {error}".replace("|", "/"), "-"]
                    continue
                yield [model, how, part, f"{found:.0f}", f"{memory:.0f}" if memory else "-"]


if __name__ == "__main__":
    main()
