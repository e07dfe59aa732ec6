"""An overlay as a JPEG file stores it: luma, and chroma at half the size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.drawing.colormaps import lookup, to_color_indices
from cam.drawing.overlay import (
    BLACK,
    STRIP,
    SUBPIXELS,
    WHITE,
    check_style,
    contour_lines,
    draw_boxes,
    draw_frame,
    draw_lines,
    pale,
    stroke,
)
from cam.maps.boxes import Box
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import interpolation_weights, matmul

GRAY = 128  # chroma of what has no color
# RGB to chroma, from JFIF.
_CB, _CR = (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)


@dataclass(frozen=True)
class Planes:
    """An image of (H, W) pixels: luma (H, W) and chroma ((H + 1) // 2, (W + 1) // 2), uint8, full range (JFIF)."""

    y: NDArray[np.uint8]
    cb: NDArray[np.uint8]
    cr: NDArray[np.uint8]

    @property
    def chroma(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Both planes."""
        return self.cb, self.cr


def draw_planes(
    image: NDArray[np.uint8],
    cam: NDArray[np.floating],
    grid: Grid,
    frame: Frame,
    *,
    vmax: float,
    opacity: float,
    colormap: str,
    contours: bool,
    boxes: Sequence[Box],
    below: NDArray[np.uint8],
) -> Planes:
    """Paint heat over a gray photograph as `draw` does, but faster, with `boxes` and an image (h, W, 3) below.

    The photograph is RGB (H, W, 3) or gray (H, W). The heat is that of blocks of 2 x 2 pixels, as chroma is: it is
    much smoother.
    """
    check_style(opacity, "gray")
    height, width = frame.photo
    down, across = (interpolation_weights(axis, cam.shape[axis], grid, frame) for axis in (0, 1))
    planes = _make_empty(height + below.shape[0], width)
    blocks = _seen_blocks(frame)
    _draw_heat(
        planes, image, to_color_indices(cam, vmax), blocks, _of_blocks(down), _of_blocks(across), colormap, opacity
    )
    photo = planes.y[:height]
    if contours:
        lines = contour_lines(cam, grid, frame, down, across, vmax, colormap)
        draw_lines(photo, lines)
        halved = [points - SUBPIXELS // 2 for points in lines]  # the middle of a block lies between two pixels
        for plane in planes.chroma:
            thickness = (stroke(photo, 600) + 3) // 2
            cv2.polylines(plane, halved, False, GRAY, thickness, cv2.LINE_8, int(math.log2(2 * SUBPIXELS)))
    if frame.seen != (0, 0, width, height):
        _draw_unseen(planes, frame)
    draw_boxes(photo, boxes)
    for x0, y0, x1, y1 in boxes:
        for plane in planes.chroma:
            thickness = (3 * stroke(photo, 250) + 1) // 2
            cv2.rectangle(plane, (x0 // 2, y0 // 2), ((x1 - 1) // 2, (y1 - 1) // 2), GRAY, thickness)
    _paste_below(planes, below)
    return planes


def to_planes(image: NDArray[np.uint8]) -> Planes:
    """Convert (H, W, 3) uint8 RGB; a block has the color of its upper left pixel."""
    planes = _make_empty(*image.shape[:2])
    _paste_below(planes, image)
    return planes


def _make_empty(height: int, width: int) -> Planes:
    """Make an image whose pixels are not set yet."""
    chroma = (height + 1) // 2, (width + 1) // 2
    return Planes(np.empty((height, width), np.uint8), np.empty(chroma, np.uint8), np.empty(chroma, np.uint8))


def _seen_blocks(frame: Frame) -> Box:
    """The blocks of 2 x 2 pixels (x0, y0, x1, y1) that the network saw, also in part."""
    x0, y0, x1, y1 = frame.seen
    return (x0 // 2, y0 // 2, (x1 + 1) // 2, (y1 + 1) // 2) if x0 < x1 and y0 < y1 else (0, 0, 0, 0)


def _draw_heat(
    planes: Planes,
    image: NDArray[np.uint8],
    indices: NDArray[np.float32],
    blocks: Box,
    down: NDArray[np.float32],
    across: NDArray[np.float32],
    colormap: str,
    opacity: float,
) -> None:
    """Paint the seen blocks, and set the luma of the rest, which is pale."""
    (left, upper, right, lower), height = blocks, len(image)
    cells, columns = matmul(indices, across[left:right].T), slice(2 * left, 2 * right)
    blocks_at_once = max(1, STRIP // (2 * image.shape[1]))
    for top in range(0, (height + 1) // 2, blocks_at_once):
        bottom = min(top + blocks_at_once, (height + 1) // 2)
        gray = image[2 * top : 2 * bottom]
        if image.ndim == 3:
            gray = np.asarray(cv2.cvtColor(gray, cv2.COLOR_RGB2GRAY), np.uint8)
        luma = planes.y[2 * top : min(2 * bottom, height)]
        first, last = max(top, upper), min(bottom, lower)
        rows = slice(2 * (first - top), 2 * (last - top)) if first < last else slice(0, 0)
        for part in np.s_[: rows.start], np.s_[rows.stop :], np.s_[rows, : 2 * left], np.s_[rows, 2 * right :]:
            if gray[part].size:
                luma[part] = pale(gray[part])
        if first < last:
            used = np.flatnonzero(down[[first, last - 1]].any(0))  # cells outside of these are too far away
            near = slice(used[0], used[-1] + 1)
            heat = matmul(down[first:last, near], cells[near]).clip(0, 255)
            index = np.asarray(cv2.convertScaleAbs(heat), np.uint8)  # which rounds
            _blend(index, gray[rows, columns], luma[rows, columns], colormap, opacity)
            for plane, table in zip(planes.chroma, _chroma(colormap, opacity), strict=True):
                cv2.LUT(index, table, dst=plane[first:last, left:right])


def _draw_unseen(planes: Planes, frame: Frame) -> None:
    """Take the color of what was not seen, and draw the frame around what was."""
    (x0, y0, x1, y1), (height, width) = frame.seen, frame.photo
    bottom, right = (y1 + (y1 == height)) // 2, (x1 + (x1 == width)) // 2  # the last block of an odd side is a half
    for plane in planes.chroma:
        plane[: (y0 + 1) // 2] = plane[bottom:] = plane[:, : (x0 + 1) // 2] = plane[:, right:] = GRAY
    if x0 < x1 and y0 < y1:
        draw_frame(planes.y[:height], frame.seen)


def _paste_below(planes: Planes, image: NDArray[np.uint8]) -> None:
    """Copy an image (h, W, 3) into the last rows."""
    top = planes.y.shape[0] - image.shape[0]
    if image.size:
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY, dst=planes.y[top:])
        colors = np.asarray(cv2.cvtColor(image[top % 2 :: 2], cv2.COLOR_RGB2YCrCb), np.uint8)
        for plane, channel in zip(planes.chroma, (2, 1), strict=True):
            plane[(top + 1) // 2 :] = colors[:, ::2, channel]


def _of_blocks(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the weights (pixels, cells) of each two pixels; the last may be alone."""
    even, odd = weights[::2], weights[1::2]
    return np.asarray((even + (odd if len(even) == len(odd) else np.concatenate([odd, weights[-1:]]))) / 2, np.float32)


def _blend(
    index: NDArray[np.uint8], gray: NDArray[np.uint8], luma: NDArray[np.uint8], colormap: str, opacity: float
) -> None:
    """Set the luma of a gray photograph under the colors of its blocks."""
    through, light = (cv2.LUT(index, table).view(np.uint8)[:, : gray.shape[1]] for table in _luma(colormap, opacity))
    for row in (0, 1):
        part, target = gray[row::2], luma[row::2]
        product = cv2.multiply(part, through[: len(part)], scale=(WHITE - BLACK) / 255)
        cv2.add(product, light[: len(part)], dst=target)


@cache
def _luma(colormap: str, opacity: float) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """What a color lets through of the photograph, and the luma that it adds: each byte twice, for two pixels."""
    table = lookup(colormap).astype(np.float64)
    share = opacity * table[:, 3] / 255
    added = (table[:, :3] @ (0.299, 0.587, 0.114)) * share + 255 * BLACK * (1 - share)
    through, light = (
        np.rint(values).astype(np.uint8).repeat(2).view(np.int16) for values in (255 * (1 - share), added)
    )
    return through[None], light[None]


@cache
def _chroma(colormap: str, opacity: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The chroma, blue and red, of each color over gray."""
    table = lookup(colormap).astype(np.float64)
    share = opacity * table[:, 3] / 255
    blue, red = (np.rint(GRAY + share * (table[:, :3] @ weights)).astype(np.uint8) for weights in (_CB, _CR))
    return blue[None], red[None]
