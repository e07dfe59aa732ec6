"""Measure how well heat can be read from the colors of overlays (needs the test extra).

    python tools/readability.py photos/ -m squeezenet1_0

The heat of each pixel is regressed on the CIELAB color of the overlay there, with squares and products: R2 is the share
of the heat's variance that the colors tell, whatever the photograph looks like. It is also measured for eyes without
one kind of cones. torchcam's overlay of the same heat is measured for comparison.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchcam.utils import overlay_mask

import cam
from cam.explanations.explanation import Explanation
from cam.maps import Evidence

Pixels = NDArray[np.uint8]
SIDE, SAMPLES = 320, 6000  # longer side of the overlays; pixels of each that are compared
EVIDENCE: tuple[Evidence, ...] = "logit", "contrast", "posterior"
# Linear RGB as seen without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


def with_torchcam(explanation: Explanation) -> Pixels:
    """Overlay the map as torchcam does: from its minimum to its maximum, stretched over the photograph."""
    values = explanation.evidence_map
    spread = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    photo = Image.fromarray(explanation.overlay(opacity=0, photo="color", contours=False, max_side=SIDE))
    return np.asarray(overlay_mask(photo, Image.fromarray(spread.astype(np.float32), mode="F"), alpha=0.5), np.uint8)


OVERLAYS: dict[str, Callable[[Explanation], Pixels]] = {
    "cam explain": lambda explanation: explanation.overlay(contours=False, max_side=SIDE),
    "cam explain --photo color": lambda explanation: explanation.overlay(contours=False, photo="color", max_side=SIDE),
    "torchcam": with_torchcam,
}


def seen_by(rgb: Pixels, eyes: NDArray[np.float64]) -> NDArray[np.float32]:
    """CIELAB of an image (H, W, 3) as some eyes see it."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ eyes.T, 0, 1).astype(np.float32)
    return np.asarray(cv2.cvtColor(seen, cv2.COLOR_LRGB2Lab), np.float32)


def r2(colors: NDArray[np.float32], heat: NDArray[np.floating]) -> float:
    """Share of the variance of the heat (H, W) that a quadratic function of the colors (H, W, 3) explains."""
    chosen = np.random.default_rng(0).permutation(heat.size)[:SAMPLES]
    a, b, c = (colors.reshape(-1, 3)[chosen].astype(float) / 50 - 1).T
    values = heat.ravel()[chosen].astype(float)
    terms = np.column_stack([np.ones_like(a), a, b, c, a * a, b * b, c * c, a * b, a * c, b * c])
    rest = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(1 - rest.var() / values.var()) if values.var() else float("nan")


def measure(classifier: cam.Classifier, files: list[Path]) -> Iterator[tuple[str, str, str, float]]:
    """Yield overlay, evidence, eyes and R2 of each photograph."""
    for file in files:
        for evidence in EVIDENCE:
            explanation = cam.explain(classifier, file, evidence=evidence, fit="whole")
            for name, overlay in OVERLAYS.items():
                drawn = overlay(explanation)
                heat = np.asarray(cv2.resize(explanation.heat(), drawn.shape[1::-1]), np.float32)
                for eyes, matrix in EYES.items():
                    yield name, evidence, eyes, r2(seen_by(drawn, matrix), heat)


def main() -> None:
    """Print a table: median and worst tenth."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-m", "--model", default="squeezenet1_0")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    results: dict[Any, list[float]] = {}
    for name, evidence, eyes, value in measure(cam.load_classifier(arguments.model), files):
        results.setdefault((name, evidence, eyes), []).append(value)
    print("| overlay | evidence | eyes | median | worst tenth |\n|---|---|---|---|---|")
    for (name, evidence, eyes), values in results.items():
        low, middle = np.nanpercentile(values, (10, 50))
        print(f"| {name} | {evidence} | {eyes} | {middle:.3f} | {low:.3f} |")


if __name__ == "__main__":
    main()
