"""Generated JPEG photographs: noise with the spectrum of photographs, light from one side, shapes with edges.

python benchmarks/photographs.py build/photographs mixed 200
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.files import write_whole
from cam.images.io import encode

Field = NDArray[np.float32]

MEGAPIXELS = {"small": (0.2, 0.2), "2MP": (2.0, 2.0), "12MP": (12.0, 12.0), "mixed": (0.2, 12.0)}
_ASPECTS = (4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 1.0)
_QUALITY = 90
_SIDE = 2048  # of the periodic noise, from which all photographs are cropped


def photographs(folder: Path, kind: str, count: int, seed: int = 0) -> list[Path]:
    """Make photographs that do not exist yet; the first ones do not depend on `count`.

    Args:
        folder: the output folder; made if necessary.
        kind: a key of `MEGAPIXELS`; sizes in a range are log-uniform.
        count: number of photographs.
        seed: the same seed gives the same photographs.
    """
    paths = [folder / f"{kind}-{seed}-{index:04d}.jpg" for index in range(count)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    noise = natural_noise(_SIDE, seed) if missing else np.empty(0, np.float32)
    for index in missing:
        rng = np.random.default_rng((seed, index))
        write_whole(paths[index], encode(photograph(noise, size_of(kind, rng), rng), ".jpg", _QUALITY))
    return paths


def size_of(kind: str, rng: np.random.Generator) -> tuple[int, int]:
    """Choose (H, W) in pixels."""
    low, high = MEGAPIXELS[kind]
    pixels = 1e6 * low * (high / low) ** rng.random()
    aspect = float(rng.choice(_ASPECTS))
    return round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))


def natural_noise(side: int, seed: int) -> Field:
    """Make noise whose amplitude falls with frequency as in photographs; color varies less than brightness.

    Returns:
        (side, side, 3) float32 with mean 0 and standard deviation about 1, periodic.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    noise = np.empty((side, side, 3), np.float32)
    for channel in range(3):
        spectrum = np.fft.rfft2(rng.standard_normal((side, side), np.float32)) / frequency**1.25
        spectrum[0, 0] = 0
        noise[..., channel] = np.fft.irfft2(spectrum, (side, side))
    noise /= noise.std((0, 1))
    light, red, blue = (noise[..., channel, None] for channel in range(3))
    colored: Field = light + red * np.array([0.3, -0.15, 0], np.float32) + blue * np.array([0, -0.06, 0.3], np.float32)
    return colored


def photograph(noise: Field, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Compose a photograph: (H, W, 3) uint8 RGB."""
    image = _crop(noise, size, rng)
    image *= rng.uniform(30, 45)
    image += _light(size, rng)
    for mask in _shapes(size, rng):
        x, y, width, height = cv2.boundingRect(mask)
        part = slice(y, y + height), slice(x, x + width)
        color = rng.uniform(0, 160, 3).astype(np.float32)
        cv2.copyTo(0.5 * image[part] + color, mask[part], image[part])
    return np.clip(image, 0, 255).astype(np.uint8)


def _crop(noise: Field, size: tuple[int, int], rng: np.random.Generator) -> Field:
    """Crop at a random position, with random flips."""
    rows, columns = (
        np.arange(start, start + length)[:: rng.choice((1, -1))] % len(noise)
        for start, length in zip(rng.integers(0, len(noise), 2), size, strict=True)
    )
    part: Field = noise[rows[:, None], columns]
    return part


def _light(size: tuple[int, int], rng: np.random.Generator) -> Field:
    """A color gradient across the image."""
    angle = rng.uniform(0, 2 * math.pi)
    y, x = (np.linspace(-0.5, 0.5, length, dtype=np.float32) for length in size)
    ramp = (math.sin(angle) * y[:, None] + math.cos(angle) * x)[..., None]
    light: Field = ramp * rng.uniform(-90, 90, 3).astype(np.float32) + rng.uniform(90, 150, 3).astype(np.float32)
    return light


def _shapes(size: tuple[int, int], rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Masks of random ellipses."""
    height, width = size
    for _ in range(rng.integers(3, 9)):
        mask = np.zeros(size, np.uint8)
        center = int(rng.integers(width)), int(rng.integers(height))
        axes = tuple(int(side) + 1 for side in rng.uniform(0.02, 0.25, 2) * min(size))
        cv2.ellipse(mask, center, axes, rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
        yield mask


def main() -> None:
    """Make photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=MEGAPIXELS)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    paths = photographs(arguments.folder, arguments.kind, arguments.count)
    size = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} photographs, {size / 1e6:.1f} MB, in {arguments.folder}")


if __name__ == "__main__":
    main()
