"""Go on with an earlier run in the same folder, or refuse to mix its results with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cam.errors import UsageError
from cam.explanations.options import TrueClass
from cam.files import write_whole
from cam.images.find import Picture
from cam.runs.folder import RunFolder, read_run_info, runs_in
from cam.runs.manifest import Record, as_line, files_of, grade, read_records
from cam.runs.options import Batch, RunOptions, first_difference


def check_settings(folder: RunFolder, run_info: Mapping[str, Any]) -> None:
    """Refuse a folder with results that were made with other settings."""
    for run in dict.fromkeys([folder, *runs_in(folder.out)]):
        if not run.has(run.manifest.name):
            continue
        earlier = read_run_info(run)
        if "settings" not in earlier:
            problem = f"{str(run.manifest)!r} was not written by this version: {run.run_file.name} has no settings"
            raise UsageError(problem, "Move it away, add --overwrite, or choose another folder")
        if earlier["settings"] != run_info["settings"] and _has_results(run):
            difference = first_difference(earlier, run_info)
            problem = f"{str(folder.out)!r} holds results with other settings ({difference})"
            raise UsageError(problem, "Add --overwrite, or choose another folder")


def _has_results(folder: RunFolder) -> bool:
    return any(record["status"] == "ok" for record in read_records(folder.manifest))


def keep_done(
    folder: RunFolder, pictures: Batch, options: RunOptions, labels: Sequence[str], report: Callable[[Record], None]
) -> tuple[dict[int, int], int]:
    """Reduce the manifest to the lines of images that are done, and report these.

    They get the true classes of this run. Where these are targets, an image is done only if its own is the same.
    Returns where the lines begin, by index, and how many images that an earlier run explained are not among `pictures`.
    """
    done: dict[int, int] = {}
    if not folder.has(folder.manifest.name):
        return done, 0
    same_directory = read_run_info(folder).get("directory") == str(Path.cwd())
    of_truth = TrueClass() in options.targets
    gone = 0
    by_name = {str(picture.name): (index, picture) for index, picture in pictures}
    paths = {str(picture.path) for _, picture in pictures}

    def lines() -> Iterator[bytes]:
        nonlocal gone
        end = 0
        for record in read_records(folder.manifest):
            index, picture = by_name.get(record["name"], (-1, None))
            gone += picture is None and record["path"] not in paths and record["status"] == "ok"
            same_path = picture is not None and (same_directory or picture.path.is_absolute())
            if picture and same_path and index not in done and _is_done(folder, record, picture, options.follows):
                graded = grade({**record, "index": index}, options.truth, labels)
                if of_truth and graded["truth"] != record["truth"]:
                    continue
                report(graded)
                line = as_line(graded)
                done[index], end = end, end + len(line)
                yield line

    write_whole(folder.manifest, lines(), folder.unfinished, durable=True)
    return done, gone


def _is_done(folder: RunFolder, record: Record, picture: Picture, follows: bool) -> bool:
    """True if the image was explained, a clip for the same classes, its file is the same, and its results are there."""
    explained = record["status"] == "ok" and record["path"] == str(picture.path)
    explained = explained and record.get("clip", {}).get("follows", follows) == follows
    complete = explained and all(map(folder.has, files_of(record)))
    return complete and (record["bytes"], record["modified"]) == picture.current_fingerprint()
