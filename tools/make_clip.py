"""Draw docs/clip.gif, the moving picture of the README: a walk over a photograph, and where it looks like one class.

Needs the test extra and scikit-image, which has the photograph: Eileen Collins, by NASA, in the public domain.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torchvision.models import SqueezeNet1_0_Weights

import cam
from cam.explanations.options import ExplainOptions, OneClass
from cam.images.find import find_pictures
from cam.images.write_video import VideoFormat, write_video
from cam.runs.options import RunOptions
from cam.runs.run import explain_folder

ROOT = Path(__file__).parents[1]
SIZE, FRAMES, RATE = (240, 320), 36, 8  # pixels, number, a second
COLORS = 96


def walk(photo: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Frames of a camera that circles over the photograph and comes back to where it was."""
    frames = []
    for turn in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
        scale = 0.86 - 0.14 * np.cos(turn)  # of the photograph, that is seen
        height, width = round(384 * scale), round(512 * scale)
        y = round((512 - height) * (0.5 - 0.5 * np.cos(turn)))
        x = round((512 - width) * (0.5 + 0.5 * np.sin(turn)))
        part = photo[y : y + height, x : x + width]
        frames.append(np.asarray(cv2.resize(part, SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8))
    return frames


def main() -> None:
    """Write a clip, explain it, and convert the result to a GIF."""
    labels = SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
    network = {"mean": (0.498,) * 3, "std": (0.502,) * 3, "labels": labels, "device": "cpu"}
    classifier = cam.load_classifier(f"{ROOT}/tools/efficientnet_lite.py:lite0", **network)
    kind = VideoFormat(".mp4", Fraction(1, RATE), Fraction(RATE))
    with TemporaryDirectory() as folder:
        clip, out = Path(folder, "astronaut.mp4"), Path(folder, "out")
        with clip.open("wb") as file:
            write_video(file, kind, (kind.frame(frame, n, 1) for n, frame in enumerate(walk(data.astronaut()))))
        target = OneClass(labels.index("football helmet"))
        options = RunOptions((target,), ExplainOptions(fit="whole"))
        explain_folder(classifier, find_pictures([clip]), out, options)
        (video,) = out.glob("*.mp4")
        with av.open(str(video)) as container:
            drawn = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    palette = Image.fromarray(np.concatenate([np.asarray(image) for image in drawn[:: FRAMES // 6]])).quantize(COLORS)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in drawn)
    first.save(ROOT / "docs" / "clip.gif", save_all=True, append_images=others, duration=1000 // RATE, loop=0)


if __name__ == "__main__":
    main()
