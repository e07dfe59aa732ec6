"""The command `cam app`: a page in the browser to drop a picture on."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import Any

import click

from cam.cli.command import Command, option_group, select
from cam.cli.options import (
    classifier_arguments,
    classifier_options,
    max_bytes_option,
    max_pixels_option,
    method_options,
    read_options,
    timeout_option,
)
from cam.cli.process import guarded, importing
from cam.cli.values import whole_number
from cam.errors import UsageError

_server = option_group("Server")


@click.command(cls=Command)
@read_options
@partial(classifier_options, several=True)
@method_options
@_server("--port", type=whole_number(1, 65535), default=7860, help="Port of the page.")
@_server("--host", metavar="NAME", default="127.0.0.1", help="0.0.0.0 lets the whole network in.")
@max_pixels_option
@max_bytes_option
@timeout_option
def app(model: tuple[str, ...], weights: tuple[Any, ...], port: int, host: str, **options: Any) -> None:
    """Open a page to drop pictures on.

    It shows the evidence for any class, and for which classes a place speaks. No picture leaves the computer: the
    server is bound to 127.0.0.1, and neither it nor the page sends a request to the internet. Ctrl-C ends it, and
    removes the pictures.

    Example: cam app -m resnet50 -m squeezenet1_1
    """
    if weights and len(weights) != len(model):
        problem = f"--weights must be given once for each --model, got {len(weights)} for {len(model)}"
        raise UsageError(problem, "Give them in the order of the models")
    with importing():
        from cam.app.serve import own_gradio, serve
        from cam.classifiers.load import load_classifier
        from cam.cli.printing import show_notes
        from cam.images.read import Limits
        from cam.images.samples import ReadOptions
    limits = Limits(options["max_pixels"], options["max_bytes"], options["timeout"])
    read = ReadOptions(**select(options, "value_range", "bands"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as on Ctrl-C
    with own_gradio():
        classifiers = {}
        for number, name in enumerate(model):
            file = weights[number] if weights else None
            with guarded():
                classifier = load_classifier(**classifier_arguments({**options, "model": name, "weights": file}))
            classifiers[f"{name}, {file}" if file else name] = classifier
            show_notes(classifier.notes, silent=False)
        with serve(classifiers, host, port, limits, read) as address:
            click.echo(f"Open {address} in a browser. Ctrl-C ends the app.")
            while True:
                time.sleep(60)  # which Ctrl-C interrupts, on Windows, too
