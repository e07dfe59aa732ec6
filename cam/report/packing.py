"""Arrays to known precision in few bytes, which a browser can read without a library."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Packed(TypedDict):
    """An array of whole multiples of a quantum, ready for JSON.

    `data` is base64 of deflated (RFC 1951) bytes: one bit per number, set where it is not zero, first number in the
    highest bit; then of the numbers that are not zero all lowest bytes, all next bytes and so on, `planes` bytes each.
    A number n >= 0 is stored as 2 n, a negative one as -2 n - 1.
    """

    shape: list[int]
    quantum: float
    planes: int
    data: str


def pack(values: NDArray[np.floating] | NDArray[np.integer], quantum: float) -> Packed:
    """Round finite values below 2**52 quanta to multiples of a quantum, a power of two, and pack them."""
    numbers = np.rint(np.asarray(values, np.float64).ravel() / quantum).astype(np.int64)
    nonzero = numbers != 0
    folded = (numbers[nonzero] << 1) ^ (numbers[nonzero] >> 63)
    planes = max(1, math.ceil(int(folded.max(initial=0)).bit_length() / 8))
    low_first = folded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :planes]
    data = zlib.compress(np.packbits(nonzero).tobytes() + low_first.T.tobytes(), wbits=-zlib.MAX_WBITS)
    return {"shape": list(values.shape), "quantum": quantum, "planes": planes, "data": b64encode(data).decode()}


def unpack(packed: Packed) -> NDArray[np.float32]:
    """Read what `pack` wrote."""
    count = math.prod(packed["shape"])
    data = np.frombuffer(zlib.decompress(b64decode(packed["data"]), -zlib.MAX_WBITS), np.uint8)
    nonzero = np.unpackbits(data[: -(-count // 8)], count=count).astype(bool)
    low_first = data[-(-count // 8) :].reshape(packed["planes"], -1).astype(np.int64)
    folded = (low_first << (8 * np.arange(packed["planes"])[:, None])).sum(0)
    values = np.zeros(count, np.float32)
    values[nonzero] = ((folded >> 1) ^ -(folded & 1)) * packed["quantum"]
    return values.reshape(packed["shape"])
