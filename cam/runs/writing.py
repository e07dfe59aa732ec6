"""The files of one image, and its line of the manifest."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cam.errors import CamError, DiskFullError
from cam.explanations.explain import ImageResult
from cam.explanations.explanation import NUMBERS, Explanation
from cam.explanations.forward import as_model_error
from cam.explanations.options import TopClasses, resolve
from cam.files import shortened
from cam.images.find import Picture
from cam.maps.projection import cell_positions
from cam.runs.folder import RunFolder
from cam.runs.manifest import Record, grade, name_class
from cam.runs.options import RunOptions

Painted: TypeAlias = Sequence[NDArray[np.uint8]]  # for each explanation of an image, or empty
_STYLE = "opacity", "colormap", "photo", "contours", "max_side"  # arguments of `Explanation.overlay`


def write_picture(
    picture: Picture,
    outcome: ImageResult | CamError,
    folder: RunFolder,
    options: RunOptions,
    labels: Sequence[str],
    painted: Painted = (),
) -> Record:
    """Write the files of one image and return its line of the manifest, which also reports errors.

    `painted` is from `paint_on_device`, if that ran. A full disk is raised: no later image could be written either.
    """
    record: Record = {"path": str(picture.path), "name": str(picture.name), "status": "ok", "error": None}
    file_size, modified = picture.fingerprint or (None, None)
    record |= {"bytes": file_size, "modified": modified, "size": None}
    record |= {"predicted": None, "truth": None, "correct": None, "targets": []}
    try:
        if isinstance(outcome, CamError):
            raise outcome
        record["size"] = list(outcome.explanations[0].frame.photo)
        record["predicted"] = name_class(resolve([TopClasses(1)], outcome.all_classes.logits)[0], labels)
        for explanation, painted_image in zip_longest(outcome.explanations, painted):
            files = _write(explanation, painted_image, picture.name, folder, options)
            record["targets"].append({**explanation.to_dict(options.box_share), "files": files})
        if options.outputs:
            truth = options.truth.classes.get(str(picture.path))
            written = {output.name: output.write(folder, picture.name, outcome, truth) for output in options.outputs}
            record["files"] = written
    except DiskFullError:
        raise
    except (CamError, MemoryError, torch.OutOfMemoryError) as error:
        message = str(error if isinstance(error, CamError) else as_model_error(error))
        record.update(status="failed", error=message, predicted=None, targets=[])
    return grade(record, options.truth, labels)


def file_stem(name: PurePath, class_idx: int, label: str) -> str:
    """The name of the files of one image and class, without a suffix."""
    slug = re.sub("[^a-z0-9]+", "-", label.lower()).strip("-")[:40]
    return f"{shortened(name)}.{class_idx}" + (f"-{slug}" if slug else "")


def _write(
    explanation: Explanation, painted: NDArray[np.uint8] | None, name: PurePath, folder: RunFolder, options: RunOptions
) -> dict[str, str]:
    """Write the files of one image and class; their names contain the image's, so that they are unique."""
    stem = file_stem(name, explanation.class_idx, explanation.label)
    files: dict[str, str] = {}

    def write(key: str, file: str, data: bytes) -> None:
        folder.write(file, data)
        files[key] = file

    if "overlay" in options.save:
        suffix = f".{options.format}"
        draw = partial(explanation.encode, suffix, **style_of(options))
        write("overlay", f"{stem}{suffix}", draw(vmax=options.vmax, painted=painted))
        largest = max((channel.vmax for channel in explanation.channels), default=0.0)  # so that they can be compared
        for channel in explanation.channels:
            key = f"channel-{channel.index}"
            write(key, f"{stem}.{key}{suffix}", draw(vmax=largest, channel=channel))
    if "heat" in options.save:
        np.save(buffer := io.BytesIO(), explanation.heat())
        write("heat", f"{stem}.npy", buffer.getvalue())
    if "cam" in options.save:
        np.savez(buffer := io.BytesIO(), allow_pickle=False, **_arrays(explanation))
        write("cam", f"{stem}.npz", buffer.getvalue())
    return files


def style_of(options: RunOptions) -> dict[str, Any]:
    """The arguments of `Explanation.overlay` that are the same for all images."""
    style: dict[str, Any] = {name: getattr(options, name) for name in _STYLE}
    return {**style, "box_share": options.box_share if options.boxes else None}


def _arrays(explanation: Explanation) -> dict[str, Any]:
    """The map and its geometry: the center of cell (i, j) is at (rows[i], columns[j]) of the photograph.

    For any other point: photo = (input + offset + 1/2) * photo / resized - 1/2.
    """
    frame, grid, channels = explanation.frame, explanation.grid, explanation.channels
    rows, columns = cell_positions((explanation.cam.shape[0], explanation.cam.shape[1]), grid, frame)
    return {
        **{name: getattr(explanation, name) for name in ("cam", "evidence_map", *NUMBERS)},
        "probability": math.nan if explanation.probability is None else explanation.probability,
        "rows": rows,
        "columns": columns,
        **{f"grid_{name}": np.array(getattr(grid, name)) for name in ("offset", "stride", "method")},
        **{name: np.array(getattr(frame, name)) for name in ("photo", "resized", "offset", "input", "seen")},
        "channels": np.array([channel.index for channel in channels], int),
        "channel_cams": np.array([channel.cam for channel in channels], np.float32),
    }
