"""A clip of a run: its frames are explained, drawn as one video for each class, and become one line of the manifest.

The clip is decoded twice. The network runs in the first pass, which keeps the maps of the likely classes of each frame
in a temporary file. What is drawn depends on all frames: the class, the color scale, the curve below. In the second
pass the frames are drawn; the network runs again only where the class is none of the likely ones.
"""

from __future__ import annotations

import csv
import io
import math
import pickle
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cam.classifiers.classifier import Classifier
from cam.drawing.curves import Plot
from cam.drawing.legend import PAPER, letter_size, make_legend
from cam.errors import CamError, DiskFullError, ImageError, ModelError
from cam.explanations.compute import to_draw_on
from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.explanation import Explanation, enlarge_for_legend
from cam.explanations.forward import as_model_error
from cam.explanations.options import OneClass, Target, TopClasses, resolve
from cam.explanations.texts import legend_texts
from cam.files import open_whole, shortened, unwritable
from cam.heads.general import GeneralHead
from cam.images.find import Picture
from cam.images.io import encode, shrink
from cam.images.video import Clip, ClipFrame, open_clip, open_source
from cam.images.write_video import Sound, VideoFormat, write_video
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record, grade, name_class
from cam.runs.options import RunOptions
from cam.runs.workers import in_order
from cam.runs.writing import file_stem, style_of, write_picture

_LIKELY = 5  # classes whose maps are kept of each frame: they cost an exact head nearly nothing
_BATCH_PIXELS = 2**23  # of the frames that a worker has in hand
_PLOT_SIZE, _PLOT_LETTER = (420, 900), 15  # pixels, of the file with the plot of logits
_PLOT_LETTERS = 8  # height of the plot below the video
_WORKERS_PER_ENCODER_THREAD = 4  # encoding takes less than a quarter of the time of a frame
_NO_IMAGE = np.empty((0, 0, 3), np.uint8)
_COLUMNS = "time", "class_idx", "label", "probability", "logit", "peak_y", "peak_x"
Item = TypeVar("Item")


class _Seen(NamedTuple):
    """What the first pass keeps of a frame."""

    seconds: float
    logits: NDArray[np.float32]  # (C,)
    explanations: list[Explanation]  # of its likely classes, without the image

    def find(self, class_idx: int) -> Explanation | None:
        return next((one for one in self.explanations if one.class_idx == class_idx), None)


@dataclass
class _Track:
    """What is followed through a clip: a class, or the class of one rank in each frame."""

    target: Target
    against: int | None  # the class that all are contrasted with
    seconds: array[float] = field(default_factory=lambda: array("d"))
    logits: array[float] = field(default_factory=lambda: array("d"))
    probability: float = 0.0  # sum over the frames
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)  # of legends, by their titles
    notes: int = 0  # the most in one legend
    height: int = 0  # of a frame with its legend, in pixels, even
    width: int = 0

    def class_at(self, logits: NDArray[np.float32]) -> int:
        """The class in a frame with these logits (C,), not the one that others are contrasted with."""
        if isinstance(self.target, OneClass):
            return self.target.class_idx
        if self.against is not None:
            logits = logits.copy()
            logits[self.against] = -np.inf
        return resolve([self.target], torch.from_numpy(logits))[-1]

    def name(self, labels: Sequence[str]) -> str:
        """What the curve is called."""
        return labels[self.target.class_idx] if isinstance(self.target, OneClass) else f"top {self.target.count}"


def explain_clip(
    classifier: Classifier, folder: RunFolder, options: RunOptions, batch_size: int, workers: int, picture: Picture
) -> Record:
    """Explain a clip, write its files, and return its line of the manifest, which also reports errors.

    A full disk is raised, as by `write_picture`.
    """
    picture = replace(picture, fingerprint=picture.current_fingerprint())
    try:
        disk = None if folder.staging else folder.unfinished  # the staging folder may be another machine's
        if disk:
            disk.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=disk) as kept:
            return _ClipRun(classifier, picture, folder, options, batch_size, workers, kept).run()
    except CamError as error:
        failure = error
    except (MemoryError, torch.OutOfMemoryError) as error:
        failure = as_model_error(error)
    except OSError as error:  # of the temporary file
        failure = unwritable(folder.unfinished, error)
    if isinstance(failure, DiskFullError):
        raise failure
    return write_picture(picture, failure, folder, options, classifier.labels)


def _pictures(drawn: Iterable[tuple[Any, list[Any]]], rows: Any) -> Iterator[Any]:
    """Yield drawn frames, and write their rows."""
    for picture, row in drawn:
        rows.writerow(row)
        yield picture


@dataclass
class _ClipRun:
    """The two passes over a clip."""

    classifier: Classifier
    picture: Picture
    folder: RunFolder
    options: RunOptions
    batch_size: int
    workers: int
    kept: IO[bytes]
    count: int = 0  # frames
    vmax: float = 0.0  # the end of the color scale
    predicted: int = 0  # the class with the highest mean probability
    shown: int = 0  # the frame that stands for the clip: the one where the predicted class is most probable
    shown_frame: ClipFrame = field(init=False)
    shown_logits: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # (C,)
    letter: int = 0  # height in pixels of those of the legend
    end: float = 0.0  # second at which the last frame ends
    sound: str | None = None  # "copied", or why it is not

    def run(self) -> Record:
        """Explain the frames, draw them, and write the clip's files."""
        targets = self.options.targets_of(self.picture)
        totals, clip = self._explain_all(targets)
        self.predicted = int(totals.argmax())
        tracks = self._tracks(targets)
        self._summarize(tracks, clip)
        stem, files = shortened(self.picture.name), {}
        files["frames"], files["logits"] = f"{stem}.frames.csv", f"{stem}.logits.png"
        videos = []
        with open_whole(self.folder.out / files["frames"], self.folder.unfinished) as table:
            text = io.TextIOWrapper(table, "utf-8", newline="", write_through=True)
            rows = csv.writer(text)
            rows.writerow(_COLUMNS)
            for track in tracks:
                videos.append(self._write_track(track, clip, rows))
            text.detach()  # else it closes the file
        curves = {track.name(self.classifier.labels): track.logits for track in tracks}
        plot = Plot(_PLOT_SIZE, _PLOT_LETTER, tracks[0].seconds, curves, self._unit)
        self.folder.write(files["logits"], encode(plot.picture, ".png"))
        return self._record(tracks, videos, files)

    @property
    def _likely(self) -> int:
        if isinstance(self.classifier.class_head, GeneralHead):  # where each map takes runs of the head
            return 1 if self.options.explain.against is None else 2
        return _LIKELY

    @cached_property
    def _unit(self) -> str:
        return "value" if self.classifier.activation == "none" else "logit"

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (C,), or what the network says where there are none."""
        if self.classifier.activation == "none":
            return logits
        return np.asarray(self.classifier.probabilities(torch.from_numpy(logits)[None])[0].numpy())

    def _explain_all(self, targets: Sequence[Target]) -> tuple[NDArray[np.float64], Clip]:
        """Make the first pass; return the scores of all classes, summed over the frames, (C,), and what the clip is."""
        totals = np.zeros(len(self.classifier.labels))
        if self.options.explain.against is not None:  # which may be among them
            targets = [replace(one, count=one.count + 1) if isinstance(one, TopClasses) else one for one in targets]

        def likely() -> Sequence[Target]:
            """The first classes of a frame, and those that are first so far."""
            leaders = np.argsort(-totals)[: self._likely] if totals.any() else ()
            return [TopClasses(self._likely), *(OneClass(int(class_idx)) for class_idx in leaders)]

        with open_clip(self.picture, self.options.limits, self.options.clips) as clip:
            batches = self._batches(clip.frames, clip)
            jobs = ((batch, likely() if self.options.follows else targets) for batch in batches)
            with closing(in_order(self._explain, jobs, workers=self.workers, ahead=2)) as explained:
                for seen, end in explained:
                    for frame in seen:
                        pickle.dump(frame, self.kept)
                        totals += self._scores(frame.logits)
                    self.count += len(seen)
                    self.end = end
        return totals, clip

    def _batches(self, items: Iterable[Item], clip: Clip) -> Iterator[list[Item]]:
        size = max(1, min(self.batch_size, _BATCH_PIXELS // (clip.size[0] * clip.size[1])))
        batch: list[Item] = []
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _explain(self, job: tuple[Sequence[ClipFrame], Sequence[Target]]) -> tuple[list[_Seen], float]:
        frames, targets = job
        images = [frame.image(self.options.read) for frame in frames]
        seen = []
        for frame, result in zip(frames, self._results(frames, images, [targets] * len(frames)), strict=True):
            explanations = [replace(explanation, image=_NO_IMAGE) for explanation in result.explanations]
            seen.append(_Seen(frame.seconds, result.all_classes.logits.numpy(), explanations))
        return seen, frames[-1].end

    def _results(
        self, frames: Sequence[ClipFrame], images: list[NDArray[np.uint8]], targets: list[Sequence[Target]]
    ) -> Iterator[ImageResult]:
        results = explain_images(self.classifier, images, targets, self.options.explain)
        for frame, result in zip(frames, results, strict=True):
            if isinstance(result, CamError):
                raise ModelError(f"At second {frame.seconds:g}: {result.problem}", result.remedy)
            yield result

    def _tracks(self, targets: Sequence[Target]) -> list[_Track]:
        """What is followed: the predicted class, or what the targets say of each frame."""
        followed: dict[Target, None] = {}
        for target in [OneClass(self.predicted)] if self.options.follows else targets:
            if isinstance(target, TopClasses):
                ranks = range(1, min(target.count, len(self.classifier.labels)) + 1)
                followed.update(dict.fromkeys(map(TopClasses, ranks)))
            else:
                followed[target] = None
        return [_Track(target, self.options.explain.against) for target in followed]

    def _kept_frames(self) -> Iterator[_Seen]:
        self.kept.seek(0)
        for _ in range(self.count):
            yield pickle.load(self.kept)  # noqa: S301 - written by this process, in a file without a name

    def _summarize(self, tracks: Sequence[_Track], clip: Clip) -> None:
        """Find the frame that stands for the clip, the color scale, the curves, and the size of the video."""
        drawn = enlarge_for_legend(shrink(np.zeros((*clip.size, 3), np.uint8), self.options.max_side)).shape[:2]
        self.letter = letter_size((drawn[0], drawn[1]))
        peaks, first_peaks, highest = array("d"), array("d"), -np.inf
        for number, frame in enumerate(self._kept_frames()):
            first_peaks.append(frame.explanations[0].vmax)
            scores = self._scores(frame.logits)
            if scores[self.predicted] > highest:
                self.shown, self.shown_logits, highest = number, frame.logits, scores[self.predicted]
            for track in tracks:
                class_idx = track.class_at(frame.logits)
                track.seconds.append(frame.seconds)
                track.logits.append(float(frame.logits[class_idx]))
                track.probability += float(scores[class_idx])
                explanation = frame.find(class_idx)
                if explanation and (not self.options.follows or class_idx in np.argsort(-frame.logits)[: self._likely]):
                    peaks.append(explanation.vmax)
                texts = legend_texts(explanation or frame.explanations[0], 0)  # with a note of what is beyond the scale
                track.texts[texts["title"]] = texts
                track.notes = max(track.notes, len(list(filter(None, texts["notes"]))))
        for track in tracks:
            for texts in track.texts.values():
                legend = make_legend((drawn[0], drawn[1]), **texts, note_rows=track.notes, vmax=1)
                height = drawn[0] + len(legend)
                track.height, track.width = max(track.height, height + height % 2), legend.shape[1]
        posterior = self.options.explain.evidence == "posterior"
        # A class that is likely in no frame gets the scale of those that are.
        self.vmax = self.options.vmax or (1.0 if posterior else float(np.median(peaks or first_peaks)))

    def _write_track(self, track: _Track, clip: Clip, rows: Any) -> str | None:
        """Make the second pass: write the rows and the video of what is followed, and return the video's name."""
        if "overlay" not in self.options.save:
            for _, row in self._drawn(track, None):
                rows.writerow(row)
            return None
        kind, labels = VideoFormat.like(clip), self.classifier.labels
        stem = f"{shortened(self.picture.name)}.top{getattr(track.target, 'count', '')}"
        if isinstance(track.target, OneClass):
            stem = file_stem(self.picture.name, track.target.class_idx, labels[track.target.class_idx])
        clips, limits = self.options.clips, self.options.limits
        end = None if clips.end is None else clip.origin + clips.end
        with ExitStack() as stack:
            sound = None
            self.sound = f"left out ({', '.join(sorted(clip.sound))})" if clip.sound else None
            if clip.sound and kind.holds(clip.sound):
                self.sound = "copied"
                file = stack.enter_context(open_source(self.picture, limits))
                sound = Sound(file, clip.origin + clips.start if clips.start else 0.0, end)
            drawn = stack.enter_context(closing(self._drawn(track, kind)))
            out = stack.enter_context(open_whole(self.folder.out / f"{stem}{kind.suffix}", self.folder.unfinished))
            threads = math.ceil(self.workers / _WORKERS_PER_ENCODER_THREAD)
            write_video(out, kind, _pictures(drawn, rows), sound, threads)
        return f"{stem}{kind.suffix}"

    def _drawn(self, track: _Track, kind: VideoFormat | None) -> Generator[tuple[Any, list[Any]]]:
        """Yield the drawn frames, none without a format, and their rows of the table."""
        curve, height = {track.name(self.classifier.labels): track.logits}, _PLOT_LETTERS * self.letter
        plot = Plot((height, track.width), self.letter, track.seconds, curve, self._unit)
        with open_clip(self.picture, self.options.limits, self.options.clips) as clip:
            draw = partial(self._draw, track, kind, plot, clip)
            jobs = self._batches(zip(self._watched(clip), self._kept_frames(), strict=False), clip)
            with closing(in_order(draw, jobs, workers=self.workers, ahead=2)) as batches:
                for batch in batches:
                    yield from batch

    def _watched(self, clip: Clip) -> Iterator[ClipFrame]:
        """Keep the frame that stands for the clip."""
        count = 0
        for count, frame in enumerate(clip.frames, 1):
            if count > self.count:
                break
            if count == self.shown + 1:
                self.shown_frame = frame
            yield frame
        if count != self.count:
            raise ImageError(f"{str(self.picture.path)!r} was changed while it was read", "Run the same command again")

    def _draw(
        self,
        track: _Track,
        kind: VideoFormat | None,
        plot: Plot,
        clip: Clip,
        batch: Sequence[tuple[ClipFrame, _Seen]],
    ) -> list[tuple[Any, list[Any]]]:
        classes = [track.class_at(seen.logits) for _, seen in batch]
        found = {n: seen.find(class_idx) for n, ((_, seen), class_idx) in enumerate(zip(batch, classes, strict=True))}
        explanations = {number: explanation for number, explanation in found.items() if explanation}
        missing = [number for number in found if number not in explanations]
        if missing:
            targets: list[Sequence[Target]] = [[OneClass(classes[number])] for number in missing]
            again = [batch[number][0] for number in missing]
            results = self._results(again, [frame.image(self.options.read) for frame in again], targets)
            explanations |= {n: result.explanations[0] for n, result in zip(missing, results, strict=True)}
        start = self.options.clips.start
        shift = round((clip.origin + start) / clip.time_base) if start else 0
        drawn = []
        for number, (frame, _) in enumerate(batch):
            explanation, picture = explanations[number], None
            if kind:
                picture = self._compose(explanation, track, kind, plot, frame, shift)
            row = [f"{frame.seconds:.6f}", explanation.class_idx, explanation.label, explanation.probability]
            drawn.append((picture, [*row, explanation.logit, *explanation.peak]))
        return drawn

    def _compose(
        self, explanation: Explanation, track: _Track, kind: VideoFormat, plot: Plot, frame: ClipFrame, shift: int
    ) -> Any:
        """Draw a frame with its heat, its legend, and below it the curve."""
        style: dict[str, Any] = {"legend": True, "vmax": self.vmax, "note_rows": track.notes, **style_of(self.options)}
        times, read = (frame.pts - shift, frame.duration), self.options.read
        if kind.is_planar and self.options.photo == "gray":
            image = to_draw_on(frame.image(read)) if read.bands else frame.gray()
            planes = replace(explanation, image=image).planes(**style)
            parts = (planes, track.height), (plot.planes_at(frame.seconds), len(plot.picture))
            return kind.frame_of_planes([((part.y, *part.chroma), rows) for part, rows in parts], *times)
        overlay = replace(explanation, image=to_draw_on(frame.image(read))).overlay(**style)
        canvas = np.full((track.height + len(plot.picture), track.width, 3), PAPER, np.uint8)
        canvas[: track.height][: overlay.shape[0]] = overlay[: track.height]
        canvas[track.height :] = plot.at(frame.seconds)
        return kind.frame(canvas, *times)

    def _record(self, tracks: Sequence[_Track], videos: Sequence[str | None], files: dict[str, str]) -> Record:
        """Make the line of the manifest: that of the frame that stands for the clip, with what is of all frames."""
        frame, labels = self.shown_frame, self.classifier.labels
        classes = [track.class_at(self.shown_logits) for track in tracks]
        targets: list[Sequence[Target]] = [[OneClass(class_idx) for class_idx in classes]]
        (result,) = self._results([frame], [frame.image(self.options.read)], targets)
        by_class = {explanation.class_idx: explanation for explanation in result.explanations}
        result = ImageResult([by_class[class_idx] for class_idx in classes], result.all_classes)
        options = replace(self.options, save=self.options.save - {"overlay"})
        record = write_picture(self.picture, result, self.folder, options, labels)
        if record["status"] != "ok":
            return record
        record["predicted"] = name_class(self.predicted, labels)
        record["files"] = record.get("files", {}) | files
        record["clip"] = {"frames": self.count, "seconds": self.end - self.options.clips.start}
        record["clip"] |= {"time": frame.seconds, "scale": self.vmax, "sound": self.sound}
        record["clip"]["follows"] = self.options.follows
        for target, track, video in zip(record["targets"], tracks, videos, strict=True):
            target["mean_logit"] = float(np.mean(track.logits))
            target["mean_probability"] = None if self._unit == "value" else track.probability / self.count
            target["files"] |= {"overlay": video} if video else {}
        return grade(record, self.options.truth, labels)
