"""Draw docs/example.png, the image of the README: a photograph, and where it looks like two classes.

Needs the test extra and scikit-image, which has the photograph: Eileen Collins, by NASA, in the public domain.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data
from torchvision.models import SqueezeNet1_0_Weights

import cam

ROOT = Path(__file__).parents[1]
CLASSES = "football helmet", "space shuttle"
SIDE = 320  # pixels, of each overlay


def main() -> None:
    """Draw the photograph, and its overlays on one color scale."""
    labels = SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
    network = {"mean": (0.498,) * 3, "std": (0.502,) * 3, "labels": labels, "device": "cpu"}
    classifier = cam.load_classifier(f"{ROOT}/tools/efficientnet_lite.py:lite0", **network)
    photo = data.astronaut()
    explanations = [cam.explain(classifier, photo, label, fit="whole") for label in CLASSES]
    vmax = max(explanation.vmax for explanation in explanations)
    overlays = [explanation.overlay(vmax=vmax, legend=True, max_side=SIDE) for explanation in explanations]
    height = overlays[0].shape[0]
    beside = cv2.resize(photo, (height, height), interpolation=cv2.INTER_AREA)
    gap = np.full((height, 8, 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate((beside, gap, overlays[0], gap, overlays[1]), 1))
    picture.save(ROOT / "docs" / "example.png", optimize=True)


if __name__ == "__main__":
    main()
