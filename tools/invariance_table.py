"""Average what `cam invariance` measures over images: the table of docs/invariance.md.

python tools/invariance_table.py cifar10/*/0000.jpg -m cifar-resnet20 --weights resnet20.th --canvas 64 --steps 17
python tools/invariance_table.py photos/*.jpg -m squeezenet1_0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cam.images.io import read_image
from cam.invariance.measure import load_any_classifier, measure_invariance


def to_row(facts: dict[str, Any]) -> dict[str, float]:
    """Pick the numbers of one image from `Invariance.facts`."""
    logit, shift = facts["logit"], facts["shift_by_one_stride"]
    return {
        "logit: the image alone": facts["alone"]["logit"],
        "logit: expected on the canvas": facts["dilution"]["expected"],
        "logit: mean over the positions": logit["mean"],
        "logit: standard deviation": logit["std"],
        "logit: mean less worst": logit["mean"] - logit["min"],
        "share of positions with the most predicted class": facts["most_predicted"]["share"],
        "share of positions with the image's own class": facts["predicted_share"],
        "peak of the heat, pixels from where it would be": facts["peak"]["deviation"]["mean"],
        "centroid of the positive heat, pixels from where it would be": facts["centroid"]["deviation"]["mean"],
        "centroid of the positive heat, pixels from the object's center": facts["centroid"]["error"]["mean"],
        "map moved back by one stride differs by, down": shift["down"],
        "map moved back by one stride differs by, right": shift["right"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Average what cam invariance measures over images.")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--canvas", type=int, help="side of the canvas, input pixels (default: twice the object)")
    parser.add_argument("--steps", type=int, default=8, help="positions along each axis (%(default)s)")
    options = parser.parse_args()
    model = load_any_classifier(options.model, weights=options.weights)
    canvas = (options.canvas, options.canvas) if options.canvas else None
    rows = [
        to_row(measure_invariance(model, read_image(path), canvas=canvas, steps=options.steps).facts())
        for path in options.images
    ]
    for name in rows[0]:
        print(f"| {name} | {np.mean([row[name] for row in rows]):.3f} |")


if __name__ == "__main__":
    main()
