"""Signed evidence to colors and opacities."""

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
_POWER = 0.75  # of the evidence: opacity grows faster than the evidence, so that little of it is seen, too
# CIELAB (lightness, hue in degrees) from a little evidence to much; chroma is all that sRGB has. Nearly one hue each:
# evidence is read from the amount of color, also by those who see no green or no red (tools/readability.py).
_FAVOR, _AGAINST = ((60.0, 50.0), (56.0, 43.0)), ((56.0, 263.0), (46.0, 289.0))


@cache
def lookup(colormap: str) -> NDArray[np.uint8]:
    """Return the colors of evidence and their opacity, (256, 4) uint8 RGBA, read-only.

    -vmax is at 1, zero at 128, +vmax at 255; 0 repeats 1. Zero is transparent, and the opacity grows with the evidence.
    "signed" is warm for the class and cold against it. Other names are color maps of OpenCV, with or without
    "COLORMAP_", in any case: they begin at zero, and leave out what is against the class.
    """
    share = np.linspace(0, 1, _STEPS + 1)
    name = colormap.lower().removeprefix("colormap_")
    if name == "signed":
        against, favor = _ramp(*_AGAINST, share), _ramp(*_FAVOR, share)
    elif name in _OPENCV:
        index = np.rint(255 * share).astype(np.uint8)
        favor = np.asarray(cv2.applyColorMap(index[:, None], _OPENCV[name]).reshape(-1, 3)[:, ::-1], np.uint8)
        against = np.broadcast_to(favor[:1], favor.shape)
    else:
        near = get_close_matches(name, ["signed", *_OPENCV], n=5, cutoff=0.4) or ["signed", "viridis", "turbo"]
        problem = f"--colormap must be signed or the name of an OpenCV color map, got {colormap!r}"
        raise UsageError(problem, f"Use --colormap {' or '.join(near)}")
    opacity = np.rint(255 * share**_POWER)
    opacities = np.concatenate([opacity[::-1] if name == "signed" else 0 * opacity, opacity[1:]])
    table = np.column_stack([np.concatenate([against[::-1], favor[1:]]), opacities]).astype(np.uint8)
    table = np.concatenate([table[:1], table])
    table.flags.writeable = False  # shared by all callers
    return table


def has_negative(colormap: str) -> bool:
    """True if a color map also has colors for evidence against the class."""
    return bool(lookup(colormap)[1, 3])


def to_color_indices(values: NDArray[np.floating], vmax: float) -> NDArray[np.float32]:
    """Convert evidence to indices of `lookup`, not rounded and not clipped: float32 of the same shape, finite.

    An average of indices is the index of the average, so the few cells of a map can be converted before they are
    interpolated to many pixels. NaN is no evidence; if vmax is 0 all is.
    """
    if not 0 <= vmax < np.inf:
        problem = f"vmax must be a finite number of 0 or more, got {vmax!r}"
        raise UsageError(problem, "Pass the value at the end of the color scale")
    if vmax < np.finfo(np.float32).tiny:
        return np.full(values.shape, _ZERO, np.float32)
    with np.errstate(over="ignore"):  # evidence far beyond a tiny vmax
        indices = _STEPS * np.divide(values, vmax, dtype=np.float32)
    clipped = np.clip(indices + _ZERO, -_LARGEST_STEP, _LARGEST_STEP)
    finite: NDArray[np.float32] = np.nan_to_num(clipped, copy=False, nan=_ZERO)
    return finite


def paint(
    indices: NDArray[np.float32],
    base: NDArray[np.uint8],
    colormap: str,
    opacity: float,
    canvas: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Paint the indices of `to_color_indices`, (H, W) and not empty, over a base: (H, W, 3) uint8 RGB.

    The base is a gray (H, W) or RGB (H, W, 3) image. A pixel is base + a * (color - base), where a is `opacity` times
    that of the color. The result is written on the canvas (H, W, 3), if there is one.
    """
    index = cv2.convertScaleAbs(np.clip(indices, 0, 255))  # which rounds
    four_bytes = cv2.LUT(index, _packed(colormap, opacity)).view(np.uint8).reshape(*indices.shape, 4)
    rest = cv2.extractChannel(four_bytes, 3)
    if base.ndim == 3:
        rest = cv2.cvtColor(rest, cv2.COLOR_GRAY2RGB)
    under = cv2.multiply(base, rest, scale=1 / 255)
    under = under if base.ndim == 3 else cv2.cvtColor(under, cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.add(under, cv2.cvtColor(four_bytes, cv2.COLOR_RGBA2RGB), dst=canvas), np.uint8)


@cache
def _packed(colormap: str, opacity: float) -> NDArray[np.int32]:
    """Pack each color, times its opacity, and what it lets through in four bytes, which OpenCV looks up at once."""
    table = lookup(colormap).astype(np.float64)
    share = opacity * table[:, 3:] / 255
    return np.rint(np.hstack([table[:, :3] * share, 255 * (1 - share)])).astype(np.uint8).view(np.int32).reshape(1, -1)


def _ramp(first: tuple[float, float], last: tuple[float, float], share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colors from one (lightness, hue) to another, of all the chroma that sRGB has: (N, 3) uint8 RGB."""
    lightness, hue = (start + (end - start) * share[:, None] for start, end in zip(first, last, strict=True))
    chroma = np.arange(0, 131, 0.5)
    lab = np.stack(
        np.broadcast_arrays(lightness, chroma * np.cos(np.deg2rad(hue)), chroma * np.sin(np.deg2rad(hue))), -1
    )
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)
    exists = np.abs(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) - lab).max(-1) < 0.5
    fullest = np.logical_and.accumulate(exists, 1).sum(1) - 1
    return np.asarray(np.rint(255 * rgb[np.arange(len(share)), fullest]), np.uint8)
