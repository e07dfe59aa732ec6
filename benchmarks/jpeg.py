"""JPEG decoders and encoders beside each other, and an overlay by way of RGB or of luma and chroma.

Processor time of one thread for an image, after a first turn; all take turns in each round. The decoders' pixels are
compared with Pillow's. torchcodec and OpenCV are for comparison; `cam` uses simplejpeg, and Pillow in doubt.

    python benchmarks/jpeg.py --rounds 9
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from time import thread_time
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from compare import pictures_of
from numpy.typing import NDArray
from PIL import Image
from tables import publish, spread, table

import cam
from cam.cli.process import keep_memory
from cam.explanations.explanation import Explanation
from cam.images.decode import tuned_for_workers
from cam.images.io import encode

_QUALITY = 92


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Decode to an array of three bytes a pixel."""
    return np.array(Image.open(BytesIO(data)).convert("RGB"))


def by_opencv(data: bytes) -> NDArray[np.uint8]:
    """Decode, in the order of RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def by_torchcodec(data: bytes) -> NDArray[np.uint8]:
    """Decode to a tensor, (3, H, W) with its channels last."""
    from torchcodec.decoders import decode_jpeg

    image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return np.asarray(image.permute(1, 2, 0).numpy())


def encoded_by_opencv(image: NDArray[np.uint8]) -> bytes:
    """Encode, which needs a copy in the order of BGR."""
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return data.tobytes()


def programs(data: bytes, explanation: Explanation) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is measured, for one image."""
    decoders: dict[str, Callable[[bytes], Any]] = {"Pillow": by_pillow, "OpenCV": by_opencv}
    decoders["simplejpeg"] = partial(simplejpeg.decode_jpeg, colorspace="RGB")
    if find_spec("torchcodec"):
        decoders["torchcodec"] = by_torchcodec
    image = by_pillow(data)
    for name, decode in decoders.items():
        if not np.array_equal(decode(data), image):
            raise SystemExit(f"The pixels of {name} are not those of Pillow")
        yield f"decode, {name}", lambda decode=decode: decode(data)  # type: ignore[misc]
    yield "encode, OpenCV", lambda: encoded_by_opencv(image)
    yield "encode, simplejpeg", lambda: encode(image, ".jpg", _QUALITY)
    yield "overlay and encode, RGB", lambda: encode(explanation.overlay(legend=True), ".jpg", _QUALITY)
    yield "overlay and encode, luma and chroma", lambda: explanation.encode(".jpg")


def rows(kind: str, rounds: int) -> Iterator[list[str]]:
    """The rows of one kind of images."""
    data = pictures_of(kind, 2)[1].read_bytes()
    explanation = cam.explain(cam.load_classifier("digits", device="cpu"), data)
    measured = dict(programs(data, explanation))
    times: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(rounds + 1):
        for name, work in measured.items():
            started = thread_time()
            work()
            if turn:
                times[name].append(1000 * (thread_time() - started))
    for name, milliseconds in times.items():
        yield [kind, name, spread(milliseconds)]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", default=["small", "2MP", "12MP"], help="kinds, or folders")
    parser.add_argument("--rounds", type=int, default=9, help="[default: %(default)s]")
    parser.add_argument("--table", help="write the table to the page, at the mark of this name; default: print it")
    arguments = parser.parse_args()
    keep_memory()
    with tuned_for_workers():
        body = [row for kind in arguments.pictures for row in rows(kind, arguments.rounds)]
    publish(table(["pictures", "program", "milliseconds"], body), arguments.table)


if __name__ == "__main__":
    main()
