"""Measure how far the heat is from digits at known positions, as in docs/evaluation.md (needs scikit-learn).

python tools/digit_placement.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cam.classifiers.load import load_classifier
from cam.cli.printing import show_evaluation
from cam.evaluation.placement import Scene, measure_placement
from cam.invariance.demo.scenes import compose, uci_digits

SEEDS = range(5)


def digits(size: tuple[int, int], seeds: Sequence[int]) -> Iterator[list[list[Scene]]]:
    """Yield every test glyph in one scene of (H, W) pixels for each seed."""
    glyphs, classes = uci_digits("test")
    rngs = [np.random.default_rng(seed) for seed in seeds]
    for glyph, class_idx in zip(glyphs, classes.tolist(), strict=True):
        scenes = [compose([glyph], [class_idx], size, rng) for rng in rngs]
        boxes = [scene.boxes[0].tolist() for scene in scenes]
        centers = [((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2) for x0, y0, x1, y1 in boxes]
        yield [[Scene("", s.image, class_idx, center)] for s, center in zip(scenes, centers, strict=True)]


def main() -> None:
    classifier = load_classifier("digits", device="cpu")
    show_evaluation(measure_placement(classifier, digits(classifier.preprocessing.crop, SEEDS)), as_json=False)


if __name__ == "__main__":
    main()
