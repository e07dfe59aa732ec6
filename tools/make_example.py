"""Draw docs/example.png, the image of the README: one scene, explained for two of its digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cam
from cam.images.io import write_image

ROOT = Path(__file__).parents[1]


def main() -> None:
    classifier = cam.load_classifier("digits", device="cpu")
    scene = ROOT / "samples" / "zero-three-nine.png"
    explanations = [cam.explain(classifier, scene, class_idx) for class_idx in (3, 9)]
    vmax = max(explanation.vmax for explanation in explanations)
    pictures = [explanation.overlay(vmax=vmax, legend=True) for explanation in explanations]
    write_image(ROOT / "docs" / "example.png", np.concatenate(pictures, axis=1))


if __name__ == "__main__":
    main()
