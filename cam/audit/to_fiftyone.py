"""Hand a run and its audit to FiftyOne: predictions, true classes, heat maps and the groups as tags."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam.audit.audit import Audit
from cam.audit.read import RunMaps, ScoredMap
from cam.classifiers.sources.base import import_extra
from cam.errors import ModelError, UsageError, reason_of
from cam.maps.projection import linear_weights
from cam.runs.manifest import Record

_SIDE = 64  # positions of a heat map over the photograph, along each axis: FiftyOne stretches it
_SAMPLES = 500  # in memory at once


def import_fiftyone(name: str) -> Any:
    """Import FiftyOne, and see that its database runs and has no dataset of that name.

    Raises:
        ModelError: FiftyOne is not installed, or its database does not run.
        UsageError: it has a dataset of that name.
    """
    fiftyone = import_extra("fiftyone", "fiftyone", "--fiftyone")
    try:
        names = fiftyone.list_datasets()
    except Exception as error:
        problem = f"--fiftyone {name}: the database of FiftyOne does not run ({reason_of(error)})"
        raise ModelError(problem, "See that fiftyone app launch works") from error
    if name in names:
        raise UsageError(f"--fiftyone {name}: FiftyOne has a dataset of that name", "Choose another name")
    return fiftyone


def write_dataset(name: str, audit: Audit, truth: str | None = None) -> int:
    """Make a FiftyOne dataset of the images of an audited run whose files are there, and return how many have none.

    A sample has `prediction` and `ground_truth` (labels), `heat` (of the predicted class, zero where the network saw
    nothing), and as tags the groups that stand out and the sets of near-duplicates that it belongs to. `truth` is for
    `read_truth`, by default that of the run. Errors are those of `import_fiftyone`.
    """
    fiftyone, run = import_fiftyone(name), RunMaps.open(audit.file.parent, truth)
    tags, samples, missing = _tags(audit), list[Any](), 0
    dataset = fiftyone.Dataset(name, persistent=True)
    try:
        for record in run.records():
            file = Path(run.info["directory"], record["path"])
            if not file.is_file():
                missing += 1
                continue
            samples.append(_sample(fiftyone, file, record, run, tags[record["path"]]))
            if len(samples) == _SAMPLES:
                dataset.add_samples(samples)
                samples = []
        dataset.add_samples(samples)
    except BaseException:
        dataset.delete()  # whole or not at all
        raise
    return missing


def _tags(audit: Audit) -> defaultdict[str, list[str]]:
    """The tags of each image by its path."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for finding in audit.standing_out:
        for path in finding.members:
            tags[path].append(f"{finding.label}, {finding.place}")
    for number, paths in enumerate(audit.duplicates, 1):
        for path in paths:
            tags[path].append(f"near-duplicates {number}")
    return tags


def _sample(fiftyone: Any, file: Path, record: Record, run: RunMaps, tags: list[str]) -> Any:
    predicted, truth = record["predicted"], record["truth"]
    probabilities = {target["class_idx"]: target["probability"] for target in record["targets"]}
    confidence = probabilities.get(predicted["class_idx"])
    sample = fiftyone.Sample(filepath=str(file.resolve()), tags=tags)
    sample["prediction"] = fiftyone.Classification(label=predicted["label"], confidence=confidence)
    if truth:
        sample["ground_truth"] = fiftyone.Classification(label=truth["label"])
    placed = None
    with suppress(UsageError):  # its file is missing or damaged
        placed = run.scored_maps(record, [predicted["class_idx"]]).get(predicted["class_idx"])
    if placed:
        run_scale = run.info["scale"] if run.info["settings"]["evidence"] == "logit" else None
        vmax = run_scale or float(np.abs(placed.cam).max()) or 1.0
        sample["heat"] = fiftyone.Heatmap(map=heat_of(placed), range=[-vmax, vmax])
    return sample


def heat_of(placed: ScoredMap, side: int = _SIDE) -> NDArray[np.float32]:
    """Project a map on a photograph of any shape: (side, side) logits, zero where the network saw nothing."""
    shares = (np.arange(side) + 0.5) / side
    heat = linear_weights(shares, placed.rows) @ placed.cam @ linear_weights(shares, placed.columns).T
    left, top, right, bottom = placed.seen
    heat[(shares < top) | (shares > bottom)] = 0
    heat[:, (shares < left) | (shares > right)] = 0
    return np.asarray(heat, np.float32)
