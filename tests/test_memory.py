"""Memory is flat in the number of pictures, and a bounded multiple of the largest of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import write_clip
from memory import megabytes

from cam.images.io import write_image


def pixels(height: int, width: int) -> np.ndarray:
    """A picture that is neither plain nor noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "onnxruntime"])
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, engine):
    write_image(tmp_path / "one.png", pixels(320, 369))
    peaks = []
    for count in (100, 10_000):
        place = tmp_path / str(count)
        place.mkdir()
        for number in range(count):
            (place / f"{number}.png").hardlink_to(tmp_path / "one.png")
        options = "-m", "digits", "--quiet", "--engine", engine
        memory, status, errors = megabytes("explain", str(place), "-o", f"{place}-out", *options)
        assert status == 0, errors
        peaks.append(memory)
    assert peaks[1] < peaks[0] + 100, peaks


@pytest.mark.slow
def test_a_hundred_megapixels_take_three_and_a_half_times_their_size(tmp_path):
    peaks = []
    for name, side in (("small.jpg", 400), ("large.jpg", 10_000)):
        write_image(tmp_path / name, pixels(side, side))
        options = "-m", "digits", "--device", "cpu", "--quiet"
        memory, status, errors = megabytes("explain", str(tmp_path / name), "-o", str(tmp_path / name[:5]), *options)
        assert status == 0, errors
        peaks.append(memory)
    size = 3 * 10_000**2 / 2**20  # three bytes a pixel, in MiB
    assert size < peaks[1] - peaks[0] < 3.5 * size, peaks


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path):
    peaks = []
    images = [pixels(240 + 2 * number, 320)[-240:] for number in range(10)]
    for count in (200, 4_000):
        clip = write_clip(tmp_path / f"{count}.mp4", [images[number % 10] for number in range(count)], sound="aac")
        options = "-m", "digits", "--device", "cpu", "--quiet", "--engine", "eager"
        memory, status, errors = megabytes("explain", str(clip), "-o", str(tmp_path / f"{count}-out"), *options)
        assert status == 0, errors
        assert len((tmp_path / f"{count}-out" / f"{count}.mp4.frames.csv").read_text().splitlines()) == count + 1
        peaks.append(memory)
    assert peaks[1] < peaks[0] + 60, peaks
