"""Bad files of all kinds that Pillow reads: truncated, with flipped bits, under other headers, and bombs."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from pictures import png
from PIL import Image

SUFFIXES = "jpg", "png", "webp", "tif"

HEADERS = b"8BPS\0\1", b"\0\0\2\0\1\0", b"SIMPLE  =                    T", b"/* XPM */"  # PSD, CUR, FITS, XPM


def garbage(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents; the bombs come first."""
    rng = np.random.default_rng(0)
    good = list(valid_files())
    damaged = (damage(good, number % len(good), number // len(good) % 4, rng) for number in range(count))
    unwritten = (header + rng.bytes(500) for header in HEADERS)
    for number, data in enumerate(islice(chain(bombs(), unwritten, damaged), count)):
        yield f"bad{number}.{SUFFIXES[number % 4]}", data


def valid_files() -> Iterator[bytes]:
    """An image in each format that Pillow writes, in the first mode that the format has."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(np.kron(rng.integers(0, 256, (9, 9, 3), np.uint8), np.ones((8, 8, 1), np.uint8)))
    Image.init()
    for form in sorted(Image.SAVE):
        for mode in ("RGB", "P", "1"):
            buffer = io.BytesIO()
            try:
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                    image.convert(mode).save(buffer, form)
            except (OSError, ValueError, KeyError):  # not in this mode, or only with a library that is not installed
                continue
            yield buffer.getvalue()
            break


def damage(good: list[bytes], index: int, method: int, rng: np.random.Generator) -> bytes:
    data = bytearray(good[index])
    if method == 0:
        return bytes(data[: int(rng.integers(0, len(data)))])
    if method == 1:
        for position in rng.integers(0, len(data), int(rng.integers(1, 40))):
            data[position] ^= 1 << int(rng.integers(0, 8))
    elif method == 2:
        other = good[int(rng.integers(len(good)))]
        data[: int(rng.integers(1, 40))] = other[: int(rng.integers(1, 60))]
    else:
        position = int(rng.integers(4, 40))  # where most formats have their size
        data[position : position + 4] = b"\x7f\xff\xff\xff"
    return bytes(data)


def bombs() -> Iterator[bytes]:
    """Valid files of some hundred kilobytes that unpack to very much: pixels, text, a profile."""
    row = bytes(1 + 3 * 10_001)
    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(row) for _ in range(10_001)) + compressor.flush()
    yield png(10_001, 10_001, 8, 2, rows)
    for kind in (b"zTXt", b"iCCP"):
        text = (kind, b"a\0\0" + zlib.compress(bytes(60_000_000), 9))
        yield png(10_001, 1, 8, 2, zlib.compress(row, 9), text)
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "TIFF", compression="group4")
    yield buffer.getvalue()
    yield b"P6\n99999 99999\n255\n" + bytes(1000)
