"""Bad files of all kinds that Pillow reads: cut short, with flipped bits, under other headers, and bombs."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from PIL import Image

SUFFIXES = "jpg", "png", "webp", "tif"
# How files begin that Pillow reads and does not write.
HEADERS = {
    "CUR": b"\0\0\2\0\1\0",
    "DCX": b"\xb1\x68\xde\x3a",
    "FITS": b"SIMPLE  =                    T",
    "FLI": b"\0\0\0\0\x11\xaf",
    "FTEX": b"FTEX",
    "GBR": b"\0\0\0\x20\0\0\0\1\0\0\0\1",
    "IPTC": b"\x1c\1\0",
    "MCIDAS": b"\0\0\0\0\0\0\0\4",
    "MPEG": b"\0\0\1\xb3",
    "PCD": b"PCD_",
    "PIXAR": b"\x80\xe8\0\0",
    "PSD": b"8BPS\0\1",
    "SUN": b"\x59\xa6\x6a\x95",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0",
    "XPM": b"/* XPM */",
    "XVTHUMB": b"P7 332",
}


def garbage(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents; the first are the bombs."""
    chance = np.random.default_rng(0)
    good = list(written())
    broken = (damaged(good, number % len(good), number // len(good) % 4, chance) for number in range(count))
    for number, data in enumerate(islice(chain(bombs(), unwritten(chance), broken), count)):
        yield f"bad{number}.{SUFFIXES[number % 4]}", data


def written() -> Iterator[bytes]:
    """A sound picture of each kind that Pillow writes, in the first mode that the kind has."""
    chance = np.random.default_rng(0)
    image = Image.fromarray(np.kron(chance.integers(0, 256, (9, 9, 3), np.uint8), np.ones((8, 8, 1), np.uint8)))
    Image.init()
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "P", "1"):
            buffer = io.BytesIO()
            try:
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of kinds soon gone
                    image.convert(mode).save(buffer, kind)
            except (OSError, ValueError, KeyError):  # not in this mode, or only with a library that is not here
                continue
            yield buffer.getvalue()
            break


def damaged(good: list[bytes], kind: int, how: int, chance: np.random.Generator) -> bytes:
    data = bytearray(good[kind])
    if how == 0:
        return bytes(data[: int(chance.integers(0, len(data)))])
    if how == 1:
        for place in chance.integers(0, len(data), int(chance.integers(1, 40))):
            data[place] ^= 1 << int(chance.integers(0, 8))
    elif how == 2:
        other = good[int(chance.integers(len(good)))]
        data[: int(chance.integers(1, 40))] = other[: int(chance.integers(1, 60))]
    else:
        place = int(chance.integers(4, 40))  # where most formats hold their size
        data[place : place + 4] = b"\x7f\xff\xff\xff"
    return bytes(data)


def unwritten(chance: np.random.Generator) -> Iterator[bytes]:
    for header in HEADERS.values():
        yield header + chance.bytes(500)


def bombs() -> Iterator[bytes]:
    """Sound files of some hundred kilobytes that unpack to very much: pixels, text, a profile, frames."""
    nothing = zlib.compress(bytes(1 + 3 * 10_001), 9)
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + 3 * 10_001)) for _ in range(10_001)) + rows.flush()
    yield png(10_001, 10_001, packed)
    yield png(10_001, 1, nothing, (b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000), 9)))
    yield png(10_001, 1, nothing, (b"iCCP", b"a\0\0" + zlib.compress(bytes(60_000_000), 9)))
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "TIFF", compression="group4")
    yield buffer.getvalue()
    yield b"P6\n99999 99999\n255\n" + bytes(1000)


def png(width: int, height: int, packed: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), *extra, (b"IDAT", packed), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
