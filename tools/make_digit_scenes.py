"""Compose scenes of one digit each for `cam evaluate boxes`, from test glyphs (needs scikit-learn).

    python tools/make_digit_scenes.py build/digit-scenes
    cam evaluate boxes build/digit-scenes -m digits

Writes 0000.png, 0001.png, ..., masks/0000.png, ..., white where there is ink, and boxes.csv:
path,label,x0,y0,x1,y1 in pixels, ends excluded.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np

from cam.files import write_whole
from cam.images.io import write_image
from cam.invariance.demo.scenes import Scene, compose, uci_digits

CANVASES = ((72, 72), (72, 96), (96, 72))
DIGIT_SIZE = (16, 36)  # smallest and largest height of a digit in pixels, before it is slanted


def make_scenes(count: int, seed: int) -> list[Scene]:
    """Compose scenes of one digit each; the first ones do not depend on the count."""
    glyphs, classes = uci_digits("test")
    rng = np.random.default_rng(seed)
    scenes = []
    for number in range(count):
        chosen = rng.integers(len(glyphs), size=1)
        size = CANVASES[number % len(CANVASES)]
        clutter = rng.uniform()
        scenes.append(compose(glyphs[chosen], classes[chosen], size, rng, digit_size=DIGIT_SIZE, clutter=clutter))
    return scenes


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose scenes of one digit each, with their boxes.")
    parser.add_argument("out", type=Path, help="output folder")
    parser.add_argument("--count", type=int, default=300, help="number of scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    arguments = parser.parse_args()
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", "x0", "y0", "x1", "y1"])
    for number, scene in enumerate(make_scenes(arguments.count, arguments.seed)):
        name = f"{number:04}.png"
        write_image(arguments.out / name, scene.image)
        write_image(arguments.out / "masks" / name, 255 * scene.ink[..., None].repeat(3, 2).astype(np.uint8))
        writer.writerow([name, *scene.classes.tolist(), *scene.boxes[0].tolist()])
    write_whole(arguments.out / "boxes.csv", table.getvalue().encode())


if __name__ == "__main__":
    main()
