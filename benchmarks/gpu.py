"""Images per second on one machine: each part alone, then `cam explain` end to end.

Decoding, drawing and encoding run on all cores, the network and the maps on the device, where the inputs are already.
End to end, one or several processes share the images, without the time of the first eighth of them: start-up.

    python benchmarks/gpu.py --processes 1 4
    python benchmarks/gpu.py --tiny
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from compare import pictures_of, weights_of
from tables import publish, table

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.cli.process import keep_memory
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
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder
from cam.runs.workers import in_order
from cam.tensors import synchronize

TITLES = ["network", "engine, precision", "part", "images a second", "peak GPU MiB"]
_DIFFERENT = 200  # images; the others are links to them
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
    run = make_engine(engine, classifier.network, classifier.head, shape, precision=precision)
    inputs = random_inputs(batch, shape).to(device).contiguous(memory_format=torch.channels_last)
    yield "forward", rate(lambda: run(inputs), batch, seconds, device)
    logits, features = run(inputs)
    rows = classifier.exact_head("The benchmark").weight[logits.topk(5).indices]
    yield "maps of 5 classes", rate(lambda: class_activation_maps(features, rows), batch, seconds, device)


def end_to_end(
    model: str,
    weights: Path,
    files: Sequence[Path],
    engine: EngineName,
    precision: Precision,
    processes: int,
    device: str,
) -> tuple[float, float]:
    """Images per second of `cam explain` (negative if there are too few), and a process's largest GPU memory, MiB."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        barrier = manager.Barrier(processes, timeout=300)
        work = model, weights, files, engine, precision, device, barrier
        shards = [(number + 1, processes) if processes > 1 else None for number in range(processes)]
        jobs = [pool.submit(_process, *work, max(1, (os.cpu_count() or 1) // processes), shard) for shard in shards]
        spans, memory = zip(*(job.result() for job in jobs), strict=True)
    first, last = (max(end for _, end in run) - min(start for start, _ in run) for run in zip(*spans, strict=True))
    return (len(files) - len(files) // 8) / (last - first), max(memory)


def _process(
    model: str,
    weights: Path,
    files: Sequence[Path],
    engine: EngineName,
    precision: Precision,
    device: str,
    barrier: Any,
    threads: int,
    shard: tuple[int, int] | None,
) -> tuple[list[tuple[float, float]], float]:
    """Explain one's share of an eighth of the images, then of all: when each began and ended, and the GPU memory."""
    keep_memory()
    torch.set_num_threads(threads)
    classifier = load_classifier(model, weights=weights, device=device)
    options = RunOptions(engine=engine, precision=precision, shard=shard)
    spans = []
    for count in (len(files) // 8, len(files)):
        pictures = find_pictures(list(map(str, files[:count])))
        with TemporaryDirectory() as out:
            barrier.wait()
            started = perf_counter()
            explain_folder(classifier, pictures, Path(out), options)
            spans.append((started, perf_counter()))
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    return spans, memory


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "squeezenet1_0"])
    parser.add_argument("--pictures", default="small", help="a kind, or a folder")
    parser.add_argument("--count", type=int, default=8000, help="number of images, [default: %(default)s]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], help="that share the images end to end")
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
        many = [Path(folder, f"{number}.jpg") for number in range(arguments.count)]
        for number, link in enumerate(many):
            link.symlink_to(files[number % len(files)])
        publish(table(TITLES, rows(arguments, files, many, variants, device, batch)), arguments.table)


def rows(
    arguments: argparse.Namespace,
    files: Sequence[Path],
    many: Sequence[Path],
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
                    found, memory = end_to_end(model, weights, many, engine, precision, processes, device)
                except Exception as error:  # the other rows are worth having
                    yield [model, how, part, f"failed: {type(error).__name__}: {error}".replace("|", "/"), "-"]
                    continue
                yield [model, how, part, f"{found:.0f}" if found > 0 else "-", f"{memory:.0f}" if memory else "-"]


if __name__ == "__main__":
    main()
