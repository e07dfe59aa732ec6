"""Make image files, some from hand-made headers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


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
