"""Compose the sample scenes: test digits at known positions (needs scikit-learn).

    python tools/make_samples.py

Writes the images in samples/, and samples.json: for every image the class and the box (xyxy in pixels) of each
digit, and the classes that should score highest, in any order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cam.invariance.demo.scenes import Scene, compose, uci_digits

SAMPLES_FOLDER = Path(__file__).resolve().parents[1] / "samples"


class Recipe(NamedTuple):
    """Arguments of one sample; `area` (xyxy) is where its digits may lie."""

    digits: tuple[int, ...]
    size: tuple[int, int]
    digit_size: tuple[float, float]
    seed: int
    clutter: float = 0.7
    area: tuple[float, float, float, float] | None = None


SQUARE, LANDSCAPE, PORTRAIT, WIDE = (288, 288), (288, 400), (400, 288), (288, 576)
SAMPLES = {
    "five.png": Recipe((5,), SQUARE, (110, 120), 66, clutter=0.2),
    "three-in-clutter.png": Recipe((3,), SQUARE, (90, 110), 59, clutter=1),
    "small-eight.png": Recipe((8,), LANDSCAPE, (64, 70), 22, clutter=0.8),
    "two-and-six.png": Recipe((2, 6), LANDSCAPE, (90, 120), 17),
    "seven-and-four.png": Recipe((7, 4), PORTRAIT, (90, 120), 58),
    "zero-three-nine.png": Recipe((0, 3, 9), WIDE, (90, 120), 47),
    "sevens.png": Recipe((7, 7, 7), LANDSCAPE, (70, 110), 1),
    "four-left.png": Recipe((4,), LANDSCAPE, (90, 90), 62, area=(0, 0, 133, 288)),
    "four-middle.png": Recipe((4,), LANDSCAPE, (90, 90), 62, area=(133, 0, 266, 288)),
    "four-right.png": Recipe((4,), LANDSCAPE, (90, 90), 62, area=(266, 0, 400, 288)),
}


def scene_of(recipe: Recipe) -> Scene:
    """Compose a sample; the seed also chooses the glyph of each class."""
    glyphs, classes = uci_digits("test")
    rng = np.random.default_rng(recipe.seed)
    chosen = [rng.choice(np.flatnonzero(classes == digit)) for digit in recipe.digits]
    return compose(
        glyphs[chosen],
        recipe.digits,
        recipe.size,
        rng,
        digit_size=recipe.digit_size,
        clutter=recipe.clutter,
        area=recipe.area,
    )


def main() -> None:
    samples: dict[str, object] = {}
    for name, recipe in SAMPLES.items():
        scene = scene_of(recipe)
        Image.fromarray(scene.image).save(SAMPLES_FOLDER / name, optimize=True)
        samples[name] = {
            "classes": scene.classes.tolist(),
            "boxes": scene.boxes.tolist(),
            "top": sorted(set(recipe.digits)),
        }
    document = {
        "made_by": "python tools/make_samples.py",
        "license": "CC BY 4.0: digits of Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        "samples": samples,
    }
    (SAMPLES_FOLDER / "samples.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
