"""The file that a report keeps of a picture: small copies of the photograph, and the evidence for all classes."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cam.classifiers.classifier import Classifier
from cam.explanations.explain import ImageResult
from cam.files import shortened
from cam.images.io import encode, shrink
from cam.maps.activation import AllClasses, completeness_error
from cam.maps.geometry import Frame, Grid
from cam.maps.projection import cell_positions
from cam.report.packing import pack
from cam.runs.folder import RunFolder

PHOTO_SIDE = 640
"""Longer side of the photograph in a report, pixels."""

_THUMBNAIL_SIDE = 112

_QUALITY = 82


def evidence_file(evidence: AllClasses, image: NDArray[np.uint8], grid: Grid, frame: Frame) -> bytes:
    """Write what a report needs of a picture: a script with one call, which a page runs as it is.

    Its second line is the JSON of what the list of pictures shows, its third that of what it takes to look at this one.

    Args:
        evidence: of the picture.
        image: (H, W, 3) uint8 RGB photograph, or a smaller copy.
        grid: where the cells of the maps lie in the network's input.
        frame: where the input lies in the photograph.

    Returns:
        ASCII in which nothing can end a script: `<` is written as an escape.

    Example:
        >>> from cam.maps.geometry import fit_crop, stretched
        >>> logits, maps = torch.tensor([1.0, 2.0]), torch.ones(2, 3, 4)
        >>> evidence = AllClasses(logits, logits.softmax(0), logits, logits - 1, maps, None)
        >>> grid, frame = stretched((3, 4), (30, 40)), fit_crop((30, 40), 30, (30, 40))
        >>> lines = evidence_file(evidence, np.zeros((30, 40, 3), np.uint8), grid, frame).splitlines()
        >>> row = json.loads(lines[1].rstrip(b","))
        >>> row["size"], len(row["top"])
        ([30, 40], 2)
    """
    cams = evidence.cams()
    row, rest = _row(evidence, cams, image, frame), _evidence(evidence, cams, image, grid, frame)
    return f"gapcam.keep(\n{as_json(row)},\n{as_json(rest)}\n)\n".encode()


def as_json(value: object) -> str:
    """Write JSON in ASCII in which nothing can end a script.

    Example:
        >>> len(as_json("<"))
        8
    """
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def border_share(cam: NDArray[np.floating]) -> float:
    """Say how much of the positive evidence lies in the outermost cells, 0 to 1; 0 where there is none.

    Example:
        >>> border_share(np.array([[0, 1, 0], [0, 3, 0], [0, -9, 0]]))
        0.25
    """
    positive = np.clip(cam, 0, None)
    total = float(positive.sum())
    return 1 - float(positive[1:-1, 1:-1].sum()) / total if total else 0.0


def _row(evidence: AllClasses, cams: NDArray[np.float32], image: NDArray[np.uint8], frame: Frame) -> dict[str, Any]:
    top = np.argsort(-evidence.logits.numpy(), kind="stable")[:TOP].tolist()
    cam, bias = cams[top[0]], evidence.bias[top[0]].cpu()
    return {
        "size": list(frame.photo),
        "top": [[c, float(evidence.logits[c]), float(evidence.probabilities[c])] for c in top],
        "completeness": completeness_error(torch.from_numpy(cam), bias, evidence.map_logits[top[0]]).item(),
        "border": border_share(cam),
        "map": pack(cam, QUANTUM),
        "thumbnail": _jpeg(image, _THUMBNAIL_SIDE),
    }


def _evidence(
    evidence: AllClasses, cams: NDArray[np.float32], image: NDArray[np.uint8], grid: Grid, frame: Frame
) -> dict[str, Any]:
    """Places are shares of the photograph's height and width."""
    height, width = frame.photo
    rows, columns = cell_positions((evidence.features.shape[1], evidence.features.shape[2]), grid, frame)
    x0, y0, x1, y1 = frame.seen
    finer = not torch.equal(evidence.logits, evidence.map_logits)
    return {
        "rows": ((rows + 0.5) / height).tolist(),
        "columns": ((columns + 0.5) / width).tolist(),
        "seen": [x0 / width, y0 / height, x1 / width, y1 / height],
        "logits": pack(evidence.logits.numpy(), QUANTUM),
        "map_logits": pack(evidence.map_logits.numpy(), QUANTUM) if finer else None,
        "maps": keep(evidence, cams),
        "photo": _jpeg(image, PHOTO_SIDE),
    }


def _jpeg(image: NDArray[np.uint8], side: int) -> str:
    return b64encode(encode(shrink(image, side), ".jpg", _QUALITY)).decode()


QUANTUM = 2.0**-10
"""Logits: maps are kept to half of it, so that the difference of two is right to 1e-3."""

TOP = 5
"""Classes that are told of a picture, and of each place."""

_BYTES = 140_000  # of the evidence of a picture, in base64


def few_channels(weight: Tensor) -> bool:
    """Tell whether features are fewer numbers than the maps that a weight (C, K) makes of them.

    Example:
        >>> import torch
        >>> few_channels(torch.zeros(1000, 512))
        True
    """
    return weight.shape[1] < weight.shape[0]


def keep(evidence: AllClasses, cams: NDArray[np.float32]) -> dict[str, Any]:
    """Keep what the map of every class can be computed from to half a `QUANTUM`, if it is not too much.

    Features are kept where there are fewer channels than classes, maps otherwise. Where all takes over 140 KB, maps of
    some classes are kept: the predicted five, then those among the five strongest at any place, then those with the
    largest logits. With them goes what margins and probabilities over all classes are computed from at each place:
    the largest evidence, whose it is, the next, and the logarithm of the sum of exp(M + bias).

    Args:
        evidence: of the picture, of two classes or more.
        cams: its `cams`, (C, h, w).

    Returns:
        Ready for JSON: `kind` ("features", "classes" or "some"), `values` and `leaders` (4, h, w) as `pack` gives them,
        and of features the picture's `scale`, of some classes `classes` (their indices).

    Example:
        >>> import torch
        >>> from cam.report.packing import unpack
        >>> maps = torch.arange(6.0).view(3, 1, 2)
        >>> evidence = AllClasses(maps.mean((1, 2)), torch.ones(3), torch.ones(3), torch.zeros(3), maps, None)
        >>> kept = keep(evidence, evidence.cams())
        >>> kept["kind"], kept["values"]["shape"], unpack(kept["leaders"])[0].tolist()
        ('classes', [3, 1, 2], [[4.0, 5.0]])
    """
    weight = evidence.weight
    leaders = pack(_leaders(cams, evidence.bias.cpu().numpy()), QUANTUM)
    budget = _BYTES - len(leaders["data"])
    if weight is not None and few_channels(weight):
        values = pack(evidence.features.float().cpu().numpy(), _quantum(weight * evidence.scale))
        if len(values["data"]) <= budget:
            return {"kind": "features", "values": values, "scale": evidence.scale, "leaders": leaders}
    values = pack(cams, QUANTUM)
    if len(values["data"]) <= budget:
        return {"kind": "classes", "values": values, "leaders": leaders}
    classes = _ranked(cams, evidence.logits.numpy())
    numbers = np.cumsum((np.abs(cams[classes]) > QUANTUM / 2).sum((1, 2)))  # that are not zero, which take the bytes
    while len(values["data"]) > budget and len(classes) > TOP:
        count = int(np.searchsorted(numbers, budget / len(values["data"]) * numbers[len(classes) - 1]))
        classes = classes[: max(TOP, min(count, len(classes) - 1))]
        values = pack(cams[classes], QUANTUM)
    return {"kind": "some", "values": values, "classes": classes.tolist(), "leaders": leaders}


def _quantum(weight: Tensor) -> float:
    """How fine features have to be: errors of half a quantum in all of them add up to half a `QUANTUM` in no class."""
    largest = float(weight.abs().sum(1).max())
    return float(2.0 ** np.floor(np.log2(QUANTUM / largest))) if largest else 1.0


def _leaders(cams: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """At each place the largest evidence, its class (in quanta), the next, and log of the sum of exp(M + bias)."""
    second, best = np.sort(np.partition(cams, -2, axis=0)[-2:], axis=0)
    scores = cams.astype(np.float64) + bias[:, None, None]
    peak = scores.max(0)
    total = peak + np.log(np.exp(scores - peak).sum(0))
    return np.stack([best, cams.argmax(0) * QUANTUM, second, total])


def _ranked(cams: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.integer]:
    """All classes, those first that must be kept."""
    strongest = np.zeros(len(logits), bool)
    strongest[np.argpartition(cams, -min(TOP, len(cams)), axis=0)[-TOP:]] = True
    strongest &= cams.max((1, 2)) > 0
    order = np.lexsort((-logits, ~strongest))
    best = np.argsort(-logits, kind="stable")[:TOP]
    return np.concatenate([best, order[~np.isin(order, best)]])


MODEL = "report/model.json"
"""Where it lies in the folder of a run."""


class EvidenceWriter:
    """Writes, beside the other results of a run, what its report is made of (an `OutputWriter`)."""

    name = "report"
    min_side = PHOTO_SIDE

    def write_model(self, folder: RunFolder, classifier: Classifier) -> None:
        """Write what the report needs to know of the model."""
        folder.write(MODEL, model_file(classifier))

    def write(self, folder: RunFolder, name: PurePath, result: ImageResult) -> str:
        """Write the evidence of one picture, and give the file's name."""
        first, file = result.explanations[0], f"report/pictures/{shortened(name)}.js"
        folder.write(file, evidence_file(result.all_classes, first.image, first.grid, first.frame))
        return file


def model_file(classifier: Classifier) -> bytes:
    """Write down what turns kept evidence into class scores, as JSON.

    Returns:
        `labels`, `bias` (C,), `logistic` (whether one logit decides between two classes), and where features are kept
        `weight`, base64 of (C, K) float32 with the lowest byte first, logits a feature.

    Example:
        >>> import cam
        >>> len(json.loads(model_file(cam.load_classifier("digits")))["bias"])
        10
    """
    weight, bias = classifier.head.weight.cpu(), classifier.head.bias.cpu()
    if classifier.binary:
        weight, bias = torch.cat((-weight, weight)), torch.cat((-bias, bias))
    model = {
        "labels": classifier.labels,
        "bias": bias.tolist(),
        "logistic": classifier.binary,
        "weight": b64encode(weight.numpy().astype("<f4").tobytes()).decode() if few_channels(weight) else None,
    }
    return json.dumps(model).encode()
