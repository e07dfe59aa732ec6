"""Signed evidence to colors."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError

_OPENCV = {n.removeprefix("COLORMAP_").lower(): getattr(cv2, n) for n in dir(cv2) if n.startswith("COLORMAP_")}

_ZERO = 128  # the index of no evidence; 1 is -vmax, 255 is +vmax
_STEPS = 127
_LARGEST_STEP = 1e37  # single precision can still average it


@cache
def lookup(colormap: str) -> NDArray[np.uint8]:
    """Return the colors of evidence, (256, 3) uint8 RGB, read-only: -vmax at 1, zero at 128, +vmax at 255; 0 repeats 1.

    "signed" is black at zero and grows lighter on both sides, CIELAB lightness in proportion to the evidence: over
    red and orange to yellow for the class, over blue to cyan against it. Other names are color maps of OpenCV, with
    or without "COLORMAP_", in any case.
    """
    name = colormap.lower().removeprefix("colormap_")
    if name == "signed":
        against, favor = _half(290, 210), _half(38, 95)
        table = np.concatenate([against[-1:], against[:0:-1], favor])
    elif name in _OPENCV:
        index = np.rint(np.linspace(0, 255, 2 * _STEPS + 1)).astype(np.uint8)
        spread = cv2.applyColorMap(index[:, None], _OPENCV[name]).reshape(-1, 3)[:, ::-1]
        table = np.concatenate([spread[:1], spread])
    else:
        near = get_close_matches(name, ["signed", *_OPENCV], n=5, cutoff=0.4) or ["signed", "viridis", "turbo"]
        problem = f"--colormap must be signed or the name of an OpenCV color map, got {colormap!r}"
        raise UsageError(problem, f"Use --colormap {' or '.join(near)}")
    table.flags.writeable = False  # shared by all callers
    return table


def colorize(
    values: NDArray[np.floating], vmax: float, colormap: str = "signed", signed: bool = True
) -> NDArray[np.uint8]:
    """Paint evidence (H, W) in the colors of a scale from -vmax to vmax, or from 0 if not signed: (H, W, 3) uint8 RGB.

    Values beyond the ends get the outermost colors, NaN that of zero; if vmax is 0 all values do. The color map
    "signed" always has its zero in the middle.
    """
    return paint(to_color_indices(values, vmax, colormap, signed), colormap)


def to_color_indices(
    values: NDArray[np.floating], vmax: float, colormap: str = "signed", signed: bool = True
) -> NDArray[np.float32]:
    """Convert evidence to indices of `lookup`, not rounded and not clipped: float32 of the same shape, finite.

    An average of indices is the index of the average, so the few cells of a map can be converted before they are
    interpolated to many pixels.
    """
    if not 0 <= vmax < np.inf:
        problem = f"vmax must be a finite number of 0 or more, got {vmax!r}"
        raise UsageError(problem, "Pass the value at the end of the color scale")
    if vmax < np.finfo(np.float32).tiny:
        return np.full(values.shape, _ZERO, np.float32)
    with np.errstate(over="ignore"):  # evidence far beyond a tiny vmax
        indices = _STEPS * np.divide(values, vmax, dtype=np.float32)
        if not signed and colormap.lower() != "signed":
            indices = 2 * indices - _STEPS
    clipped = np.clip(indices + _ZERO, -_LARGEST_STEP, _LARGEST_STEP)
    finite: NDArray[np.float32] = np.nan_to_num(clipped, copy=False, nan=_ZERO)
    return finite


def paint(indices: NDArray[np.float32], colormap: str = "signed") -> NDArray[np.uint8]:
    """Paint the indices of `to_color_indices`, (H, W) and not empty, rounded and clipped: (H, W, 3) uint8 RGB."""
    index = cv2.convertScaleAbs(np.clip(indices, 0, 255))  # which rounds
    four_bytes = cv2.LUT(index, _packed(colormap)).view(np.uint8)
    return np.asarray(cv2.cvtColor(four_bytes.reshape(*indices.shape, 4), cv2.COLOR_RGBA2RGB), np.uint8)


@cache
def _packed(colormap: str) -> NDArray[np.int32]:
    """Pack each color in four bytes: OpenCV looks up one number of four bytes much faster than three of one."""
    return np.pad(lookup(colormap), ((0, 0), (0, 1))).view(np.int32).reshape(1, -1)


def _half(zero_hue: float, outer_hue: float) -> NDArray[np.uint8]:
    """Return (128, 3) uint8 RGB from black on: lightness rises evenly to 90, hue turns, chroma is all sRGB has."""
    share = np.linspace(0, 1, _STEPS + 1)[:, None]
    hue = np.deg2rad(zero_hue + (outer_hue - zero_hue) * share**2)
    chroma = np.minimum(np.arange(0, 131, 0.5), 200 * share)  # starts at black
    lab = np.stack(np.broadcast_arrays(90 * share, chroma * np.cos(hue), chroma * np.sin(hue)), -1)
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)
    exists = np.abs(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) - lab).max(-1) < 0.5
    fullest = np.logical_and.accumulate(exists, 1).sum(1) - 1
    return np.asarray(np.rint(255 * rgb[np.arange(_STEPS + 1), fullest]), np.uint8)
