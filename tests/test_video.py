"""Frames, times and rotation of clips, and files that are none."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path, PurePosixPath

import av
import numpy as np
import pytest
from clips import UNEVEN, frames_of, moving_digit, seconds_of, sound_of, write_clip
from PIL import Image
from refusals import check_message

from cam.errors import DiskFullError, ImageError, OutputError, UsageError
from cam.files import open_whole
from cam.images.find import Picture, describe_left_out, find_pictures
from cam.images.read import Limits
from cam.images.samples import ReadOptions
from cam.images.video import ClipFrame, ClipOptions, expected_frames, is_clip, open_clip
from cam.images.write_video import Sound, VideoFormat, write_video

COLORS = [np.full((48, 64, 3), (200 - 20 * n, 40, 20 * n), np.uint8) for n in range(8)]
NOISE = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8) for n in range(12)]


def picture(path: Path) -> Picture:
    return Picture(path, PurePosixPath(path.name))


def read(path: Path, limits: Limits | None = None, **options) -> list[ClipFrame]:
    with open_clip(picture(path), limits or Limits(), ClipOptions(**options)) as clip:
        return list(clip.frames)


def refused(path: Path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read(path, **options)
    check_message(str(caught.value))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec", "tick"),
    [
        ("a.mp4", "libx264", Fraction(1, 12800)),
        ("a.mov", "libx264", Fraction(1, 600)),
        ("a.mkv", "libx264", Fraction(1, 1000)),
        ("a.webm", "libvpx-vp9", Fraction(1, 1000)),
    ],
)
def test_frames_have_the_times_of_the_file(tmp_path, name, codec, tick):
    frames = read(write_clip(tmp_path / name, COLORS, UNEVEN, codec=codec, tick=tick))
    assert [frame.seconds for frame in frames] == pytest.approx(UNEVEN, abs=1e-6)
    assert frames[-1].end == pytest.approx(UNEVEN[-1] + 0.04, abs=2e-3)
    for frame, color in zip(frames, COLORS, strict=True):
        assert np.abs(frame.image(ReadOptions()).astype(int) - color).max() < 12


def test_an_avi_has_even_frames(tmp_path):
    frames = read(write_clip(tmp_path / "a.avi", COLORS, codec="mpeg4", tick=Fraction(1, 25)))
    assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(8)])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_frames_are_upright(tmp_path, rotation):
    """As players show the file: turned counterclockwise by what it says."""
    stored = np.full((48, 64, 3), 30, np.uint8)
    stored[:24, :32] = 220  # top left
    frame = read(write_clip(tmp_path / "a.mp4", [stored] * 3, rotation=rotation))[0]
    upright = np.rot90(stored, rotation // 90)
    assert frame.size == upright.shape[:2]
    assert np.abs(frame.image(ReadOptions()).astype(int) - upright).mean() < 3


def test_a_part_of_the_frames_keeps_their_times(tmp_path):
    path = write_clip(tmp_path / "a.mp4", COLORS, UNEVEN)
    assert [frame.seconds for frame in read(path, every=3)] == pytest.approx([UNEVEN[n] for n in (0, 3, 6)])
    assert [frame.seconds for frame in read(path, start=0.1, end=0.3)] == pytest.approx(UNEVEN[2:5])
    assert [frame.seconds for frame in read(path, start=0.05, every=2)] == pytest.approx([UNEVEN[n] for n in (2, 4, 6)])
    assert expected_frames(picture(path), Limits(), ClipOptions(every=2)) == 4
    assert "has no frame from second 3 on" in refused(path, start=3.0)


def test_colors_are_those_of_the_file_in_the_order_of_bands(tmp_path):
    (frame, *_) = read(write_clip(tmp_path / "a.mp4", COLORS))
    np.testing.assert_array_equal(frame.image(ReadOptions(bands=(3, 2, 1))), frame.image(ReadOptions())[..., ::-1])


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animated_image_is_a_clip_with_frames(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    first, *others = (Image.fromarray(color) for color in COLORS[:3])
    first.save(path, save_all=True, append_images=others, duration=[40, 200, 70])
    assert [is_clip(picture(path), ClipOptions(frames=frames)) for frames in (True, False)] == [True, False]
    frames = read(path, frames=True)
    assert [(frame.seconds, frame.duration) for frame in frames] == [(0, 40), (0.04, 200), (0.24, 70)]
    for frame, color in zip(frames, COLORS, strict=False):
        assert np.abs(frame.image(ReadOptions()).astype(int) - color).max() < 12
    first.save(path)
    assert not is_clip(picture(path), ClipOptions(frames=True))  # a single frame is an image


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.gif", "a.webp"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, name):
    path, options = tmp_path / name, {"frames": name.endswith(("gif", "webp"))}
    if options["frames"]:
        first, *others = map(Image.fromarray, NOISE)
        first.save(path, save_all=True, append_images=others)
    else:
        codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
        write_clip(path, NOISE, codec=codec, tick=Fraction(1, 25), sound="aac" if name == "a.mkv" else None)
    assert len(read(path, **options)) == 12
    content = path.read_bytes()
    for share in (0.02, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        assert "cut short" in refused(path, **options)


def test_what_lies_before_the_damage_can_be_read(tmp_path):
    path = write_clip(tmp_path / "a.avi", NOISE, codec="mpeg4", tick=Fraction(1, 25))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert "give an --end before the damage" in refused(path)
    assert len(read(path, end=0.2)) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"some text\n" * 100, "is not a video in a supported format"),
        (b"#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n", "is not a video in a supported format"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "is not a video in a supported format"),
    ],
)
def test_other_content_is_refused_and_no_other_file_is_opened(tmp_path, content, message):
    write_clip(tmp_path / "other.mp4", COLORS)
    (tmp_path / "a.mp4").write_bytes(content)
    assert message in refused(tmp_path / "a.mp4")


def test_a_missing_file_a_folder_and_a_file_of_sound_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").mkdir()
    assert "is a folder" in refused(tmp_path / "b.mp4")
    with av.open(str(tmp_path / "c.mp4"), "w") as out:
        voice = out.add_stream("aac", rate=48000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        tone.sample_rate = 48000
        out.mux(voice.encode(tone))
        out.mux(voice.encode())
    assert "has no moving picture" in refused(tmp_path / "c.mp4")


def test_large_frames_are_refused_before_they_are_decoded(tmp_path):
    path = write_clip(tmp_path / "a.mp4", COLORS)
    assert "64 x 48 pixels, over the limit of 1000" in refused(path, limits=Limits(max_pixels=1000))


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", COLORS)
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install 'gapcam[video]'" in refused(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"every": 0}, "--every must be 1 or more"), ({"start": 2, "end": 1}, "--start must be 0 or more, and less")],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(UsageError, match=message):
        ClipOptions(**options)


def test_clips_in_folders_are_inputs_of_cam_explain_only(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.png", "c.MOV", "d.txt"):
        (tmp_path / name).touch()
    assert [str(found.name) for found in find_pictures([tmp_path], videos=True)] == ["a.mp4", "b.png", "c.MOV"]
    assert [str(found.name) for found in find_pictures([tmp_path])] == ["b.png"]
    assert describe_left_out({".mp4": 2}) == "2 files left out: .mp4 2"
    monkeypatch.setattr("cam.images.find._READ_SUFFIXES", frozenset({".png"}))  # without PyAV
    assert [str(found.name) for found in find_pictures([tmp_path], videos=True)] == ["b.png"]
    assert describe_left_out({".mp4": 2}).endswith("; pip install 'gapcam[video]' to read .mp4")


def rewrite(path: Path, out: Path, options: ClipOptions | None = None) -> VideoFormat:
    """Write the frames of a clip as they are, with the sound."""
    options = options or ClipOptions()
    with open_clip(picture(path), Limits(), options) as clip, path.open("rb") as source, out.open("wb") as file:
        kind = VideoFormat.like(clip)
        start = clip.origin + options.start if options.start else 0.0
        shift = round(start / clip.time_base)
        frames = (kind.frame(f.image(ReadOptions()), f.pts - shift, f.duration) for f in clip.frames)
        write_video(file, kind, frames, Sound(source, start, options.end))
    return kind


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_times_sound_colors_and_rotation_survive_writing(tmp_path, rotation, sound):
    frames = moving_digit([(10 * n, 20 * n) for n in range(8)])
    source = write_clip(tmp_path / "a.mov", frames, UNEVEN, rotation=rotation, sound=sound)
    assert rewrite(source, tmp_path / "b.mp4").suffix == ".mp4"
    assert seconds_of(tmp_path / "b.mp4") == pytest.approx(seconds_of(source), abs=1e-6)
    assert sound_of(tmp_path / "b.mp4") == sound_of(source)
    assert len(sound_of(source)) > 10
    for before, after in zip(frames_of(source), frames_of(tmp_path / "b.mp4"), strict=True):
        assert (after.rotation, after.width, after.height) == (before.rotation, before.width, before.height)
        pixels = [frame.to_ndarray(format="rgb24").astype(int) for frame in (before, after)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 2


@pytest.mark.parametrize(("name", "sound", "suffix"), [("a.avi", "pcm_u8", ".mkv"), ("a.mov", "pcm_mulaw", ".mov")])
def test_sound_that_mp4_cannot_hold_goes_into_another_kind_of_file(tmp_path, name, sound, suffix):
    source = write_clip(tmp_path / name, COLORS, sound=sound, codec="mpeg4", tick=Fraction(1, 25))
    assert rewrite(source, tmp_path / f"b{suffix}").suffix == suffix
    packets = [[content for _, content in sound_of(path)] for path in (source, tmp_path / f"b{suffix}")]
    assert b"".join(packets[0]) == b"".join(packets[1])


def test_a_part_of_a_clip_begins_at_0_with_its_part_of_the_sound(tmp_path):
    source = write_clip(tmp_path / "a.mp4", COLORS * 4, sound="aac")  # 1.28 seconds
    rewrite(source, tmp_path / "b.mp4", ClipOptions(start=0.4, end=0.8))
    assert seconds_of(tmp_path / "b.mp4") == pytest.approx([n / 25 for n in range(11)], abs=1e-3)
    whole = dict(sound_of(source))
    kept = sound_of(tmp_path / "b.mp4")
    inside = [(second - 0.4, content) for second, content in whole.items() if 0.4 <= second < 0.8]
    assert [content for _, content in kept] == [content for _, content in inside]
    assert [second for second, _ in kept] == pytest.approx([second for second, _ in inside], abs=1e-3)


def test_an_odd_side_gets_one_more_pixel(tmp_path):
    source = [np.pad(color, ((0, 1), (0, 1), (0, 0)), mode="edge") for color in COLORS]
    kind = VideoFormat(".mp4", Fraction(1, 25), Fraction(25))
    with (tmp_path / "a.mp4").open("wb") as file:
        write_video(file, kind, (kind.frame(image, n, 1) for n, image in enumerate(source)))
    (frame, *_) = frames_of(tmp_path / "a.mp4")
    assert (frame.width, frame.height) == (66, 50)
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - COLORS[0][0, 0]).max() < 12


def test_planes_become_limited_range_one_below_the_other():
    """By BT.601: Y = 16 + 219 / 255 * y, and Cb and Cr = 128 + 224 / 255 * (c - 128)."""
    kind = VideoFormat(".mp4", Fraction(1, 25), Fraction(25))
    y = np.array([[0, 255, 31], [255, 0, 100], [51, 51, 51], [9, 9, 9]], np.uint8)
    cb, cr = np.array([[0, 255], [128, 64], [7, 7]], np.uint8), np.array([[255, 128], [0, 192], [7, 7]], np.uint8)
    small = np.full((1, 3), 200, np.uint8), np.full((1, 2), 128, np.uint8), np.full((1, 2), 1, np.uint8)
    frame = kind.frame_of_planes([((y, cb, cr), 2), (small, 3)], 7, 2)  # the first is cut, the second too low
    assert (frame.pts, frame.duration, frame.width, frame.height) == (7, 2, 4, 6)
    pixels = frame.to_ndarray()
    np.testing.assert_array_equal(pixels[:2], [[16, 235, 43, 43], [235, 16, 102, 102]])
    np.testing.assert_array_equal(pixels[2:6], np.full((4, 4), 188))
    np.testing.assert_array_equal(pixels[6:].ravel(), [16, 240, *[128] * 4, 240, 128, *[16] * 4])
    np.testing.assert_array_equal(cb[0], [0, 255])  # unchanged


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(6, 8), (5, 8), (7, 9)])
def test_frames_of_planes_are_turned_as_those_of_rgb(rotation, size):
    kind = VideoFormat(".mp4", Fraction(1, 25), Fraction(25), rotation)
    gray = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    chroma = np.full([(side + 1) // 2 for side in size], 128, np.uint8)
    frame = kind.frame_of_planes([((gray, chroma, chroma), size[0])], 0, 1)
    expected = kind.frame(np.repeat(gray[..., None], 3, 2), 0, 1)
    assert (frame.width, frame.height) == (expected.width, expected.height)
    assert np.abs(frame.to_ndarray().astype(int) - expected.to_ndarray()).max() <= 1


@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
def test_luma_is_that_of_the_stored_frame(kind):
    scale = 4 if kind.endswith("10le") else 1
    stored = np.array([[0, 16, 125, 235], [255, 17, 16, 30]]) * scale
    frame = av.VideoFrame(4, 2, kind)
    for number, plane in enumerate(frame.planes):
        pixels = np.frombuffer(plane, np.uint16 if scale > 1 else np.uint8).reshape(
            -1, plane.line_size // (1 + (scale > 1))
        )
        pixels[:] = 128 * scale
        if not number:
            pixels[:, :4] = stored
    gray = ClipFrame(0, 0.0, 0.0, 0, frame, 90, (4, 2)).gray()
    expected = np.array([[0, 0, 127, 255], [255, 1, 0, 16]]) if kind != "yuvj420p" else stored
    assert np.abs(gray.astype(int) - np.rot90(expected)).max() <= 1


def test_a_full_disk_ends_the_writing_and_leaves_nothing(tmp_path, monkeypatch):
    kind = VideoFormat(".mp4", Fraction(1, 25), Fraction(25))

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    def write() -> None:
        with open_whole(tmp_path / "a.mp4"):
            write_video(Full(), kind, (kind.frame(image, n, 1) for n, image in enumerate(COLORS)))

    with pytest.raises(DiskFullError):
        write()
    assert list(tmp_path.iterdir()) == []


def with_unknown_sound(path: Path) -> Path:
    """A clip whose sound has a codec that FFmpeg does not know, as spatial audio of phones."""
    content = write_clip(path, COLORS, sound="aac").read_bytes()
    path.write_bytes(content.replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    return path


def test_sound_of_an_unknown_codec_is_left_out(tmp_path):
    path = with_unknown_sound(tmp_path / "a.mp4")
    assert expected_frames(picture(path), Limits(), ClipOptions()) == 8
    with open_clip(picture(path), Limits(), ClipOptions()) as clip:
        assert clip.sound == {"unknown"}
        kind = VideoFormat.like(clip)
        assert (kind.suffix, kind.holds(clip.sound), len(list(clip.frames))) == (".mp4", False, 8)
    frames = (kind.frame(image, 1000 * n, 1000) for n, image in enumerate(COLORS))
    with (tmp_path / "b.mp4").open("wb") as file, path.open("rb") as sound:
        write_video(file, kind, frames, Sound(sound, 0.0, None))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert (len(container.streams.audio), len(frames_of(tmp_path / "b.mp4"))) == (0, 8)


def test_an_odd_rate_fits_into_the_fractions_of_ffmpeg(tmp_path, monkeypatch):
    rate = Fraction(90001, 3003003)
    monkeypatch.setattr("cam.images.video.Fraction", lambda *value: rate if len(value) == 1 else Fraction(*value))
    with open_clip(picture(write_clip(tmp_path / "a.mp4", COLORS)), Limits(), ClipOptions(every=1000)) as clip:
        assert max(clip.rate.numerator, clip.rate.denominator) < 2**31
        assert float(clip.rate) == pytest.approx(float(rate) / 1000, rel=1e-6)
        kind = VideoFormat.like(clip)
    write_video(io.BytesIO(), kind, iter([kind.frame(COLORS[0], 0, 1)]))


def test_an_encoder_that_fails_is_an_error_of_the_clip(monkeypatch):
    """As ExternalError of libx264, which is neither an OSError nor a ValueError."""
    kind = VideoFormat(".mp4", Fraction(1, 25), Fraction(25))

    def fail():
        yield kind.frame(COLORS[0], 0, 1)
        raise av.error.ExternalError(1, "Generic error in an external library")

    with pytest.raises(OutputError, match=r"cannot be written as \.mp4 \(Generic error in an external library\)"):
        write_video(io.BytesIO(), kind, fail())
