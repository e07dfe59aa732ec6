"""Draw docs/overlays.png: hard photographs, and maps over them as `cam explain`, grad-cam and torchcam draw them.

    python tools/montage.py

Needs the test extra, grad-cam, and scikit-image, whose photographs are in the public domain or CC0: coffee (Rachel
Michetti), chelsea (Stefan van der Walt), rocket (SpaceX), camera (Lav Varshney), astronaut (NASA).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pytorch_grad_cam.utils.image import show_cam_on_image
from readability import with_torchcam
from skimage import data
from torchvision.models import SqueezeNet1_0_Weights

import cam
from cam.explanations.explanation import Explanation, enlarge_for_legend

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).parents[1]
HEIGHT, MARGIN, LABELS = 150, 4, 84  # pixels: of a photograph, between two, for the names of the rows


def photographs() -> dict[str, tuple[Pixels, str]]:
    """Photographs and a class each, by what is hard about them."""
    coffee = data.coffee()
    return {
        "warm": (coffee, "espresso"),
        "bright": (np.rint(153 + 0.4 * coffee).astype(np.uint8), "espresso"),
        "dark, landscape": (data.rocket(), "missile"),
        "gray": (data.camera()[..., None].repeat(3, 2), "tripod"),
        "portrait": (data.astronaut()[:, 170:], "space shuttle"),
        "tiny, 48 x 32": (cv2.resize(data.chelsea(), (48, 32), interpolation=cv2.INTER_AREA), "Egyptian cat"),
    }


def with_grad_cam(explanation: Explanation) -> Pixels:
    """Overlay the map as grad-cam does: what is for the class, up to its maximum, stretched over the photograph."""
    photo = explanation.image
    mask = np.maximum(explanation.evidence_map, 0)
    mask = cv2.resize(mask / (1e-7 + mask.max()), photo.shape[1::-1])
    return np.asarray(show_cam_on_image(photo / np.float32(255), mask, use_rgb=True), np.uint8)


ROWS: dict[str, Callable[[Explanation], Pixels]] = {
    "photograph": lambda explanation: explanation.image,
    "cam explain": lambda explanation: explanation.overlay(),
    "grad-cam": with_grad_cam,
    "torchcam": with_torchcam,
}


def main() -> None:
    """Explain a class of each photograph, and draw them side by side."""
    labels = SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
    network = {"mean": (0.498,) * 3, "std": (0.502,) * 3, "labels": labels, "device": "cpu"}
    classifier = cam.load_classifier(f"{ROOT}/tools/efficientnet_lite.py:lite0", **network)
    columns = []
    for name, (photo, label) in photographs().items():
        explanation = replace(cam.explain(classifier, photo, label, fit="whole"), image=enlarge_for_legend(photo))
        width = round(HEIGHT * photo.shape[1] / photo.shape[0])
        column = Image.new("RGB", (width + MARGIN, 32 + len(ROWS) * (HEIGHT + MARGIN)), "white")
        write = ImageDraw.Draw(column)
        for row, text in enumerate((f"{name}:", label)):
            write.text((0, 15 * row), text, "black", ImageFont.load_default(12))
        for row, draw in enumerate(ROWS.values()):
            drawn = cv2.resize(draw(explanation), (width, HEIGHT), interpolation=cv2.INTER_AREA)
            column.paste(Image.fromarray(drawn), (0, 32 + row * (HEIGHT + MARGIN)))
        columns.append(column)
    montage = Image.new("RGB", (LABELS + sum(column.width for column in columns), columns[0].height), "white")
    for row, name in enumerate(ROWS):
        ImageDraw.Draw(montage).text((0, 32 + row * (HEIGHT + MARGIN)), name, "black", ImageFont.load_default(12))
    for index, column in enumerate(columns):
        montage.paste(column, (LABELS + sum(column.width for column in columns[:index]), 0))
    rounded = montage.point(lambda value: min(255, (value + 4) // 8 * 8))  # which halves the file, and is hardly seen
    rounded.save(ROOT / "docs" / "overlays.png", optimize=True)


if __name__ == "__main__":
    main()
