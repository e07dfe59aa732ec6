"""Measure cam explain on a clip against cam explain on its frames as JPEG files, per frame, one after the other.

python benchmarks/video.py photos/ -m squeezenet1_0 --size 1280x720

The clip is a walk over a photograph, in each round over another one, or over several, one scene after the other. CPU is
that of all threads; the ratio is the median of the rounds, with the smallest and the largest.
"""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

import cam
from cam.classifiers.classifier import Classifier
from cam.cli.process import keep_memory
from cam.images.find import find_pictures
from cam.images.io import read_image, write_image
from cam.images.write_video import VideoFormat, write_video
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

RATE = 25  # frames a second


def walk(photos: Sequence[Path], size: tuple[int, int], steps: int) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) that cross one photograph after the other, each in so many steps."""
    height, width = size
    for path in photos:
        photo = read_image(path)
        scale = 1.2 * max(height / photo.shape[0], width / photo.shape[1])
        photo = np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        down, across = photo.shape[0] - height, photo.shape[1] - width
        for step in range(steps):
            y, x = down * step // steps, across * step // steps
            yield np.ascontiguousarray(photo[y : y + height, x : x + width])


def cost(classifier: Classifier, source: Path, out: Path, frames: int) -> tuple[float, float]:
    """CPU and elapsed seconds a frame."""
    shutil.rmtree(out, ignore_errors=True)
    before = time.process_time(), time.perf_counter()
    run = explain_folder(classifier, find_pictures([source], videos=True), out, RunOptions(engine="eager"))
    if run.failed:
        raise SystemExit(f"{source} could not be explained")
    return (time.process_time() - before[0]) / frames, (time.perf_counter() - before[1]) / frames


def compare(
    classifier: Classifier, photos: Sequence[Path], size: tuple[int, int], steps: int
) -> list[tuple[float, float]]:
    """The costs of a frame, of the clip and of its frames as JPEG files: the less of two turns."""
    with TemporaryDirectory() as folder:
        pictures, clip, out = Path(folder, "pictures"), Path(folder, "clip.mp4"), Path(folder, "out")
        kind, frames = VideoFormat(".mp4", Fraction(1, RATE), Fraction(RATE)), list(walk(photos, size, steps))
        for number, frame in enumerate(frames):
            write_image(pictures / f"{number}.jpg", frame)
        with clip.open("wb") as file:
            write_video(file, kind, (kind.frame(frame, number, 1) for number, frame in enumerate(frames)))
        count = len(frames)
        del frames
        twice = [[cost(classifier, source, out, count) for source in (clip, pictures)] for _ in range(2)]
        return [min(costs) for costs in zip(*twice, strict=True)]


def main() -> None:
    """Print a row of the table in docs/live.md."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    keep_memory()  # as `cam explain` does
    classifier = cam.load_classifier(arguments.model, device="cpu")
    photos, scenes, rounds = [picture.path for picture in find_pictures([arguments.photos])], arguments.scenes, []
    for number in range(arguments.rounds + 1):  # the first warms up
        scene = photos[number * scenes : (number + 1) * scenes]
        rounds += [compare(classifier, scene, (height, width), arguments.frames // scenes)]
    texts = []
    for measure in (0, 1):
        ratios = [of_clip[measure] / of_pictures[measure] for of_clip, of_pictures in rounds[1:]]
        texts.append(f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    middle = [1000 * median(costs[which][0] for costs in rounds[1:]) for which in (0, 1)]
    facts = arguments.model, arguments.size, scenes, *texts, *(f"{value:.1f}" for value in middle)
    print(f"| {' | '.join(map(str, facts))} |")


if __name__ == "__main__":
    main()
