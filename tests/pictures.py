"""Make image files, some from hand-made headers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import check_message

from cam.errors import ImageError
from cam.images import read_image


def read(tmp_path: Path, data: bytes, **options: object) -> np.ndarray:
    """Read an image file of this content."""
    (tmp_path / "a").write_bytes(data)
    return read_image(tmp_path / "a", **options)  # type: ignore[arg-type]


def gray(tmp_path: Path, data: bytes, **options: object) -> list[int]:
    """The first row of an image that must be gray."""
    image = read(tmp_path, data, **options)
    assert (image == image[..., :1]).all()
    return image[0, :, 0].tolist()


def check_refused(tmp_path: Path, data: bytes, message: str, **options: object) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(tmp_path, data, **options)
    check_message(str(caught.value))


def photograph(height: int = 24, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (width, height)))


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(width: int, height: int, bits: int, color: int, content: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with this header, compressed rows as its content, and extra chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = (b"IHDR", header), *extra, (b"IDAT", content), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def tiff(
    array: np.ndarray,
    *,
    photometric: int = 1,
    bits: int | None = None,
    extra: tuple[int, ...] | None = None,
    apart: bool = False,
    squeeze: bool = False,
    big: bool = False,
    tags: dict[int, tuple[str, float]] | None = None,
) -> bytes:
    """A TIFF of (H, W) or (H, W, bands) in the array's order of bytes, in two strips, by the letter of the standard.

    `bits` packs them into fewer bits, `extra` is ExtraSamples, `apart` stores the bands one after another, `squeeze`
    takes the difference of neighbors and deflates it, and `tags` have a number and a format of `struct`.
    """
    values = array.reshape(*array.shape[:2], -1)
    height, width, count = values.shape
    order = ">" if values.dtype.byteorder == ">" else "<"
    bits = bits or 8 * values.dtype.itemsize
    strips = []
    for part in np.split(values, count, 2) if apart else [values]:
        if squeeze:
            part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1])).astype(values.dtype)
        for half in (part[: height // 2], part[height // 2 :]):
            if bits < 8 * values.dtype.itemsize:
                rows = ["".join(f"{value:0{bits}b}" for value in row.ravel()) for row in half]
                data = b"".join(
                    int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8)) for row in rows
                )
            else:
                data = half.tobytes()
            strips.append(zlib.compress(data) if squeeze else data)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    shorts = {258: [bits] * count, 259: [8 if squeeze else 1], 262: [photometric], 277: [count], 339: [kind] * count}
    shorts |= {284: [1 + apart], 317: [1 + squeeze]}
    longs = {256: [width], 257: [height], 278: [height - height // 2], 279: list(map(len, strips))}
    if extra is not None:
        shorts[338] = list(extra)
    entries = {tag: (3, f"{len(numbers)}H", numbers) for tag, numbers in shorts.items()}
    entries |= {tag: (4, f"{len(numbers)}I", numbers) for tag, numbers in longs.items()}
    types = {"H": 3, "h": 8, "f": 11, "d": 12}
    entries |= {tag: (types[form], f"1{form}", [value]) for tag, (form, value) in (tags or {}).items()}
    entry, head, inline = (20, 16, 8) if big else (12, 8, 4)
    start = head + 2 + 6 * big + entry * (len(entries) + 1) + inline
    after = sum(map(len, strips))
    offsets = [start + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries[273] = (4, f"{len(offsets)}I", offsets)
    table, data = b"", b""
    for tag, (type_, form, numbers) in sorted(entries.items()):
        packed = struct.pack(order + form, *numbers)
        if len(packed) > inline:
            position = struct.pack(order + "IQ"[big], start + after + len(data))
            packed, data = position, data + packed
        table += struct.pack(order + "HH" + "IQ"[big], tag, type_, len(numbers)) + packed.ljust(inline, b"\0")
    magic = b"II" if order == "<" else b"MM"
    header = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    total = struct.pack(order + "HQ"[big], len(entries))
    return magic + header + total + table + bytes(inline) + b"".join(strips) + data
