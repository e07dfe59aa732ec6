"""Signed evidence -> color."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.errors import UsageError

_OPENCV = {
    name.removeprefix("COLORMAP_").lower(): getattr(cv2, name) for name in dir(cv2) if name.startswith("COLORMAP_")
}

_ZERO = 128  # the index of no evidence; 1 is -vmax, 255 is +vmax

_STEPS = 127

_FARTHEST = 1e37  # steps that can still be averaged in single precision


@cache
def lookup(colormap: str) -> NDArray[np.uint8]:
    """The colors of evidence from -vmax (index 1) over zero (128) to +vmax (255).

    "signed" is black at zero and grows lighter on both sides, CIELAB lightness in proportion to the
    evidence: over red and orange to yellow for the class, over blue to cyan against it.

    Args:
        colormap: "signed", or a color map of OpenCV, with or without "COLORMAP_", in any case; spread
            from -vmax to +vmax.

    Returns:
        (256, 3) uint8 RGB, read-only; index 0 repeats index 1.

    Raises:
        UsageError: an unknown name; the nearest ones are listed.

    Example:
        >>> lookup("signed")[128], lookup("signed")[255]
        (array([0, 0, 0], dtype=uint8), array([255, 227,   0], dtype=uint8))
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
        near = get_close_matches(name, ["signed", *_OPENCV], n=5, cutoff=0.4) or ["signed", *sorted(_OPENCV)]
        raise UsageError(f"{colormap!r} is not a color map", f"Use one of {', '.join(near)}")
    table.flags.writeable = False  # shared by all callers
    return table


def colorize(
    values: NDArray[np.floating], vmax: float, colormap: str = "signed", signed: bool = True
) -> NDArray[np.uint8]:
    """Paint evidence, with what lies beyond the ends of the scale in the outermost colors.

    Args:
        values: (H, W) evidence, logit units or a probability; NaN is painted as zero.
        vmax: evidence of the outermost colors, in the same unit; none at all is shown if it is <= 0.
        colormap: as in `lookup`.
        signed: whether the scale runs from -vmax, else from 0; "signed" has its zero in the middle always.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the vmax is not finite, or the color map is unknown.

    Example:
        >>> colorize(np.array([[-9.0, 0.0, 9.0]]), vmax=4.5)[0, 2]
        array([255, 227,   0], dtype=uint8)
    """
    return paint(to_steps(values, vmax, colormap, signed), colormap)


def to_steps(
    values: NDArray[np.floating], vmax: float, colormap: str = "signed", signed: bool = True
) -> NDArray[np.float32]:
    """Put evidence on the scale that `paint` paints: 1 is -vmax, 128 no evidence, 255 +vmax, and on beyond the ends.

    An average of steps is the step of the average, so that the few cells of a map can be put on the scale before they
    are spread over many pixels.

    Args:
        values: of any shape, as in `colorize`.
        vmax: as in `colorize`.
        colormap: as in `lookup`.
        signed: as in `colorize`.

    Returns:
        float32 of the same shape, finite.

    Raises:
        UsageError: the vmax is not finite.

    Example:
        >>> to_steps(np.array([-9.0, 0.0, 4.5]), vmax=4.5).tolist()
        [-126.0, 128.0, 255.0]
    """
    if not np.isfinite(vmax):
        raise UsageError(f"{vmax!r} is not a vmax of a color scale", "Give a finite number of logit units")
    if vmax < np.finfo(np.float32).tiny:
        return np.full(values.shape, _ZERO, np.float32)
    with np.errstate(over="ignore"):  # evidence far beyond a tiny vmax
        steps = _STEPS * np.divide(values, vmax, dtype=np.float32)
        if not signed and colormap.lower() != "signed":
            steps = 2 * steps - _STEPS
    finite: NDArray[np.float32] = np.nan_to_num(np.clip(steps + _ZERO, -_FARTHEST, _FARTHEST), copy=False, nan=_ZERO)
    return finite


def paint(steps: NDArray[np.float32], colormap: str = "signed") -> NDArray[np.uint8]:
    """Paint steps from `to_steps`, rounded; what lies beyond the ends in the outermost colors.

    Args:
        steps: (H, W) float32, H and W at least 1.
        colormap: as in `lookup`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the color map is unknown.

    Example:
        >>> paint(np.array([[-126.0, 128.0, 254.6]], np.float32))[0, 2]
        array([255, 227,   0], dtype=uint8)
    """
    index = cv2.convertScaleAbs(np.clip(steps, 0, 255))  # which rounds
    four_bytes = cv2.LUT(index, _packed(colormap)).view(np.uint8)
    return np.asarray(cv2.cvtColor(four_bytes.reshape(*steps.shape, 4), cv2.COLOR_RGBA2RGB), np.uint8)


@cache
def _packed(colormap: str) -> NDArray[np.int32]:
    """The colors in four bytes each: OpenCV looks up one number of four bytes much faster than three of one."""
    return np.pad(lookup(colormap), ((0, 0), (0, 1))).view(np.int32).reshape(1, -1)


def _half(zero_hue: float, outer_hue: float) -> NDArray[np.uint8]:
    """(128, 3) uint8 RGB from black on: lightness rises evenly to 90, hue turns, chroma is all sRGB has."""
    share = np.linspace(0, 1, _STEPS + 1)[:, None]
    hue = np.deg2rad(zero_hue + (outer_hue - zero_hue) * share**2)
    chroma = np.minimum(np.arange(0, 131, 0.5), 200 * share)  # no leap out of black
    lab = np.stack(np.broadcast_arrays(90 * share, chroma * np.cos(hue), chroma * np.sin(hue)), -1)
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)
    exists = np.abs(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) - lab).max(-1) < 0.5
    fullest = np.logical_and.accumulate(exists, 1).sum(1) - 1
    return np.asarray(np.rint(255 * rgb[np.arange(_STEPS + 1), fullest]), np.uint8)
