"""Read the frames of a clip: a video (PyAV), or an animated GIF or WebP (Pillow)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cam.errors import ImageError, UsageError
from cam.images.archives import read_member
from cam.images.content import open_regular, unreadable
from cam.images.decode import check_size, from_pillow, pillow_limit_lifted
from cam.images.find import ANIMATION_SUFFIXES, VIDEO_SUFFIXES, Picture
from cam.images.read import Limits
from cam.images.samples import ReadOptions, Samples, to_rgb

if TYPE_CHECKING:
    import av

# Only these containers: others name further files or addresses, which FFmpeg would open.
_CONTAINERS = {"format_whitelist": "mov,matroska,avi"}
_COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC: a still image, the cover of the sound
_MILLISECOND = Fraction(1, 1000)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG: luma from 0 to 255, not from 16 to 235
_LARGEST_INT = 2**31 - 1  # of FFmpeg's fractions
_DAMAGED = "Copy or export it again, or give an --end before the damage"


@dataclass(frozen=True)
class ClipOptions:
    """Which files are clips, and which of their frames are taken.

    Attributes:
        frames: True if animated GIF and WebP files are clips; else their first frame is an image.
        every: take only every so many frames, the first of them included.
        start: first second to take, counted from the clip's beginning.
        end: the second before which to end; None for all.
    """

    frames: bool = False
    every: int = 1
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"--every must be 1 or more, got {self.every}", "Use 2 for every other frame")
        if not 0 <= self.start < (math.inf if self.end is None else self.end):
            problem = f"--start must be 0 or more, and less than --end, got {self.start:g} and {self.end or 0:g}"
            raise UsageError(problem, "Give seconds from the beginning of the clip")


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """A frame that has been decoded, and its time."""

    pts: int  # time stamp, in units of the clip's time base
    seconds: float  # from the beginning of the clip
    end: float  # second at which it ends
    duration: int  # in units of the time base; 0 if the file does not say
    content: av.VideoFrame | NDArray[np.uint8]
    rotation: int  # degrees, counterclockwise, by which the content is turned to be upright
    size: tuple[int, int]  # (H, W), upright

    def image(self, options: ReadOptions) -> NDArray[np.uint8]:
        """Convert to (H, W, channels) uint8, upright, RGB by default."""
        pixels = self.content if isinstance(self.content, np.ndarray) else self.content.to_ndarray(format="rgb24")
        image = np.ascontiguousarray(np.rot90(pixels, self.rotation // 90), np.uint8)
        return to_rgb(Samples(image, 3), options, "the clip") if options.bands else image

    def gray(self) -> NDArray[np.uint8]:
        """The luma of a video's frame, (H, W) uint8, upright, full range: in a third of the time of RGB."""
        frame = cast("av.VideoFrame", self.content)
        if frame.format.name == "yuv420p" and frame.color_range != _FULL_RANGE:
            luma = pixels_of(frame.planes[0])[: frame.height]
            pixels = cv2.addWeighted(luma, 255 / 219, luma, 0, -16 * 255 / 219)  # which clips
        else:
            pixels = frame.to_ndarray(format="gray")
        return np.ascontiguousarray(np.rot90(pixels, self.rotation // 90), np.uint8)


def pixels_of(plane: Any) -> NDArray[np.uint8]:
    """The pixels (H, W) of a plane of a frame, not copied."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width]


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip that is open."""

    size: tuple[int, int]  # (H, W) of its frames, upright
    rotation: int  # degrees, counterclockwise, by which its stored frames are turned to be upright
    time_base: Fraction  # seconds
    rate: Fraction  # frames a second, on average, of those that are taken
    shape: Fraction | None  # of a pixel: its width over its height
    sound: frozenset[str]  # codecs; "unknown" if FFmpeg knows none of them
    is_video: bool  # not an animated image
    origin: float  # seconds, the time stamp of its beginning
    expected: int  # how many frames there are to take, by what the file says
    frames: Iterator[ClipFrame]


def is_clip(picture: Picture, options: ClipOptions) -> bool:
    """True if a file has the suffix of a video or is, with `frames`, an animated GIF or WebP."""
    suffix = picture.name.suffix.lower()
    if suffix in VIDEO_SUFFIXES or not (options.frames and suffix in ANIMATION_SUFFIXES):
        return suffix in VIDEO_SUFFIXES
    try:
        with open_source(picture, Limits()) as file, Image.open(file, formats=["GIF", "WEBP"]) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # reading it as an image says what is wrong
        return False


def expected_frames(picture: Picture, limits: Limits, options: ClipOptions) -> int:
    """How many frames of a clip there are to take, by what the file says; 0 if it cannot be read."""
    with suppress(ImageError), open_clip(picture, limits, options) as clip:
        return clip.expected
    return 0


def open_source(picture: Picture, limits: Limits) -> BinaryIO:
    """Open the file of a clip, or unpack it from its archive."""
    if picture.member:
        return BytesIO(read_member(picture.member, str(picture.path), limits.max_bytes))
    return open_regular(picture.path)


@contextmanager
def open_clip(picture: Picture, limits: Limits, options: ClipOptions) -> Iterator[Clip]:
    """Open a clip; its frames are decoded one after the other when they are taken.

    Raises:
        ImageError: the file is no clip, is damaged or has no such frames, a frame has too many pixels, or PyAV is not
            installed. If the file turns out to be damaged later, its `frames` raise it.
    """
    name, is_video = repr(str(picture.path)), picture.name.suffix.lower() in VIDEO_SUFFIXES
    with ExitStack() as stack:
        file = stack.enter_context(open_source(picture, limits))
        if find_spec("av") is None:
            raise ImageError(f"{name} is a clip, which needs PyAV", "Run pip install 'gapcam[video]'")
        open_frames = _open_video if is_video else _open_animation
        with _decoding(name):
            frames, facts = open_frames(stack, file, name, limits, options)
        frames = _checked(frames, name)
        first = next(frames, None)
        if first is None:
            if options.start:
                raise ImageError(f"{name} has no frame from second {options.start:g} on", "Give an earlier --start")
            raise ImageError(f"{name} has no frame, or is cut short", "Copy it again")
        yield Clip(first.size, first.rotation, is_video=is_video, frames=_same_size(first, frames, name), **facts)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on a hostile file
        raise unreadable(name, error, _DAMAGED) from error


def _checked(frames: Iterator[ClipFrame], name: str) -> Iterator[ClipFrame]:
    with _decoding(name):
        yield from frames


def _same_size(first: ClipFrame, others: Iterator[ClipFrame], name: str) -> Iterator[ClipFrame]:
    yield first
    for frame in others:
        if frame.size != first.size:
            sizes = " and later ".join(f"{width} x {height}" for height, width in (first.size, frame.size))
            raise ImageError(f"{name} has frames of {sizes} pixels", "Export it with one size")
        yield frame


def _open_video(
    stack: ExitStack, file: BinaryIO, name: str, limits: Limits, options: ClipOptions
) -> tuple[Iterator[ClipFrame], dict[str, Any]]:
    container = stack.enter_context(open_container(file, name))
    streams = container.streams.video
    stream = next((stream for stream in streams if not stream.disposition & _COVER), None)
    if stream is None:
        raise ImageError(f"{name} has no moving picture", "Give a clip with a video stream")
    if stream.codec_context is None or stream.time_base is None:
        raise ImageError(f"{name} is of a kind that is not supported", "Convert it to MP4 with H.264")
    check_size(stream.codec_context.width, stream.codec_context.height, name, limits.max_pixels)
    stream.thread_type = "AUTO"
    rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
    seconds = float(stream.frames / rate) or (container.duration or 0) / 1e6
    seconds = max(0.0, min(seconds, seconds if options.end is None else options.end) - options.start)
    sounds = [audio.codec_context.codec.canonical_name for audio in known_sounds(container)]
    facts = {
        "expected": round(seconds * rate / options.every),
        "time_base": stream.time_base,
        "rate": (rate / options.every).limit_denominator(_LARGEST_INT // math.ceil(rate)),
        "shape": stream.sample_aspect_ratio or None,
        "sound": frozenset(sounds or ["unknown"] * bool(container.streams.audio)),
        "origin": float((stream.start_time or 0) * stream.time_base),
    }
    return _video_frames(container, stream, name, options), facts


def open_container(file: BinaryIO, name: str) -> av.container.InputContainer:
    """Open a video with PyAV; ImageError if it is not installed, or the file is no video."""
    import av

    try:
        return av.open(file, "r", options=dict(_CONTAINERS))
    except (av.FFmpegError, OSError, ValueError) as error:
        problem = f"{name} is not a video in a supported format, or is cut short ({getattr(error, 'strerror', error)})"
        raise ImageError(problem, "Copy it again, or convert it to MP4 with H.264") from error


def known_sounds(container: av.container.InputContainer) -> list[av.AudioStream]:
    """The streams of sound whose codec FFmpeg knows."""
    return [audio for audio in container.streams.audio if audio.codec_context]


def _video_frames(container: Any, stream: Any, name: str, options: ClipOptions) -> Iterator[ClipFrame]:
    origin = stream.start_time or 0
    if options.start:
        container.seek(origin + math.floor(options.start / stream.time_base), stream=stream)  # to a key frame before
    packets = index = longest = 0
    last: int | None = None
    for packet in container.demux(stream):
        packets += packet.size > 0
        for frame in packet.decode():
            pts = frame.dts if frame.pts is None else frame.pts
            if pts is None or (last is not None and pts <= last):  # it has no place in time
                continue
            longest, last = max(longest, 0 if last is None else pts - last, frame.duration or 0), pts
            seconds = float((pts - origin) * stream.time_base)
            if seconds < options.start:
                continue
            if options.end is not None and seconds >= options.end:
                return
            if index % options.every == 0:
                rotation = frame.rotation % 360
                height, width = (frame.width, frame.height) if rotation % 180 else (frame.height, frame.width)
                duration = frame.duration or 0
                end = seconds + float(duration * stream.time_base)
                yield ClipFrame(pts, seconds, end, duration, frame, rotation, (height, width))
            index += 1
    too_few = not options.start and packets < stream.frames
    end = math.inf if last is None else float((last + longest) * stream.time_base)
    if too_few or (not stream.frames and end < _declared_end(container, stream)):
        raise ImageError(f"{name} is damaged or cut short: frames are missing at its end", _DAMAGED)


def _declared_end(container: Any, stream: Any) -> float:
    """The second at which Matroska says that a stream ends; 0 if it does not."""
    if time := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", "")):
        end = 3600 * int(time[1]) + 60 * int(time[2]) + float(time[3])
    else:
        end = (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
    return end - 0.001


def _open_animation(
    stack: ExitStack, file: BinaryIO, name: str, limits: Limits, options: ClipOptions
) -> tuple[Iterator[ClipFrame], dict[str, Any]]:
    stack.enter_context(pillow_limit_lifted())
    image = stack.enter_context(Image.open(file, formats=["GIF", "WEBP"]))
    expected = getattr(image, "n_frames", 1) // options.every  # which reads a GIF to its end
    check_size(image.width, image.height, name, limits.max_pixels)
    facts: dict[str, Any] = {"time_base": _MILLISECOND, "rate": Fraction(10), "shape": None, "origin": 0.0}
    facts |= {"sound": frozenset(), "expected": expected}
    return _animation_frames(image, options), facts


def _animation_frames(image: Image.Image, options: ClipOptions) -> Iterator[ClipFrame]:
    pts = index = 0
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        duration, seconds = int(image.info.get("duration") or 100), pts / 1000  # browsers show 0 for as long
        if options.end is not None and seconds >= options.end:
            return
        if seconds >= options.start:
            if index % options.every == 0:
                pixels = from_pillow(image)
                size = pixels.shape[0], pixels.shape[1]
                yield ClipFrame(pts, seconds, seconds + duration / 1000, duration, pixels, 0, size)
            index += 1
        pts += duration
