"""The evidence that a run stores for its report: a script for each image, and model.json."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.evaluation.benchmark import plain
from cam.explanations.explain import ImageResult
from cam.explanations.texts import METHODS, RUNS
from cam.files import shortened
from cam.heads.general import GeneralHead
from cam.images.io import encode, shrink
from cam.maps.activation import AllClasses, completeness_error
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import cell_positions
from cam.report.packing import Packed, pack
from cam.runs.folder import RunFolder

MODEL = "report/model.json"
PHOTO_SIDE, _THUMBNAIL_SIDE = 640, 144  # longer sides in the report, pixels
_JPEG_QUALITY = 82

# Logits. Maps are right to half a quantum, so the difference of two maps is right to 1e-3.
QUANTUM = 2.0**-10
TOP = 5  # classes listed for an image, and for each cell
_MAX_BYTES = 140_000  # of base64 for the maps of an image


class EvidenceWriter:
    """Writes the files of the report during a run (an `OutputWriter`)."""

    name = "report"
    min_side = PHOTO_SIDE

    def write_model(self, folder: RunFolder, classifier: Classifier) -> None:
        """Write `labels`, `bias` (C,), `activation` and `weight`.

        The weight is base64 of (C, K) little-endian float32, or null where maps are stored instead of features. Of a
        head without an exact map there are neither bias nor weight, but the `method`: its name, and what its `runs`
        are, null for a reference.
        """
        head = classifier.class_head
        model: dict[str, Any] = {"labels": classifier.labels, "bias": None, "activation": classifier.activation}
        if isinstance(head, GeneralHead):
            model |= {"weight": None, "method": {"name": METHODS[head.method], "runs": RUNS.get(head.method)}}
        else:
            weight, model["bias"] = head.weight.cpu(), head.bias.tolist()
            stored = weight.numpy().astype("<f4").tobytes() if _stores_features(weight) else None
            model["weight"] = stored and b64encode(stored).decode()
        folder.write(MODEL, json.dumps(model).encode())

    def write(self, folder: RunFolder, name: PurePath, result: ImageResult, truth: int | None) -> str:
        """Write the evidence of one image, and return the name of its file."""
        first, file = result.explanations[0], f"report/pictures/{shortened(name)}.js"
        some = None if first.method == "exact" else _maps_of_some(result, truth)
        folder.write(file, evidence_script(result.all_classes, first.image, first.grid, first.frame, some))
        return file


class StoredMap(NamedTuple):
    """The map of one class where those of all classes would take too long."""

    cam: NDArray[np.float32]  # (h, w), logit units
    base: float
    runs: int  # of the head


def _maps_of_some(result: ImageResult, truth: int | None) -> dict[int, StoredMap]:
    """The maps of the predicted five, the explained classes, those they are contrasted with, and the true class."""
    evidence = result.all_classes
    known: dict[int, StoredMap] = {}
    for explanation in result.explanations:
        cam, runs, other = explanation.cam, explanation.runs, explanation.against
        known[explanation.class_idx] = StoredMap(cam, explanation.bias, runs)
        if other:
            known.setdefault(other.class_idx, StoredMap(cam - explanation.evidence_map, other.bias, runs))
    classes = [*predicted_classes(evidence.logits.numpy()), *known, *([] if truth is None else [truth])]
    missing = [class_idx for class_idx in dict.fromkeys(classes) if class_idx not in known]
    if missing and evidence.maps_of:
        found = evidence.maps_of(missing)
        cams, bases = found.maps.float().cpu().numpy(), found.base.tolist()
        known |= {c: StoredMap(cam, base, found.runs) for c, cam, base in zip(missing, cams, bases, strict=True)}
    return {class_idx: known[class_idx] for class_idx in dict.fromkeys(classes)}


def predicted_classes(logits: NDArray[np.floating]) -> list[int]:
    """The classes with the largest logits, of equal ones the first."""
    return list(map(int, np.argsort(-logits, kind="stable")[:TOP]))


def evidence_script(
    evidence: AllClasses,
    image: NDArray[np.uint8],
    grid: Grid,
    frame: Frame,
    some: Mapping[int, StoredMap] | None = None,
) -> bytes:
    """Write the script of one image, (H, W, 3) uint8 RGB: a single call that hands its evidence to the page.

    Line 2 is the JSON of its entry in the list, with the mean features, and a thumbnail and the map of its predicted
    class as `preview`; line 3 the JSON of what opening it needs. Positions are shares of the photograph's height and
    width. All of it is ASCII.
    `some` are the maps that are stored if those of all classes would take too long.
    """
    logits = evidence.logits.numpy()
    top = predicted_classes(logits)
    if some is None:
        cams = evidence.cams()
        cam, bias, maps = cams[top[0]], evidence.bias[top[0]].cpu(), pack_maps(evidence, cams)
    else:
        cam, bias = some[top[0]].cam, torch.tensor(some[top[0]].base, dtype=torch.float32)
        maps = pack_some(some, evidence.map_logits)
    (height, width), (x0, y0, x1, y1) = frame.photo, frame.seen
    rows, columns = cell_positions((cam.shape[0], cam.shape[1]), grid, frame)
    positions = {
        "rows": ((rows + 0.5) / height).round(6).tolist(),
        "columns": ((columns + 0.5) / width).round(6).tolist(),
        "seen": [x0 / width, y0 / height, x1 / width, y1 / height],
    }
    entry = {
        "size": list(frame.photo),
        "top": [[c, float(logits[c]), plain(float(evidence.probabilities[c]))] for c in top],
        "completeness": completeness_error(torch.from_numpy(cam), bias, evidence.map_logits[top[0]]).item(),
        "border": border_share(cam),
        "features": _pack_roughly(evidence.features.float().mean((1, 2)).cpu().numpy()),
        "preview": {**positions, "map": pack(cam, QUANTUM), "thumbnail": _jpeg(image, _THUMBNAIL_SIDE)},
    }
    finer = not torch.equal(evidence.logits, evidence.map_logits)
    details = {
        **positions,
        "logits": pack(logits, QUANTUM),
        "map_logits": pack(evidence.map_logits.numpy(), QUANTUM) if finer else None,
        "maps": maps,
        "photo": _jpeg(image, PHOTO_SIDE),
    }
    return f"gapcam.receive(\n{script_json(entry)},\n{script_json(details)}\n)\n".encode("ascii")


def _pack_roughly(values: NDArray[np.float32]) -> Packed:
    """Pack values to one part in 128 of the largest, or better."""
    largest = float(np.abs(values).max()) or 1.0
    return pack(values, 2.0 ** math.ceil(math.log2(largest / 128)))


def script_json(value: object) -> str:
    """Write JSON in ASCII that cannot end the script element around it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def border_share(cam: NDArray[np.floating]) -> float:
    """Compute the share of the positive evidence in the outermost cells of a map (h, w); 0 without any."""
    positive = np.clip(cam, 0, None)
    total = float(positive.sum())
    return 1 - float(positive[1:-1, 1:-1].sum()) / total if total else 0.0


def _jpeg(image: NDArray[np.uint8], side: int) -> str:
    return b64encode(encode(shrink(image, side), ".jpg", _JPEG_QUALITY)).decode()


def pack_maps(evidence: AllClasses, cams: NDArray[np.float32]) -> dict[str, Any]:
    """Pack the maps (C, h, w) of all classes, right to half a `QUANTUM`, or of as many as fit.

    The `kind` is "features" if there are fewer channels than classes: the page computes the maps from them and the
    image's `scale`. Else it is "all". If either takes over 140 KB, it is "selected", with the indices `classes`: the
    predicted five, then the five strongest at any cell, then the largest logits. The `leaders` (4, h, w) give margins
    and posteriors over all classes at every cell: the largest evidence, its class, the second largest evidence, and the
    logarithm of the sum of exp(M + bias).
    """
    leaders = pack(_leaders(cams, evidence.bias.cpu()), QUANTUM)
    budget = _MAX_BYTES - len(leaders["data"])
    if evidence.weight is not None and _stores_features(evidence.weight):
        largest = float((evidence.weight * evidence.scale).abs().sum(1).max()) or QUANTUM
        quantum = 2.0 ** math.floor(math.log2(QUANTUM / largest))  # errors of all channels add up to half a QUANTUM
        values = pack(evidence.features.float().cpu().numpy(), quantum)
        if len(values["data"]) <= budget:
            return {"kind": "features", "values": values, "scale": evidence.scale, "leaders": leaders}
    values = pack(cams, QUANTUM)
    if len(values["data"]) <= budget:
        return {"kind": "all", "values": values, "leaders": leaders}
    classes = _by_importance(cams, evidence.logits.numpy())
    nonzero = np.cumsum((np.abs(cams[classes]) > QUANTUM / 2).sum((1, 2)))  # the numbers that take the bytes
    while len(values["data"]) > budget and len(classes) > TOP:
        fitting = int(np.searchsorted(nonzero, budget / len(values["data"]) * nonzero[len(classes) - 1]))
        classes = classes[: max(TOP, min(fitting, len(classes) - 1))]
        values = pack(cams[classes], QUANTUM)
    return {"kind": "selected", "values": values, "classes": classes.tolist(), "leaders": leaders}


def pack_some(some: Mapping[int, StoredMap], logits: Tensor) -> dict[str, Any]:
    """Pack the maps of some classes, right to half a `QUANTUM`, as "selected" ones.

    Of each class there are its base, how many logits its map and base miss of its logit (C,), and the runs of the head.
    """
    cams, bases, runs = (np.stack(values) for values in zip(*some.values(), strict=True))
    missed = logits.numpy()[list(some)] - bases - cams.mean((1, 2), dtype=np.float64)
    numbers = {"bases": bases.tolist(), "missed": missed.tolist(), "runs": runs.tolist()}
    return {"kind": "selected", "values": pack(cams, QUANTUM), "classes": list(some), **numbers}


def _stores_features(weight: Tensor) -> bool:
    """True if features are fewer numbers than the maps that a weight (C, K) turns them into."""
    return weight.shape[1] < weight.shape[0]


def _leaders(cams: NDArray[np.float32], bias: Tensor) -> NDArray[np.float64]:
    largest = np.sort(np.partition(cams, -min(2, len(cams)), axis=0)[-2:], axis=0)  # a single class is its own second
    scores = torch.from_numpy(cams).double() + bias[:, None, None]
    return np.stack([largest[-1], cams.argmax(0) * QUANTUM, largest[0], scores.logsumexp(0).numpy()])


def _by_importance(cams: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.integer]:
    """All classes: the predicted five, the five strongest at any cell, the rest by logit."""
    strongest = np.zeros(len(logits), bool)
    strongest[np.argpartition(cams, -min(TOP, len(cams)), axis=0)[-TOP:]] = True
    strongest &= cams.max((1, 2)) > 0
    order = np.lexsort((-logits, ~strongest))
    predicted = predicted_classes(logits)
    return np.concatenate([predicted, order[~np.isin(order, predicted)]])
