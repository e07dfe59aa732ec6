"""Files of pictures, some with headers made by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from garbage import chunk
from PIL import Image


def photograph(height: int = 24, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (width, height)))


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(width: int, height: int, bits: int = 1, color_type: int = 0, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
