"""Decoding a JPEG at a fraction of its size, in strips, and what is shared with other users of Pillow."""

from __future__ import annotations

import io
import threading
from collections import Counter

import cv2
import numpy as np
import pytest
from garbage import damage
from PIL import Image, ImageFile

from cam.errors import ImageError
from cam.images.decode import decode_image, tuned_for_workers
from cam.images.io import resize
from cam.maps.geometry import fit_crop


def photograph(height: int, width: int, steepness: float = 1.0) -> np.ndarray:
    """Noise with the spectrum of photographs, which falls with the frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1

    def layer() -> np.ndarray:
        phases = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
        return np.fft.irfft2(phases / frequency**steepness, (height, width))

    gray = layer()
    color = np.stack([gray + 0.3 * layer() for _ in range(3)], -1)
    return np.clip((color - color.mean()) / color.std() * 50 + 128, 0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, form, **{"quality": 90, **options} if form == "JPEG" else options)
    return file.getvalue()


def decode(data: bytes, at_least: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    return decode_image(data, "a.jpg", 100_000_000, at_least)


def mean_difference(small: np.ndarray, whole: np.ndarray) -> float:
    resized = cv2.resize(whole, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    return float(np.abs(resized.astype(int) - small).mean())


# A fraction of the size


@pytest.mark.parametrize(
    ("size", "at_least", "factor"),
    [
        ((480, 640), 81, 1),
        ((480, 640), 80, 2),
        ((480, 640), 41, 2),
        ((480, 640), 40, 4),
        ((480, 640), 20, 8),
        ((480, 640), 1, 8),
        ((484, 640), 20, 4),  # 8 does not divide 484
        ((482, 640), 20, 2),
        ((481, 640), 20, 1),
        ((480, 644), 20, 4),
        ((480, 640), None, 1),
    ],
)
def test_a_jpeg_is_decoded_at_a_fraction_that_divides_it_and_leaves_three_times_what_is_needed(size, at_least, factor):
    image, whole = decode(encode(np.zeros((*size, 3), np.uint8)), at_least)
    assert whole == size
    assert image.shape == (size[0] // factor, size[1] // factor, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_whole(form):
    assert decode(encode(Image.new("RGB", (640, 480)), form), 20)[0].shape == (480, 640, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_jpeg_is_upright_too(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph(480, 640), exif=exif)
    (small, size), (whole, same) = decode(data, 80), decode(data)
    assert size == same == whole.shape[:2] == ((640, 480) if orientation > 4 else (480, 640))
    assert small.shape[0] * 2 == whole.shape[0]
    assert mean_difference(small, whole) < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_smaller_jpeg_of_another_mode(mode):
    data = encode(Image.fromarray(photograph(480, 640)).convert(mode))
    small = decode(data, 80)[0]
    assert small.shape == (240, 320, 3)
    assert mean_difference(small, decode(data)[0]) < 3


def input_difference(data: bytes, side: int) -> np.ndarray:
    """Absolute difference of a network's input, in 1/255, between decoding at a fraction and whole."""
    (small, size), (whole, _) = decode(data, side), decode(data)
    assert small.size <= whole.size / 4
    resized = fit_crop(size, side, (side, side)).resized
    return np.abs(resize(small, resized).astype(int) - resize(whole, resized))


@pytest.mark.parametrize("steepness", [1.0, 0.7])
@pytest.mark.parametrize(("height", "width"), [(1536, 2048), (3072, 3088), (2000, 3000)])
def test_the_input_of_a_network_hardly_changes(height, width, steepness):
    """Measured: at most 0.8 in the mean, 3 for 99 of 100, 5 at most."""
    error = input_difference(encode(photograph(height, width, steepness)), 256)
    assert 0.1 < error.mean() < 1
    assert np.percentile(error, 99) <= 4
    assert error.max() <= 10


def test_the_input_hardly_changes_for_real_photographs(shared_data):
    """Half and a quarter of their size, for inputs of a sixth and a twelfth. Measured on all: at most 0.9, 5 and 15."""
    for path in sorted((shared_data / "imagenet" / "images").glob("*.JPEG"))[::5]:
        photo = np.asarray(Image.open(path).convert("RGB"))
        photo = photo[: photo.shape[0] // 8 * 8, : photo.shape[1] // 8 * 8]
        for factor in (2, 4):
            error = input_difference(encode(photo, quality=92), min(photo.shape[:2]) // factor // 3)
            assert error.mean() < 1, path
            assert np.percentile(error, 99) <= 5, path
            assert error.max() <= 16, path


# Two decoders


def test_damaged_jpegs_are_refused_or_read_as_pillow_does():
    rng, verdicts = np.random.default_rng(0), Counter()
    forms = {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}, {}
    for number in range(400):
        mode = "RGB" if number // len(forms) % 2 else "L"
        good = encode(Image.fromarray(photograph(72, 96)).convert(mode), **forms[number % len(forms)])
        data = damage([good], 0, number // 8 % 2, rng)
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as opened:
                expected = np.asarray(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError):
            with pytest.raises(ImageError):
                decode(data)
            verdicts["refused"] += 1
            continue
        assert np.array_equal(decode(data)[0], expected)
        verdicts["read"] += 1
    assert min(verdicts["refused"], verdicts["read"]) > 100


# Strips


@pytest.mark.parametrize("size", [(700, 900), (2, 300_001), (300_001, 2), (513, 1024)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16", "CMYK"])
def test_strips_join_to_the_whole_image(size, mode):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    if mode == "I;16":
        source = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
        expected = np.repeat(noise[..., :1], 3, -1)
    else:
        source = Image.fromarray(noise).convert(mode)
        expected = np.asarray(source.convert("RGB"))
    image, found_size = decode(encode(source, "TIFF"))
    assert found_size == size
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.array_equal(image, expected)


# Shared with other users of Pillow


def test_a_decoder_that_hangs_stops_no_other(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    data = encode(np.zeros((48, 64, 3), np.uint8), "PNG")
    hung, release, load = threading.Event(), threading.Event(), ImageFile.ImageFile.load

    def hang(self):
        hung.set()
        release.wait(30)
        return load(self)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", hang)
        thread = threading.Thread(target=decode, args=(data,))
        thread.start()
        assert hung.wait(30)
    assert decode(data)[0].shape == (48, 64, 3)
    release.set()
    thread.join()
    assert Image.MAX_IMAGE_PIXELS == 300


def test_pillow_keeps_memory_for_the_next_image_and_gives_it_back():
    """Large enough for two blocks, of which Pillow keeps none by default."""
    data = encode(Image.new("L", (2400, 2400)), "PNG")
    stats = Image.core.get_stats
    Image.core.clear_cache()
    with tuned_for_workers():
        decode(data)
        cached, reused = stats()["blocks_cached"], stats()["reused_blocks"]
        decode(data)
        assert stats()["reused_blocks"] > reused
    assert cached >= 2
    assert stats()["blocks_cached"] == Image.core.get_blocks_max() == 0
