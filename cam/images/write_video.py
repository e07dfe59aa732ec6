"""Write moving pictures with PyAV: H.264 in MP4 or Matroska, with the sound of another file, or animated WebP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from cam.errors import OutputError
from cam.images.video import Clip, known_sounds, open_container, pixels_of

if TYPE_CHECKING:
    import av

# Preset "ultrafast" takes half of the time of "superfast", for a sixth more bytes; one quantizer for all frames takes a
# sixth less than one rate ("crf"), which looks at each frame first. Without B-frames the order of the frames is that of
# their times, so that also MP4 keeps how long each of them is shown.
_H264 = "libx264", "yuv420p", {"qp": "20", "preset": "ultrafast", "bf": "0"}
_ENCODERS = {
    ".mp4": ("mp4", *_H264),
    ".mkv": ("matroska", *_H264),
    ".mov": ("mov", *_H264),
    ".webp": ("webp", "libwebp_anim", "bgra", {"quality": "80"}),
}
_LONGEST_SIDE = 16383  # of WebP, and nearly of H.264
# As OpenCV converts, in a third of FFmpeg's time: the matrix of BT.601, limited range; the primaries of sRGB.
_COLORS = {"colorspace": 6, "color_range": 1, "color_primaries": 1, "color_trc": 1}
_LIMITED = (219 / 255, 16), *2 * [(224 / 255, 128 - 128 * 224 / 255)]  # scale and shift of Y, Cb and Cr from full range
# Luma (H, W), and chroma, blue and red, ((H + 1) // 2, (W + 1) // 2): uint8, full range (JFIF).
YCbCr: TypeAlias = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class VideoFormat:
    """What a moving picture is written as."""

    suffix: str  # .mp4, .mkv, .mov or .webp
    time_base: Fraction  # seconds, the unit of its time stamps
    rate: Fraction  # frames a second, on average
    rotation: int = 0  # degrees, counterclockwise, by which players turn its frames
    shape: Fraction | None = None  # of a pixel: its width over its height

    @classmethod
    def like(cls, clip: Clip) -> VideoFormat:
        """The format for a clip: WebP for an animated image, else the first of MP4, Matroska and MOV for its sound."""
        suffixes = [suffix for suffix in _ENCODERS if clip.sound <= _sounds(suffix)] or [".mp4"]
        return cls(suffixes[0] if clip.is_video else ".webp", clip.time_base, clip.rate, clip.rotation, clip.shape)

    @property
    def is_planar(self) -> bool:
        """True if frames are stored as luma and chroma (H.264), False if as RGB (WebP)."""
        return self.suffix != ".webp"

    def holds(self, sound: frozenset[str]) -> bool:
        """True if a file of this format can hold sound of these codecs."""
        return sound <= _sounds(self.suffix)

    def frame(self, image: NDArray[np.uint8], pts: int, duration: int) -> av.VideoFrame:
        """Convert an upright (H, W, 3) uint8 RGB image to a frame; its times are in units of the time base.

        H.264 halves the colors along both sides, so an odd side is one pixel longer: its last one, again.
        """
        import av

        height, width = image.shape[:2]
        self._check_sides(height, width)
        if self.is_planar and (height % 2 or width % 2):
            even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            image = np.asarray(even, np.uint8)
        turned = np.ascontiguousarray(np.rot90(image, -self.rotation // 90), np.uint8)
        if self.is_planar:
            pixels = np.asarray(cv2.cvtColor(turned, cv2.COLOR_RGB2YUV_I420), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        else:
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="bgra")
        return self._timed(frame, pts, duration)

    def frame_of_planes(self, parts: Sequence[tuple[YCbCr, int]], pts: int, duration: int) -> av.VideoFrame:
        """Convert upright images of one width, one below the other, to a frame; only if `is_planar`.

        Each comes with the rows that it takes, an even number but for the last: it is cut, or its last row goes on.
        """
        import av

        height, width = sum(rows for _, rows in parts), parts[0][0][0].shape[1]
        self._check_sides(height, width)
        sides = width + width % 2, height + height % 2
        new_frame: Any = av.VideoFrame
        frame = new_frame(*(sides[::-1] if self.rotation % 180 else sides), "yuv420p")
        for number, (scale, shift) in enumerate(_LIMITED):
            room = np.rot90(pixels_of(frame.planes[number]), self.rotation // 90)
            for part, rows in parts:
                end = (rows + 1) // 2 if number else rows + rows % 2
                _fill(room[:end], part[number], scale, shift)
                room = room[end:]
        return self._timed(frame, pts, duration)

    def _check_sides(self, height: int, width: int) -> None:
        if max(height, width) > _LONGEST_SIDE:
            problem = f"a {self.suffix} file cannot hold {width} x {height} pixels"
            raise OutputError(problem, "Use a smaller --max-side")

    def _timed(self, frame: av.VideoFrame, pts: int, duration: int) -> av.VideoFrame:
        frame.pts, frame.time_base, frame.duration = pts, self.time_base, duration
        return frame


def _fill(room: NDArray[np.uint8], plane: NDArray[np.uint8], scale: float, shift: float) -> None:
    """Write a plane into the room, cut at its end, or with the last row and the last pixel of each row again."""
    plane = plane[: len(room)]
    height, width = plane.shape
    if room.strides[1] == 1:
        cv2.convertScaleAbs(plane, dst=room[:height, :width], alpha=scale, beta=shift)
    else:  # turned
        room[:height, :width] = cv2.convertScaleAbs(plane, alpha=scale, beta=shift)
    room[height:, :width] = room[height - 1, :width]
    room[:, width:] = room[:, width - 1 : width]


@dataclass(frozen=True)
class Sound:
    """The sound of a file, from a second to another; `offset` is what its time stamps become less."""

    file: BinaryIO
    offset: float
    end: float | None


@cache
def _sounds(suffix: str) -> frozenset[str]:
    """The codecs that a kind of file can hold."""
    import av

    with av.open(BytesIO(), "w", format=_ENCODERS[suffix][0]) as container:
        return frozenset(container.supported_codecs)


def write_video(
    file: BinaryIO,
    kind: VideoFormat,
    frames: Iterator[av.VideoFrame],
    sound: Sound | None = None,
    threads: int = 1,
) -> None:
    """Write frames of one size, from `VideoFormat.frame`, one after the other.

    The packets of the sound are copied, not encoded again, each next to the frames of its time.

    Raises:
        OutputError: FFmpeg cannot encode the frames, or the file cannot hold the frames or the sound.
    """
    import av

    try:
        _write(file, kind, frames, sound, threads)
    except av.FFmpegError as error:
        problem = f"the frames and their sound cannot be written as {kind.suffix} ({error.strerror})"
        raise OutputError(problem, "Convert the clip to MP4 with H.264 and AAC first") from error


def _write(
    file: BinaryIO, kind: VideoFormat, frames: Iterator[av.VideoFrame], sound: Sound | None, threads: int
) -> None:
    import av

    name, encoder, pixels, options = _ENCODERS[kind.suffix]
    first = next(frames)
    with av.open(file, "w", format=name, options={"loop": "0"} if kind.suffix == ".webp" else {}) as out:
        stream: Any = out.add_stream(encoder, rate=kind.rate, options={**options, "threads": str(threads)})
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, pixels
        context = stream.codec_context
        context.time_base = kind.time_base
        for key, value in _COLORS.items() if pixels == "yuv420p" else ():
            setattr(context, key, value)
        if kind.shape:
            context.sample_aspect_ratio = kind.shape
        if kind.rotation:
            stream.set_display_rotation(kind.rotation)
        lengths: dict[int | None, int] = {}

        def with_length(packet: Any) -> Any:
            packet.duration = lengths.pop(packet.pts, packet.duration)  # else that of the average rate
            return packet

        packets = _sound_packets(sound, out) if sound else iter(())
        waiting = next(packets, None)
        for frame in chain([first], frames):
            seconds = (frame.pts or 0) * kind.time_base
            while waiting and waiting.pts * waiting.time_base <= seconds:
                out.mux(waiting)
                waiting = next(packets, None)
            lengths[frame.pts] = frame.duration
            out.mux([with_length(packet) for packet in stream.encode(frame)])
        out.mux([with_length(packet) for packet in stream.encode()])
        for packet in chain(filter(None, [waiting]), packets):
            out.mux(packet)


def _sound_packets(sound: Sound, out: Any) -> Iterator[Any]:
    """Add the streams of the sound to a file that is being written; the iterator yields their packets."""
    source = open_container(sound.file, "the clip")
    streams = known_sounds(source)
    targets = {stream.index: out.add_stream_from_template(stream) for stream in streams}
    return _shifted(sound, source, streams, targets)


def _shifted(sound: Sound, source: Any, streams: Any, targets: dict[int, Any]) -> Iterator[Any]:
    with source:
        if sound.offset:
            source.seek(int(sound.offset * 1e6))
        for packet in source.demux(streams) if streams else ():
            if not packet.size or packet.pts is None:
                continue
            seconds = float(packet.pts * packet.time_base)
            if (not sound.offset or seconds >= sound.offset) and (sound.end is None or seconds < sound.end):
                shift = round(sound.offset / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = targets[packet.stream.index]
                yield packet
