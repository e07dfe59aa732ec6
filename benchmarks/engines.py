"""When a faster engine pays: what it takes to make one, and what an image then takes less, on one core.

Processor time of the whole process, the smallest of several runs. OpenVINO is measured where it is installed; `cam`
has no engine of it.

    python benchmarks/engines.py squeezenet1_0 resnet18 resnet50
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from time import process_time
from typing import Any

import torch
from compare import weights_of
from tables import publish, table
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.classifiers.load import load_classifier
from cam.engines.checked import make_engine
from cam.heads.copies import random_inputs

_BATCH = 4


def engines(classifier: Classifier, inputs: Tensor) -> Iterator[tuple[str, Callable[[], Callable[[Tensor], Any]]]]:
    """What makes each engine."""
    parts = classifier.network, classifier.head, classifier.preprocessing.input_shape
    yield "eager", lambda: make_engine("eager", *parts)
    yield "onnxruntime", lambda: make_engine("onnxruntime", *parts)
    if find_spec("openvino"):
        yield "OpenVINO, logits only", lambda: _openvino(classifier, inputs)


def _openvino(classifier: Classifier, inputs: Tensor) -> Callable[[Tensor], Any]:
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    model = openvino.convert_model(classifier.network, example_input=inputs, input=[-1, *inputs.shape[1:]])
    request = core.compile_model(model, "CPU").create_infer_request()
    return lambda batch: request.infer({0: batch.numpy()})


def seconds(work: Callable[[], Any], runs: int) -> float:
    """The smallest processor time of several runs."""
    times = []
    for _ in range(runs):
        started = process_time()
        work()
        times.append(process_time() - started)
    return min(times)


def rows(model: str, runs: int) -> Iterator[list[str]]:
    """The rows of a model, one per engine."""
    classifier = load_classifier(model, weights=weights_of(model), device="cpu")
    inputs = random_inputs(_BATCH, classifier.preprocessing.input_shape)
    eager = 0.0
    for name, make in engines(classifier, inputs):
        engine: list[Any] = []
        made = seconds(lambda make=make, engine=engine: engine.append(make()), 1)  # type: ignore[misc]
        engine[0](inputs)
        image = seconds(lambda engine=engine: engine[0](inputs), runs) / _BATCH  # type: ignore[misc]
        eager = eager or image
        pays = f"{made / (eager - image):.0f}" if image < eager else "never"
        yield [model, name, f"{made:.1f}", f"{1000 * image:.1f}", "-" if image == eager else pays]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--runs", type=int, default=15, help="[default: %(default)s]")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body = [row for model in arguments.models for row in rows(model, arguments.runs)]
    titles = ["network", "engine", "made in, s", "an image, ms", "pays from, images a core"]
    publish(table(titles, body), arguments.table)


if __name__ == "__main__":
    main()
