"""Start and end the server of `cam app`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from cam.classifiers.classifier import Classifier
from cam.classifiers.sources.base import import_extra
from cam.errors import UsageError
from cam.images.read import Limits
from cam.images.samples import ReadOptions


@contextmanager
def own_gradio() -> Iterator[None]:
    """Import Gradio without telemetry and with a temporary folder, which is removed; ModelError if there is none."""
    with TemporaryDirectory(prefix="cam-app-") as folder:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}  # read by the import
        import_extra("gradio", "app", "cam app")
        yield


@contextmanager
def serve(
    classifiers: Mapping[str, Classifier], host: str, port: int, limits: Limits, options: ReadOptions
) -> Iterator[str]:
    """Serve the page and yield its address, with `own_gradio`; UsageError if the host or the port cannot be had."""
    from cam.app.page import STYLE, Page

    blocks = Page(classifiers, limits, options).blocks
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it has started
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", host]))
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            max_file_size=limits.max_bytes,
            share=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            **STYLE,
        )
    except OSError as error:
        problem = f"--port {port} of --host {host} cannot be used: it is taken, or no address of this computer"
        raise UsageError(problem, "Choose another, such as --port 7861") from error
    try:
        yield address
    finally:
        blocks.close(verbose=False)
