"""Overlays as luma and chroma: the same picture as in RGB."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import cam
from cam.drawing import planes as module
from cam.drawing.curves import Plot
from cam.drawing.legend import INK
from cam.drawing.overlay import draw, draw_boxes
from cam.drawing.planes import Planes, draw_planes
from cam.explanations.explanation import Explanation
from cam.maps.geometry import Frame, fit_crop, fit_whole, stretched

FRAMES = {
    "whole": fit_whole((60, 80), 60),
    "odd, whole": fit_whole((61, 83), 61),
    "crop": fit_crop((90, 140), 64, (56, 56)),
    "odd crop": fit_crop((91, 143), 61, (53, 53)),
    "odd crop of a tall image": fit_crop((200, 77), 61, (53, 53)),
}
STYLE: dict[str, Any] = {"vmax": 2.0, "opacity": 0.85, "colormap": "signed", "contours": False}


def photograph(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (-(-height // 25), -(-width // 25), 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def cells() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(5, 5)).astype(np.float32)


def drawn(frame: Frame, boxes: Any = (), **style: Any) -> tuple[Planes, np.ndarray]:
    """The same overlay as planes and as RGB."""
    image, grid, style = photograph(*frame.photo), stretched((5, 5), frame.input), {**STYLE, **style}
    below = photograph(9, frame.photo[1])
    canvas = np.empty_like(image)
    draw(canvas, image, cells(), grid, frame, **style)
    draw_boxes(canvas, boxes)
    planes = draw_planes(image, cells(), grid, frame, **style, boxes=boxes, below=below)
    return planes, np.concatenate([canvas, below])


def of_blocks(plane: np.ndarray) -> np.ndarray:
    even = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    return np.asarray(even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3)))


def jfif(rgb: np.ndarray) -> list[np.ndarray]:
    """Y, Cb and Cr by the formulas of the JFIF standard, in float64."""
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]


def test_a_gray_photograph_is_one_of_its_luma() -> None:
    frame = FRAMES["odd crop"]
    style = {**STYLE, "boxes": (), "below": photograph(9, frame.photo[1])}
    images = photograph(*frame.photo), cv2.cvtColor(photograph(*frame.photo), cv2.COLOR_RGB2GRAY)
    of_rgb, of_gray = (draw_planes(image, cells(), stretched((5, 5), frame.input), frame, **style) for image in images)
    for plane, expected in zip((of_gray.y, *of_gray.chroma), (of_rgb.y, *of_rgb.chroma), strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_a_curve_of_planes_is_that_of_rgb() -> None:
    plot = Plot((81, 301), 10, [0.0, 1.0, 2.0], {"a": [1.0, 5.0, 2.0]}, "logit")
    planes, (luma, *chroma) = plot.planes_at(1.25), jfif(plot.at(1.25))
    assert np.abs(planes.y - luma).max() < 1
    for plane, expected in zip(planes.chroma, chroma, strict=True):
        line = of_blocks(plot.at(1.25).max(2)) < 160
        assert np.abs(plane - of_blocks(expected))[~line].mean() < 1
    y, x = 30, int(np.flatnonzero((plot.at(1.25)[30] == INK).all(1))[0])
    assert [plane[y // 2, x // 2] for plane in planes.chroma] == [128, 128]
    assert (planes.y[30] == INK).sum() == (plot.planes_at(0.5).y[30] == INK).sum() == 3  # no line of before


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("style", [{}, {"opacity": 0.3}, {"colormap": "viridis"}, {"vmax": 0.0}], ids=str)
def test_planes_are_those_of_the_rgb_overlay(frame: Frame, style: dict[str, Any]) -> None:
    """A block has the color of its middle: at its pixels the heat differs by a half of its slope."""
    planes, rgb = drawn(frame, **style)
    height, (luma, *chroma) = frame.photo[0], jfif(rgb)
    assert (planes.y.shape, planes.y.dtype) == (rgb.shape[:2], np.uint8)
    x0, y0, x1, y1 = frame.seen
    error = np.abs(planes.y[:height] - luma[:height])
    assert error[y0:y1, x0:x1].mean() < 1.5
    assert error[y0:y1, x0:x1].max() < 16
    error[y0:y1, x0:x1] = 0
    assert error.max() < 1.01  # what was not seen, and the frame
    for plane, expected in zip(planes.chroma, chroma, strict=True):
        assert plane.shape == ((rgb.shape[0] + 1) // 2, (rgb.shape[1] + 1) // 2)
        inside = slice((y0 + 1) // 2, y1 // 2), slice((x0 + 1) // 2, x1 // 2)
        assert np.abs(plane[inside] - of_blocks(expected[:height])[inside]).max() < 4
        of_photo = plane[: height // 2].copy()
        of_photo[y0 // 2 : (y1 + 1) // 2, x0 // 2 : (x1 + 1) // 2] = 128
        assert (of_photo == 128).all()


def test_without_heat_the_luma_is_the_gray_photograph_to_a_rounding() -> None:
    planes, rgb = drawn(FRAMES["odd, whole"], opacity=0.0)
    assert np.abs(planes.y.astype(int) - jfif(rgb)[0])[:61].max() < 1.01
    assert [(plane[:30] == 128).all() for plane in planes.chroma] == [True, True]


@pytest.mark.parametrize("height", [60, 61])
def test_what_is_below_begins_in_its_own_row(height: int) -> None:
    frame = fit_whole((height, 80), 60)
    planes, rgb = drawn(frame)
    luma, blue, red = (plane[height:] for plane in jfif(rgb))
    assert np.abs(planes.y[height:] - luma).max() < 1.01
    for plane, expected in zip(planes.chroma, (blue, red), strict=True):
        assert np.abs(plane[(height + 1) // 2 :] - expected[height % 2 :: 2, ::2]).max() < 1.01


def test_lines_and_boxes_are_at_the_same_place_without_color() -> None:
    frame = fit_whole((720, 960), 240)
    boxes = [(60, 90, 363, 276)]
    (plain, _), (planes, rgb) = drawn(frame), drawn(frame, boxes, contours=True)
    changed = np.abs(planes.y.astype(int) - plain.y)[:720] > 40
    expected = np.abs(jfif(rgb)[0][:720] - plain.y[:720]) > 40
    assert 2000 < expected.sum() < 30000
    assert (changed != expected).sum() < 0.02 * expected.sum()
    white = of_blocks((planes.y[:720] > 250).astype(float)) == 1
    assert white.sum() > 10
    assert all((plane[:360][white] == 128).all() for plane in planes.chroma)


def test_strips_of_planes_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = drawn(FRAMES["odd crop"], contours=True)
    for pixels in (1, 333, 5000, 10**9):
        monkeypatch.setattr(module, "STRIP", pixels)
        parts, _ = drawn(FRAMES["odd crop"], contours=True)
        for plane in ("y", "cb", "cr"):
            difference = getattr(parts, plane).astype(int) - getattr(whole, plane)
            assert np.abs(difference).max() <= 1  # float32 sums of other cells


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    explanation: Explanation = cam.explain(cam.load_classifier("digits"), photograph(301, 403))
    return replace(explanation, frame=fit_crop((301, 403), 72, (72, 72)))


@pytest.mark.parametrize("style", [{}, {"legend": False}, {"box_share": 0.2}, {"max_side": 300}, {"photo": "color"}])
def test_a_jpeg_is_the_encoded_overlay(explanation: Explanation, style: dict[str, Any]) -> None:
    """Encoding the RGB overlay changes it by 1 to 2 levels in the mean itself."""
    rgb = explanation.overlay(**{"legend": True, **style})
    of_planes = np.asarray(Image.open(BytesIO(explanation.encode(".jpg", **style)))).astype(int)
    Image.fromarray(rgb).save(buffer := BytesIO(), "JPEG", quality=92)
    of_rgb = np.asarray(Image.open(buffer)).astype(int)
    assert of_planes.shape == rgb.shape
    assert np.abs(of_planes - of_rgb).mean() < 1.4


def test_other_formats_and_styles_are_those_of_the_overlay(explanation: Explanation) -> None:
    png = np.asarray(Image.open(BytesIO(explanation.encode(".png"))))
    assert np.array_equal(png, explanation.overlay(legend=True))
    with pytest.raises(cam.UsageError, match="--opacity must be between 0 and 1, got 2"):
        explanation.encode(".jpg", opacity=2)
    with pytest.raises(cam.UsageError, match=r"'.bmp' is not a format"):
        explanation.encode(".bmp")


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory as Linux does")
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (64, 65), (61, 83), (1, 1)])
def test_the_encoder_reads_nothing_beyond_the_planes(size: tuple[int, int]) -> None:
    """A page that may not be read follows each plane. Reading it would end the process, hence another one."""
    program = f"""
import ctypes, mmap
import numpy as np
from cam.images.io import encode_planes
def guarded(rows, columns):
    size = -(-rows * columns // 4096) * 4096
    memory = mmap.mmap(-1, size + 4096)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), 4096, 0) == 0
    return np.frombuffer(memory, np.uint8, rows * columns, size - rows * columns).reshape(rows, columns)
height, width = {size}
half = (height + 1) // 2, (width + 1) // 2
print(len(encode_planes(guarded(height, width), guarded(*half), guarded(*half))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, int(done.stdout or 0) > 100) == (0, True), done.stderr
