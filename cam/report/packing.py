"""Numbers to known precision in few bytes, which a browser can read without a library."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

_LEVEL = 6  # of deflate: 1 takes a third of the time and 4 % more bytes, 9 ten times as long for 2 % less


class Packed(TypedDict):
    """An array of whole multiples of a quantum, ready for JSON.

    Attributes:
        shape: of the array.
        quantum: unit of the whole numbers.
        planes: bytes a number.
        data: base64 of deflated (RFC 1951) bytes: a bit for each number, whether it is not zero, the first in the
            highest bit; then of those that are not, all lowest bytes, all next bytes and so on. A number n >= 0 is
            written as 2 n, one below as -2 n - 1.
    """

    shape: list[int]
    quantum: float
    planes: int
    data: str


def pack(values: NDArray[np.floating] | NDArray[np.integer], quantum: float) -> Packed:
    """Round to multiples of a quantum and pack them: none is off by more than half of it.

    Args:
        values: of any shape, finite, below 2**52 quanta.
        quantum: a power of two, so that multiples are exact.

    Example:
        >>> packed = pack(np.array([[0.0, 0.26, -100.0]]), 0.25)
        >>> unpack(packed).tolist()
        [[0.0, 0.25, -100.0]]
    """
    numbers = np.rint(np.asarray(values, np.float64).ravel() / quantum).astype(np.int64)
    there = numbers != 0
    folded = (numbers[there] << 1) ^ (numbers[there] >> 63)
    planes = max(1, math.ceil(int(folded.max(initial=0)).bit_length() / 8))
    low_first = folded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :planes]
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = squeeze.compress(np.packbits(there).tobytes() + low_first.T.tobytes()) + squeeze.flush()
    return {"shape": list(values.shape), "quantum": quantum, "planes": planes, "data": b64encode(data).decode()}


def unpack(packed: Packed) -> NDArray[np.float32]:
    """Read what `pack` packed: float32 of its shape.

    Example:
        >>> unpack(pack(np.arange(6).reshape(2, 3), 1.0)).shape
        (2, 3)
    """
    count = math.prod(packed["shape"])
    data = np.frombuffer(zlib.decompress(b64decode(packed["data"]), -zlib.MAX_WBITS), np.uint8)
    there = np.unpackbits(data[: -(-count // 8)], count=count).astype(bool)
    low_first = data[-(-count // 8) :].reshape(packed["planes"], -1).astype(np.int64)
    folded = (low_first << (8 * np.arange(packed["planes"])[:, None])).sum(0)
    values = np.zeros(count, np.float32)
    values[there] = ((folded >> 1) ^ -(folded & 1)) * packed["quantum"]
    return values.reshape(packed["shape"])
