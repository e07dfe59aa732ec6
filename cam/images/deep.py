"""Read the samples of PNG, PNM and JPEG 2000 files of more than 8 bits, which Pillow cuts to 8 in color."""

from __future__ import annotations

import re
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from cam.images.content import unsupported
from cam.images.samples import Samples


def deep_samples(content: bytes, opened: Image.Image, name: str) -> Samples | None:
    """Return the samples of a loaded image as stored; None if they have 8 bits or fewer."""
    if opened.mode == "F":  # a PFM
        return Samples(np.asarray(opened)[..., None], colors=1)
    top = _largest_value(content, opened.format)
    if top <= 255:
        return None
    chunks = _png_chunks(content) if opened.format == "PNG" else {}
    # Pillow has found the file sound: OpenCV returns what it could read of a damaged one.
    data = np.frombuffer(_as_png(chunks) if chunks else content, np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.shape[:2] != (opened.height, opened.width):
        raise unsupported(name, f"{opened.format} of more than 8 bits")
    values = np.atleast_3d(values)
    key = opened.info.get("transparency")
    if values.shape[2] == 1 and isinstance(key, int):
        values = np.concatenate([values, np.where(values == key, 0, 65535).astype(np.uint16)], 2)
    elif values.shape[2] >= 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    colors = 3 if values.shape[2] >= 3 else 1
    known = (0, top) if top < 65535 else None
    if significant := chunks.get(b"sBIT"):
        # By the standard they are the upper bits; values that all fit into so many are stored in the lower ones.
        used = max(significant[:colors])
        known = 0, 2**used - 1 if values[..., :colors].max() < 2**used else 65535
    return Samples(values, colors, "unassociated" if values.shape[2] > colors else "", known=known)


def _largest_value(content: bytes, form: str | None) -> int:
    """The largest value that a file can hold, from its header; 255 of other formats."""
    if form == "PNG":
        return 65535 if content[24] == 16 else 255
    if form == "PPM" and content[1:2] in b"2356":
        return int(re.sub(rb"#[^\r\n]*", b"", content[:4096]).split()[3])
    if form == "JPEG2000":
        depth = content[content.find(b"\xff\x4f\xff\x51") + 42]  # the start of the codestream, then its size and depth
        return int(2 ** ((depth & 127) + 1) - 1)
    return 255


def _png_chunks(content: bytes) -> dict[bytes, bytes]:
    """The data of a PNG's chunks by their names, the first of each; IDAT is that of all."""
    chunks: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    start = 8
    while start + 8 <= len(content) and b"IEND" not in chunks:
        length, kind = struct.unpack(">I4s", content[start : start + 8])
        data = content[start + 8 : start + 8 + length]
        if kind == b"IDAT":
            parts.append(data)
        chunks.setdefault(kind, data)
        start += length + 12
    return {**chunks, b"IDAT": b"".join(parts)}


def _as_png(chunks: dict[bytes, bytes]) -> bytes:
    """A PNG of the chunks that pixels need: OpenCV allocates what a hostile one says of its length."""
    kept = [(kind, chunks[kind]) for kind in (b"IHDR", b"tRNS", b"IDAT") if kind in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*kept, (b"IEND", b"")]
    )


def undeclared_bands(content: bytes, opened: Image.Image) -> int:
    """The bands of a JPEG 2000 file whose last one Pillow takes for the opacity, though the file does not say so."""
    if opened.format != "JPEG2000" or opened.mode not in ("LA", "RGBA"):
        return 0
    start = content.find(b"cdef") + 4
    count = int.from_bytes(content[start : start + 2], "big") if start > 4 else 0
    kinds = [content[start + 4 + 6 * index : start + 6 + 6 * index] for index in range(min(count, 8))]
    return 0 if {b"\0\1", b"\0\2"} & set(kinds) else len(opened.getbands())
