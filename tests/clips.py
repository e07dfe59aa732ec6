"""Make clips: a digit that moves over a background, at known positions and times, with sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from runs import SAMPLES

from cam.images.io import read_image

TICK = Fraction(1, 12800)
SIZE = 288, 320
UNEVEN = [0, 0.04, 0.1, 0.12, 0.24, 0.3, 0.36, 0.5]  # seconds


def digit() -> np.ndarray:
    """A five on its own background."""
    return read_image(SAMPLES / "five.png")[60:188, 120:220]


def moving_digit(corners: Sequence[tuple[int, int]], size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames with the five at these corners (y, x)."""
    five = digit()
    frames = []
    for y, x in corners:
        frame = np.full((*size, 3), np.median(five), np.uint8)
        frame[y : y + five.shape[0], x : x + five.shape[1]] = five
        frames.append(frame)
    return frames


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    seconds: Sequence[float] | None = None,
    *,
    sound: str | None = None,
    rotation: int = 0,
    codec: str = "libx264",
    tick: Fraction = TICK,
) -> Path:
    """Write frames, 25 a second or at these seconds; `rotation` turns them counterclockwise when they are shown."""
    seconds = [number / 25 for number in range(len(frames))] if seconds is None else seconds
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.height, stream.width = (side + side % 2 for side in frames[0].shape[:2])
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", tick
        if codec == "libx264":
            stream.options = {"crf": "12"}
        if rotation:
            stream.set_display_rotation(rotation)
        voice = out.add_stream(sound, rate=48000) if sound else None
        for image, second in zip(frames, seconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base, frame.duration = round(second / tick), tick, round(0.04 / tick)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if voice:
            _add_tone(out, voice, seconds[-1] + 0.04)
    return path


def _add_tone(out: Any, voice: Any, seconds: float) -> None:
    wave = 8000 * np.sin(np.arange(round(48000 * seconds)) * 440 * 2 * np.pi / 48000)
    tone = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
    tone.sample_rate = 48000
    context = voice.codec_context
    resampler = av.AudioResampler(context.format, context.layout, 48000, context.frame_size or 1024)
    for part in (tone, None):
        for frame in resampler.resample(part):
            out.mux(voice.encode(frame))
    out.mux(voice.encode())


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def seconds_of(path: Path) -> list[float]:
    """When each frame is shown, and when the last one ends."""
    frames = frames_of(path)
    last = frames[-1]
    return [float(frame.pts * frame.time_base) for frame in frames] + [
        float((last.pts + last.duration) * last.time_base)
    ]


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    """The packets of sound with their times in seconds."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(round(float(packet.pts * packet.time_base), 4), bytes(packet)) for packet in packets]
